package presence_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"example.com/presence/pkg/presence"
)

// h2c makes the server accept HTTP/2 without TLS.
func h2c(s *httptest.Server) {
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
}

// oneConnection is an HTTP/2 client that fails the test if it opens a second connection. Each
// stream has a flow-control window of 64 KiB.
type oneConnection struct {
	*http.Transport

	mu   sync.Mutex // guards conn
	conn net.Conn
}

// newHTTP2 starts a hardened server with HTTP/2 over TLS or without, and returns a client for it.
func newHTTP2(t *testing.T, c presence.Config, secure bool) (h *testServer, connect func() *oneConnection) {
	t.Helper()
	h, addr := hardenedBy(t, c, true, secure, func(s *httptest.Server) {
		if !secure {
			h2c(s)
		}
	})
	h.URL = map[bool]string{false: "http://", true: "https://"}[secure] + addr + "/presence"
	return h, func() *oneConnection {
		client := &oneConnection{}
		client.Transport = &http.Transport{
			DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				conn, err := new(net.Dialer).DialContext(ctx, network, addr)
				client.mu.Lock()
				defer client.mu.Unlock()
				if client.conn != nil {
					t.Error("the client opened a second connection")
				}
				client.conn = conn
				return conn, err
			},
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
			HTTP2:           &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10, MaxReceiveBufferPerConnection: 4 << 20},
			Protocols:       new(http.Protocols),
		}
		client.Protocols.SetHTTP2(secure)
		client.Protocols.SetUnencryptedHTTP2(!secure)
		t.Cleanup(client.CloseIdleConnections)
		return client
	}
}

func (c *oneConnection) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn.Close()
}

// eachHTTP2 runs a test over TLS and without.
func eachHTTP2(t *testing.T, c presence.Config, test func(t *testing.T, h *testServer, connect func() *oneConnection)) {
	t.Parallel()
	for name, secure := range map[string]bool{"TLS": true, "h2c": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, connect := newHTTP2(t, c, secure)
			test(t, h, connect)
		})
	}
}

// Promises 1 and 3: a hundred streams share an HTTP/2 connection. Each counts and receives every
// message. All leave when the connection breaks, and no message is lost when they resume.
func TestPromise1And3StreamsOfAnHTTP2Connection(t *testing.T) {
	eachHTTP2(t, presence.Config{Linger: -1}, func(t *testing.T, h *testServer, connect func() *oneConnection) {
		const streams, messages = 100, 20
		watch := h.streamBy(connect(), "/events", bearer(t, "watch"))
		client := connect()
		var all [streams]*tab
		for i := range all {
			all[i] = h.streamBy(client, "/events", bearer(t, fmt.Sprint("user-", i)))
		}
		watch.until("user count", fmt.Sprint(streams+1))
		publish := func(from int) {
			for i := range messages {
				if _, err := h.Publish(t.Context(), "lobby", "m", from+i); err != nil {
					t.Fatal(err)
				}
			}
		}
		var last [streams]string
		receive := func(from int) {
			t.Helper()
			for i, c := range all {
				for n := range messages {
					e := c.next("m")
					if !strings.Contains(e.data, fmt.Sprintf(`"data":%d,`, from+n)) {
						t.Fatalf("stream %d: got %s, want message %d", i, e.data, from+n)
					}
					last[i] = e.id
				}
			}
		}
		publish(0)
		receive(0)
		client.cut()
		watch.until("user count", "1")
		publish(messages)
		client = connect()
		for i := range all {
			all[i] = h.streamBy(client, "/events", bearer(t, fmt.Sprint("user-", i)), "Last-Event-ID", last[i])
		}
		publish(2 * messages)
		receive(messages)
		receive(2 * messages)
		watch.until("user count", fmt.Sprint(streams+1))
		client.cut()
		watch.until("user count", "1")
	})
}

// Promise 4: a stream whose window is full delays no other stream of its connection. It is
// disconnected as slow, and the connection stays open.
func TestPromise4SlowStreamOfAnHTTP2Connection(t *testing.T) {
	eachHTTP2(t, presence.Config{Linger: -1, MaxMessage: 16 << 10, MaxUnsent: 64 << 10}, func(t *testing.T, h *testServer, connect func() *oneConnection) {
		const streams, messages = 20, 120
		client := connect()
		h.askBy(client, "GET", "/events", bearer(t, "slow"), "") // its body is never read
		var all [streams]*tab
		for i := range all {
			all[i] = h.streamBy(client, "/events", bearer(t, fmt.Sprint("user-", i)))
		}
		watch := h.streamBy(client, "/events", bearer(t, "watch"))
		watch.until("user count", fmt.Sprint(streams+2))
		text := strings.Repeat("x", 12<<10) // 1.4 MB in all; the hard limit of a backlog is 1 MiB
		for n := range messages {
			if _, err := h.Publish(t.Context(), "lobby", "m", fmt.Sprint(n, text)); err != nil {
				t.Fatal(err)
			}
			for i, c := range all {
				if e := c.next("m"); !strings.Contains(e.data, fmt.Sprintf(`"data":"%dx`, n)) {
					t.Fatalf("stream %d: got %.80s, want message %d", i, e.data, n)
				}
			}
		}
		if e := watch.next("leave"); !strings.Contains(e.data, `"id":"slow"`) || !strings.Contains(e.data, `"reason":"slow"`) {
			t.Errorf("got leave %s, want user slow with reason slow", e.data)
		}
	})
}

// An HTTP/2 connection on which no request arrives is closed at the deadline of the first request,
// with and without TLS.
func TestAbuseSilentHTTP2(t *testing.T) {
	t.Parallel()
	for name, secure := range map[string]bool{"TLS": true, "h2c": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, addr := hardenedBy(t, presence.Config{}, true, secure, func(s *httptest.Server) {
				if !secure {
					h2c(s)
				}
			})
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(patience))
			if secure {
				conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
			}
			io.WriteString(conn, http2.ClientPreface)
			http2.NewFramer(conn, nil).WriteSettings()
			if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("got an open connection after %v, want it closed after 10 s", patience)
			}
		})
	}
}
