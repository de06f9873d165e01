package client_test

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"example.com/presence/pkg/presence/client"
)

// say prints what came of a stream: "name#id=data" an event, and in the end the
// id and the retry that hold.
func say(events []client.Event, lastID string, retry time.Duration) string {
	var b strings.Builder
	for _, e := range events {
		fmt.Fprintf(&b, "%s#%s=%s\n", e.Name, e.ID, e.Data)
	}
	fmt.Fprintf(&b, "id %q retry %v", lastID, retry)
	return b.String()
}

func TestDecode(t *testing.T) {
	for _, tt := range []struct{ name, stream, want string }{
		{"nothing", "", `id "" retry 0s`},
		{"a joiner's first events",
			"retry: 1500\n\nid: e-7\nevent: sync\ndata: {\"users\":1}\n\nid: e-7\nevent: user count\ndata: 1\n\n",
			"sync#e-7={\"users\":1}\nuser count#e-7=1\n" + `id "e-7" retry 1.5s`},
		{"data in lines", "data: a\ndata:b\ndata\ndata:  c\n\n", "message#=a\nb\n\n c\n" + `id "" retry 0s`},
		{"an empty line of data", "data:\n\n", "message#=\n" + `id "" retry 0s`},
		{"no data: no event, but id and retry count", "event: x\nid: 1\nretry: 20\n\ndata: y\n\n", "message#1=y\n" + `id "1" retry 20ms`},
		{"an id alone", "id: 1\n\nid: 2\n", `id "1" retry 0s`},
		{"an id stays", "id: 1\ndata: a\n\ndata: b\n\nid\ndata: c\n\n", "message#1=a\nmessage#1=b\nmessage#=c\n" + `id "" retry 0s`},
		{"an id with NUL is none", "id: 1\ndata: a\n\nid: 2\x00\ndata: b\n\n", "message#1=a\nmessage#1=b\n" + `id "1" retry 0s`},
		{"a retry is digits", "retry: 1s\nretry: -1\nretry: +1\nretry:\nretry: 99999999999999\n\nretry: 7\n", `id "" retry 7ms`},
		{"comments and the unknown", ": hello\n:\nx: y\nevent : z\ndata: a\n:data: b\n\n", "message#=a\n" + `id "" retry 0s`},
		{"one blank after the colon", "event:  x\ndata: a\n\n", " x#=a\n" + `id "" retry 0s`},
		{"byte order mark, once", "\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\n", "message#=a\n" + `id "" retry 0s`},
		{"unfinished: no blank line", "data: a\n\nid: 2\ndata: b\n", "message#=a\n" + `id "" retry 0s`},
		{"unfinished: half a line", "data: a\n\ndata: b", "message#=a\n" + `id "" retry 0s`},
		{"unfinished: half a retry", "data: a\n\nretry: 20", "message#=a\n" + `id "" retry 0s`},
		{"blank lines", "\n\n\ndata: a\n\n\n\n\ndata: b\n\n", "message#=a\nmessage#=b\n" + `id "" retry 0s`},
		{"line ends", "data: a\r\rdata: b\r\n\r\ndata: c\n\r\ndata: d\r\n\ndata: e\n\rdata: f\r\r\ndata: g\r\n\r", "message#=a\nmessage#=b\nmessage#=c\nmessage#=d\nmessage#=e\nmessage#=f\nmessage#=g\n" + `id "" retry 0s`},
		{"70 KB", "data: " + strings.Repeat("x", 70_000) + "\n\n", "message#=" + strings.Repeat("x", 70_000) + "\n" + `id "" retry 0s`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for how, r := range map[string]io.Reader{
				"at once":             strings.NewReader(tt.stream),
				"byte by byte":        iotest.OneByteReader(strings.NewReader(tt.stream)),
				"end with last bytes": iotest.DataErrReader(strings.NewReader(tt.stream)),
			} {
				events, id, retry, err := client.Decode(r)
				if got := say(events, id, retry); got != tt.want || err != io.EOF {
					t.Errorf("%s: got\n%.400s\n%v, want\n%.400s\nEOF", how, got, err, tt.want)
				}
			}
		})
	}
}

func TestDecodeBrokenStream(t *testing.T) {
	broken := errors.New("connection reset")
	events, _, _, err := client.Decode(io.MultiReader(strings.NewReader("data: a\n\ndata: b\n"), iotest.ErrReader(broken)))
	if len(events) != 1 || err != broken {
		t.Errorf("got %d events and %v, want the finished one and %v", len(events), err, broken)
	}
}

func TestDecodeTooLarge(t *testing.T) {
	_, _, _, err := client.Decode(strings.NewReader("data: " + strings.Repeat("x", 17<<20)))
	if err != client.ErrTooLarge {
		t.Errorf("got %v, want %v", err, client.ErrTooLarge)
	}
}

// FuzzDecode compares the decoder, fed in pieces, with the standard's words
// taken line by line over the whole text.
func FuzzDecode(f *testing.F) {
	f.Add("id: 1\nevent: x\ndata: a\ndata: b\n\nretry: 5\n\n")
	f.Add("data: a\r\rdata: b\r\n\r\n:c\n\rdata\n\n")
	f.Add("\xef\xbb\xbfdata: a\n\ndata: b")
	f.Fuzz(func(t *testing.T, stream string) {
		want := say(plainly(stream))
		for how, r := range map[string]io.Reader{
			"at once":      strings.NewReader(stream),
			"byte by byte": iotest.OneByteReader(strings.NewReader(stream)),
			"half by half": iotest.HalfReader(iotest.DataErrReader(strings.NewReader(stream))),
		} {
			events, id, retry, err := client.Decode(r)
			if got := say(events, id, retry); got != want || err != io.EOF {
				t.Errorf("%s: got\n%s\n%v, want\n%s", how, got, err, want)
			}
		}
	})
}

// plainly reads a stream by the standard's words and with no thought of speed.
func plainly(stream string) (events []client.Event, lastID string, retry time.Duration) {
	stream = strings.TrimPrefix(stream, "\xef\xbb\xbf")
	lines := strings.Split(strings.ReplaceAll(strings.ReplaceAll(stream, "\r\n", "\n"), "\r", "\n"), "\n")
	var id, name, data string
	for _, line := range lines[:len(lines)-1] {
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "":
			lastID = id
			if data != "" {
				if name == "" {
					name = "message"
				}
				events = append(events, client.Event{ID: id, Name: name, Data: []byte(data[:len(data)-1])})
			}
			name, data = "", ""
		case field == "data":
			data += value + "\n"
		case field == "event":
			name = value
		case field == "id" && !strings.Contains(value, "\x00"):
			id = value
		case field == "retry":
			if ms, err := strconv.ParseUint(value, 10, 32); err == nil {
				retry = time.Duration(ms) * time.Millisecond
			}
		}
	}
	return events, lastID, retry
}
