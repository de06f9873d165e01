package load

import (
	"fmt"
	"strings"
	"testing"
)

// lines is a sink that writes down the calls.
type lines struct{ strings.Builder }

func (l *lines) head()                    { l.WriteString("head\n") }
func (l *lines) field(name, value []byte) { fmt.Fprintf(l, "%s=%s\n", name, value) }
func (l *lines) dispatch()                { l.WriteString("dispatch\n") }

// decode returns the calls for a response that arrives in parts of a size, and its error.
func decode(response string, size int) string {
	out := new(lines)
	d := decoder{sink: out}
	for rest := []byte(response); len(rest) > 0; {
		n := min(size, len(rest))
		if err := d.feed(append([]byte(nil), rest[:n]...)); err != nil {
			fmt.Fprintf(out, "error: %v", err)
			return out.String()
		}
		rest = rest[n:]
	}
	return out.String()
}

const ok = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"

func TestDecoder(t *testing.T) {
	tests := []struct{ name, response, want string }{
		{"body without chunks", ok + "\r\nid: 7\ndata: 3\nevent: user count\n\n", "head\nid=7\ndata=3\nevent=user count\ndispatch\n"},
		{"chunks", ok + "Transfer-Encoding: chunked\r\n\r\n5\r\ndata:\r\n4;x=y\r\n 1\n\n\r\n0\r\n\r\n", "head\ndata=1\ndispatch\nerror: closed by the server"},
		{"line ends", ok + "\r\ndata:1\r\ndata\r\n\r\n: comment\n\n", "head\ndata=1\ndata=\ndispatch\ndispatch\n"},
		{"interim response", "HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n" + ok + "\r\ndata: 1\n", "head\ndata=1\n"},
		{"status", "HTTP/1.1 401 Unauthorized\r\nContent-Type: application/problem+json\r\n\r\n{}", "error: status 401"},
		{"redirect", "HTTP/1.1 301 Moved\r\nLocation: /\r\n\r\n", "error: status 301"},
		{"page", "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>", `error: content type "text/html"`},
		{"compressed", ok + "Content-Encoding: gzip\r\n\r\n...", `error: content encoding "gzip"`},
		{"HTTP/2", "\x00\x00\x12\x04\x00\x00\n", "error: no HTTP/1.1 response"},
		{"endless header", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", maxHeader), "error: response header too long"},
		{"endless headers", "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", maxHeader), "error: response header too long"},
		{"malformed chunk", ok + "Transfer-Encoding: chunked\r\n\r\nxyz\r\n", "head\nerror: malformed chunk"},
		{"negative chunk", ok + "Transfer-Encoding: chunked\r\n\r\n-5\r\n", "head\nerror: malformed chunk"},
		{"chunk without its end", ok + "Transfer-Encoding: chunked\r\n\r\n1\r\n\nxx\r\n", "head\ndispatch\nerror: malformed chunk"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for _, size := range []int{1, 2, 3, 4, 5, 7, 11, 16, 37, len(test.response)} {
				if got := decode(test.response, size); got != test.want {
					t.Fatalf("in parts of %d bytes: got %q, want %q", size, got, test.want)
				}
			}
		})
	}
}

// TestDecoderLongLine checks that a long line is cut off if it does not arrive at once, so that its
// memory is bounded.
func TestDecoderLongLine(t *testing.T) {
	out := new(lines)
	d := decoder{sink: out}
	for _, part := range []string{ok + "\r\ndata: ", strings.Repeat("x", 100*maxLine), "y\ndata: z\n"} {
		if err := d.feed([]byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	if want := "head\ndata=" + strings.Repeat("x", maxLine-len("data: ")) + "\ndata=z\n"; out.String() != want {
		t.Errorf("got %d bytes, want %d", out.Len(), len(want))
	}
	if cap(d.line) > maxLine {
		t.Errorf("kept %d bytes, want at most %d", cap(d.line), maxLine)
	}
}

// FuzzDecoder checks that the result does not depend on the parts in which a response arrives.
func FuzzDecoder(f *testing.F) {
	f.Add(ok+"Transfer-Encoding: chunked\r\n\r\n5\r\ndata:\r\n4;x=y\r\n 1\n\n\r\n0\r\n\r\n", 3)
	f.Add("HTTP/1.1 503 Unavailable\r\nRetry-After: 3\r\n\r\n", 1)
	f.Fuzz(func(t *testing.T, response string, size int) {
		if len(response) > maxLine { // longer lines are cut off, depending on the parts
			return
		}
		if whole, parts := decode(response, len(response)+1), decode(response, max(1, size)); whole != parts {
			t.Errorf("got %q at once, and %q in parts of %d bytes", whole, parts, size)
		}
	})
}
