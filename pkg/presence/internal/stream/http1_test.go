package stream_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"example.com/presence/pkg/presence/internal/stream"
)

// raw opens a stream with exactly the given request. It returns the TCP connection, from which the
// raw response can be read.
func (g *rig) raw(request string) (*net.TCPConn, *stream.Conn) {
	g.t.Helper()
	return g.rawBy(net.Dialer{}, request)
}

func (g *rig) rawBy(d net.Dialer, request string) (*net.TCPConn, *stream.Conn) {
	g.t.Helper()
	c, err := d.Dial("tcp", g.server.Listener.Addr().String())
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { c.Close() })
	io.WriteString(c, request)
	return c.(*net.TCPConn), <-g.conns
}

const get = "GET / HTTP/1.1\r\nHost: presence.example\r\n\r\n"

func TestAnswer(t *testing.T) {
	const head = "%s 200 OK\r\n" +
		"Content-Type: text/event-stream\r\n" +
		"Cache-Control: no-store, no-transform\r\n" +
		"Content-Encoding: identity\r\n" +
		"X-Accel-Buffering: no\r\n" +
		"%s" +
		"Date: -\r\n" +
		"Access-Control-Allow-Origin: https://example.com\r\n" +
		"Vary: Origin\r\nVary: Accept\r\n" +
		"X-Forged: a b\r\n\r\n"
	events := []string{
		"retry: 1000\n\n",
		"id: e-1\ndata: 3\nevent: user count\n\n",
		"data: {\"reason\":\"draining\"}\nevent: goodbye\n\n",
	}
	chunked := ""
	for _, e := range events {
		chunked += fmt.Sprintf("%x\r\n%s\r\n", len(e), e)
	}
	chunked += "0\r\n\r\n"
	date := regexp.MustCompile("(?m)^Date: [A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9:]{8} GMT\r$")
	const ends, delimited = "Connection: close\r\n", "Transfer-Encoding: chunked\r\n"
	with := func(header string) string { return strings.TrimSuffix(get, "\r\n") + header + "\r\n\r\n" }
	for name, c := range map[string]struct{ request, want string }{
		"HTTP/1.1":           {get, fmt.Sprintf(head, "HTTP/1.1", delimited+ends) + chunked},
		"HTTP/1.0":           {"GET / HTTP/1.0\r\n\r\n", fmt.Sprintf(head, "HTTP/1.0", ends) + strings.Join(events, "")},
		"close":              {with("Connection: close"), fmt.Sprintf(head, "HTTP/1.1", delimited) + chunked},
		"keep-alive":         {with("Connection: keep-alive"), fmt.Sprintf(head, "HTTP/1.1", delimited) + chunked},
		"Squid's pool":       {with("Connection: keep-alive\r\nVia: 1.1 x (squid)"), fmt.Sprintf(head, "HTTP/1.1", delimited+ends) + chunked},
		"Apache's pool":      {with("Connection: Keep-Alive\r\nX-Forwarded-For: ::1"), fmt.Sprintf(head, "HTTP/1.1", delimited+ends) + chunked},
		"Forwarded header":   {with("Connection: keep-alive\r\nForwarded: for=x"), fmt.Sprintf(head, "HTTP/1.1", delimited+ends) + chunked},
		"1.0 and keep-alive": {"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", fmt.Sprintf(head, "HTTP/1.0", ends) + strings.Join(events, "")},
	} {
		eachHTTP1(t, stream.Config{}, func(t *testing.T, g *rig) {
			g.header = http.Header{
				"Access-Control-Allow-Origin": {"https://example.com"}, "Vary": {"Origin", "Accept"},
				"X-Forged": {"a\nb"}, "Bad Name": {"x"}, "Content-Length": {"7"}, "Transfer-Encoding": {"gzip"}, "Content-Type": {"text/plain"},
			}
			client, conn := g.raw(c.request)
			r := bufio.NewReader(client)
			first, err := r.ReadString(':') // read first, so that the event is written after the head
			if err != nil {
				t.Fatal(err)
			}
			g.publish(stream.Every, "e-1", "user count", "3")
			g.streams.Drain()
			conn.End("draining")
			rest, err := io.ReadAll(r)
			got := date.ReplaceAllString(first+string(rest), "Date: -\r")
			if got != c.want || err != nil {
				t.Errorf("%s: got %q, %v\nwant %q", name, got, err, c.want)
			}
		})
	}
}

// HTTP/1.0 and HTTP/1.1 clients in one room receive the same events, even if many are published
// together.
func TestMixedHTTPVersions(t *testing.T) {
	eachHTTP1(t, stream.Config{}, func(t *testing.T, g *rig) {
		const events = 2000
		var readers []*bufio.Reader
		for _, request := range []string{get, "GET / HTTP/1.0\r\n\r\n", get, "GET / HTTP/1.0\r\n\r\n"} {
			c, _ := g.raw(request)
			response, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			readers = append(readers, bufio.NewReader(response.Body))
		}
		for i := range events {
			g.publish(stream.Reserved, fmt.Sprint(i), "n", "0")
		}
		for _, r := range readers {
			block(t, r)
			for i := range events {
				if got, want := block(t, r), fmt.Sprintf("id: %d\ndata: 0\nevent: n\n\n", i); got != want {
					t.Fatalf("got %q, want %q", got, want)
				}
			}
		}
	})
}

// The server discards up to 16 KiB that a client sends after its request. It disconnects a client
// that sends more.
func TestTrailingBytes(t *testing.T) {
	eachHTTP1(t, stream.Config{}, func(t *testing.T, g *rig) {
		const limit = 16 << 10
		c, _ := g.raw(get + strings.Repeat("x", 100))
		io.WriteString(c, strings.Repeat("x", limit-100))
		g.publish(stream.Every, "e-1", "n", "1")
		response, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		r := bufio.NewReader(response.Body)
		block(t, r)
		block(t, r)
		if len(g.ends) != 0 {
			t.Fatalf("ended %q at the limit, want no end", <-g.ends)
		}
		io.WriteString(c, "x")
		if end := <-g.ends; end != stream.Closed {
			t.Errorf("ended %q, want closed", end)
		}
	})
}

// The server detects that a connection is half-closed, closed or reset, even if the client sent
// bytes after its request.
func TestPromise5HalfClosed(t *testing.T) {
	for _, trailing := range []string{"", "x", "GET / HTTP/1.1\r\nHost: presence.example\r\n\r\n"} {
		for _, closed := range []func(*net.TCPConn) error{
			(*net.TCPConn).CloseWrite,
			(*net.TCPConn).Close,
			func(c *net.TCPConn) error { c.SetLinger(0); return c.Close() },
		} {
			eachHTTP1(t, stream.Config{}, func(t *testing.T, g *rig) {
				c, _ := g.raw(get)
				io.WriteString(c, trailing)
				if err := closed(c); err != nil {
					t.Fatal(err)
				}
				if end := <-g.ends; end != stream.Closed {
					t.Errorf("ended %q, want closed", end)
				}
			})
		}
	}
}
