package client_test

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"example.com/presence/pkg/presence/client"
)

// format returns the result of decoding a stream as text: one line "name#id=data" per event, then
// the last id and the retry time.
func format(events []client.Event, lastID string, retry time.Duration) string {
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
		{"data in several lines", "data: a\ndata:b\ndata\ndata:  c\n\n", "message#=a\nb\n\n c\n" + `id "" retry 0s`},
		{"an empty line of data", "data:\n\n", "message#=\n" + `id "" retry 0s`},
		{"no data: no event, but id and retry count", "event: x\nid: 1\nretry: 20\n\ndata: y\n\n", "message#1=y\n" + `id "1" retry 20ms`},
		{"an id without data", "id: 1\n\nid: 2\n", `id "1" retry 0s`},
		{"an id persists", "id: 1\ndata: a\n\ndata: b\n\nid\ndata: c\n\n", "message#1=a\nmessage#1=b\nmessage#=c\n" + `id "" retry 0s`},
		{"an id with NUL is ignored", "id: 1\ndata: a\n\nid: 2\x00\ndata: b\n\n", "message#1=a\nmessage#1=b\n" + `id "1" retry 0s`},
		{"a retry contains only digits", "retry: 5\nretry: 1s\nretry: -1\nretry: +1\nretry:\nretry: 1 \nretry: 0x1\nretry: 1_0\nretry: ٣\n", `id "" retry 5ms`},
		{"a retry is limited to 32 bits", "retry: 99999999999999999999\n", `id "" retry 1193h2m47.295s`},
		{"a retry takes effect immediately", "retry: 5\n\nretry: 7\n", `id "" retry 7ms`},
		{"comments and unknown fields", ": hello\n:\nx: y\nevent : z\ndata: a\n:data: b\n\n", "message#=a\n" + `id "" retry 0s`},
		{"one blank after the colon", "event:  x\ndata: a\n\n", " x#=a\n" + `id "" retry 0s`},
		{"byte order mark, once", "\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\n", "message#=a\n" + `id "" retry 0s`},
		{"unfinished: no blank line", "data: a\n\nid: 2\ndata: b\n", "message#=a\n" + `id "" retry 0s`},
		{"unfinished: half a line", "data: a\n\ndata: b", "message#=a\n" + `id "" retry 0s`},
		{"unfinished: half a retry", "data: a\n\nretry: 20", "message#=a\n" + `id "" retry 0s`},
		{"blank lines", "\n\n\ndata: a\n\n\n\n\ndata: b\n\n", "message#=a\nmessage#=b\n" + `id "" retry 0s`},
		{"line ends", "data: a\r\rdata: b\r\n\r\ndata: c\n\r\ndata: d\r\n\ndata: e\n\rdata: f\r\r\ndata: g\r\n\r", "message#=a\nmessage#=b\nmessage#=c\nmessage#=d\nmessage#=e\nmessage#=f\nmessage#=g\n" + `id "" retry 0s`},
		{"70 KB", "data: " + strings.Repeat("x", 70_000) + "\n\n", "message#=" + strings.Repeat("x", 70_000) + "\n" + `id "" retry 0s`},
	} {
		t.Run(tt.name, func(t *testing.T) { inEveryChunking(t, tt.stream, tt.want) })
	}
}

func TestDecodeBrokenStream(t *testing.T) {
	broken := errors.New("connection reset")
	events, _, _, err := client.Decode(io.MultiReader(strings.NewReader("data: a\n\ndata: b\n"), iotest.ErrReader(broken)))
	if len(events) != 1 || err != broken {
		t.Errorf("got %d events and %v, want 1 and %v", len(events), err, broken)
	}
}

func TestDecodeTooLarge(t *testing.T) {
	const mib = 1 << 20
	for _, tt := range []struct {
		name   string
		stream io.Reader
		want   error
		events int
	}{
		{"a line of 16 MiB", strings.NewReader("data: " + strings.Repeat("x", 16*mib-6) + "\n\n"), io.EOF, 1},
		{"one byte more", strings.NewReader("data: " + strings.Repeat("x", 16*mib-5) + "\n\n"), client.ErrTooLarge, 0},
		{"a line without an end", strings.NewReader("data: " + strings.Repeat("x", 17*mib)), client.ErrTooLarge, 0},
		{"many lines", strings.NewReader(strings.Repeat("data: "+strings.Repeat("x", mib-1)+"\n", 17)), client.ErrTooLarge, 0},
		{"1 MiB that becomes 3 MiB of U+FFFD", strings.NewReader("data:" + strings.Repeat("x", 14*mib) + "\ndata:" + strings.Repeat("\xff", mib) + "\n\n"), client.ErrTooLarge, 0},
		{"comments, which are not kept", strings.NewReader("data:\n" + strings.Repeat(":"+strings.Repeat("x", mib)+"\n", 17) + "\n"), io.EOF, 1},
	} {
		events, _, _, err := client.Decode(tt.stream)
		if len(events) != tt.events || err != tt.want {
			t.Errorf("%s: got %d events and %v, want %d and %v", tt.name, len(events), err, tt.events, tt.want)
		}
	}
}

// The client releases the memory of an event before it waits for the next one.
func TestDecodeReleasesALargeEvent(t *testing.T) {
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	var before, after uint64
	client.DecodeEach(io.MultiReader(
		readFunc(func([]byte) (int, error) { before = heap(); return 0, io.EOF }),
		strings.NewReader("data: "), io.LimitReader(readFunc(func(p []byte) (int, error) {
			for i := range p {
				p[i] = 'x'
			}
			return len(p), nil
		}), 8<<20), strings.NewReader("\n\n"),
		readFunc(func([]byte) (int, error) { after = heap(); return 0, io.EOF }),
	), func(e client.Event) {
		if len(e.Data) != 8<<20 {
			t.Errorf("got %d bytes, want 8 MiB", len(e.Data))
		}
	})
	if after > before+1<<20 {
		t.Errorf("heap grew from %d to %d bytes, want at most 1 MiB more", before, after)
	}
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

// The decoder replaces invalid sequences in data, name and id like the standard's decoder (WHATWG
// Encoding, section 8.1.1).
func TestDecodeUTF8(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"\xe2\x82\xac", "€"},
		{"\xf0\x9f\x98\x80", "😀"},
		{"\xef\xbf\xbd", "\ufffd"},
		{"\xef\xbb\xbf", "\ufeff"}, // not at the start of the stream
		{"\xef\xbf\xbe", "\ufffe"},
		{"\xf4\x8f\xbf\xbf", "\U0010ffff"},
		{"\x80", "\ufffd"},
		{"\xc0\xaf", "\ufffd\ufffd"},
		{"\xc1\xbf", "\ufffd\ufffd"},
		{"\xc3", "\ufffd"},
		{"\xc3x", "\ufffdx"},
		{"\xc3\xc3\xa4", "\ufffdä"},
		{"\xe2\x82", "\ufffd"},
		{"\xe2\x82x", "\ufffdx"},
		{"\xe2\xe2\x82\xac", "\ufffd€"},
		{"\xe0\x80\x80", "\ufffd\ufffd\ufffd"}, // overlong
		{"\xe0\xa0", "\ufffd"},
		{"\xed\x9f\xbf", "\ud7ff"},
		{"\xed\xa0\x80", "\ufffd\ufffd\ufffd"}, // a surrogate
		{"\xee\x80\x80", "\ue000"},
		{"\xf0\x80\x80\x80", "\ufffd\ufffd\ufffd\ufffd"},
		{"\xf0\x90\x80", "\ufffd"},
		{"\xf0\x9f\x98", "\ufffd"},
		{"\xf0\x9f", "\ufffd"},
		{"\xf0\x9f\x98x", "\ufffdx"},
		{"\xf0\x9f\xf0\x9f\x98", "\ufffd\ufffd"},
		{"\xf1\x80\x80\xe2\x82", "\ufffd\ufffd"},
		{"\xf4\x90\x80\x80", "\ufffd\ufffd\ufffd\ufffd"}, // above U+10FFFF
		{"\xf5\x80\x80\x80", "\ufffd\ufffd\ufffd\ufffd"},
		{"\xff\xfe", "\ufffd\ufffd"},
		{"a\xffb\xffc", "a\ufffdb\ufffdc"},
	} {
		t.Run(fmt.Sprintf("%x", tt.in), func(t *testing.T) {
			inEveryChunking(t, "data:"+tt.in+"\n\n", "message#="+tt.want+"\n"+`id "" retry 0s`)
			for _, end := range []string{"\n", "\r", "\r\n"} {
				stream := "id: " + tt.in + end + "event:" + tt.in + end + "data:" + tt.in + end + "data:" + tt.in + end + end
				inEveryChunking(t, stream, fmt.Sprintf("%[1]s#%[1]s=%[1]s\n%[1]s\nid %[1]q retry 0s", tt.want))
			}
		})
	}
}

// FuzzDecode compares the decoder with the standard's algorithm. The decoder receives the stream in
// pieces of n bytes.
func FuzzDecode(f *testing.F) {
	f.Add("id: 1\nevent: x\ndata: a\ndata: b\n\nretry: 5\n\n", 3)
	f.Add("data: a\r\rdata: b\r\n\r\n:c\n\rdata\n\n", 2)
	f.Add("\xef\xbb\xbfdata: a\n\ndata: b", 1)
	f.Add("id:\xf0\x9f\x98\revent:\xc0\xaf\r\ndata:\xed\xa0\x80\n\r", 1)
	f.Fuzz(func(t *testing.T, stream string, n int) {
		var cuts []int
		for at := n; n > 0 && at < len(stream); at += n {
			cuts = append(cuts, at)
		}
		inChunks(t, stream, cuts, format(standard(stream)), nil)
	})
}

// BenchmarkDecode decodes one event that arrives in reads of 4 KiB. The speed does not depend on
// the length of the event.
func BenchmarkDecode(b *testing.B) {
	largeEvents(b, func(r io.Reader) error {
		_, _, err := client.DecodeEach(r, func(client.Event) {})
		return err
	})
}

// largeEvents benchmarks the function read with streams that contain one large event. read must
// read its stream to the end.
func largeEvents(b *testing.B, read func(io.Reader) error) {
	for _, kib := range []int{256, 1024, 4096} {
		stream := "data: " + strings.Repeat("x", kib<<10) + "\n\n"
		var cuts []int
		for at := 4 << 10; at < len(stream); at += 4 << 10 {
			cuts = append(cuts, at)
		}
		b.Run(fmt.Sprintf("%dKiB", kib), func(b *testing.B) {
			b.SetBytes(int64(len(stream)))
			for b.Loop() {
				if err := read(&chunked{stream: stream, cuts: cuts}); err != io.EOF {
					b.Fatalf("got %v, want EOF", err)
				}
			}
		})
	}
}
