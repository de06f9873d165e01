package presence_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"example.com/presence/pkg/presence"
)

// hardened starts a program that mounts the server at /presence, with or without Harden, and with
// or without TLS and HTTP/2.
func hardened(t *testing.T, c presence.Config, harden, secure bool) (h *testServer, addr string) {
	t.Helper()
	return hardenedBy(t, c, harden, secure, func(*httptest.Server) {})
}

// hardenedBy is like hardened, but calls change for the HTTP server before it starts.
func hardenedBy(t *testing.T, c presence.Config, harden, secure bool, change func(*httptest.Server)) (h *testServer, addr string) {
	t.Helper()
	var server *presence.Server
	router := chi.NewRouter()
	h = openIn(t, c, plain, func(next http.Handler) http.Handler {
		server = next.(*presence.Server)
		return next
	})
	router.Mount("/presence", server)
	router.Get("/hijack", func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		io.WriteString(conn, "hijacked")
		t.Cleanup(func() { conn.Close() })
	})
	router.Get("/address", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.RemoteAddr) })
	router.Get("/own", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "the program's own") })
	listener := httptest.NewUnstartedServer(router)
	listener.EnableHTTP2 = secure
	change(listener)
	if harden {
		listener.Listener = server.Harden(listener.Config, listener.Listener)
	}
	if secure {
		listener.StartTLS()
	} else {
		listener.Start()
	}
	t.Cleanup(listener.Close)
	return h, listener.Listener.Addr().String()
}

// An incomplete request to a mounted server ends at its deadline, with and without Harden. With
// Harden, this includes the requests that net/http itself handles.
func TestMountedServerEndsIncompleteRequests(t *testing.T) {
	t.Parallel()
	for _, harden := range []bool{true, false} {
		t.Run(fmt.Sprintf("Harden %v", harden), func(t *testing.T) {
			t.Parallel()
			_, addr := hardened(t, presence.Config{CORSOrigins: []string{"https://x.example"}}, harden, false)
			requests := map[string]string{
				"a preflight": "OPTIONS /presence/events HTTP/1.1\r\nHost: x\r\nOrigin: https://x.example\r\nAccess-Control-Request-Method: GET\r\nContent-Length: 100\r\n\r\n",
				"a login":     "POST /presence/login HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n",
				"a stream's":  "GET /presence/events HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n",
			}
			if harden {
				requests["OPTIONS *"] = "OPTIONS * HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"
				requests["half a header"] = "GET /own HTTP/1.1\r\nHost"
			}
			conns := map[string]net.Conn{}
			for name, request := range requests {
				conn, err := net.Dial("tcp", addr)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				io.WriteString(conn, request)
				conns[name] = conn
			}
			for name, conn := range conns {
				conn.SetReadDeadline(time.Now().Add(patience))
				if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("%s: got an open connection after %v, want it closed", name, patience)
				}
			}
		})
	}
}

// The deadlines of other responses do not end a stream, on any transport, with and without Harden.
func TestMountedServerKeepsStreams(t *testing.T) {
	t.Parallel()
	idle := sized(17*time.Second, 35*time.Second, 3*time.Minute) // longer than the deadlines of 15 s and 30 s (with -short, of 15 s)
	type open struct {
		*testServer
		stream *tab
		name   string
	}
	var all []open
	for _, harden := range []bool{true, false} {
		for _, protocol := range []string{"plain", "http/1.1", "h2"} {
			secure := protocol != "plain"
			h, addr := hardened(t, presence.Config{Heartbeat: time.Minute, Linger: -1}, harden, secure)
			h.URL = "http://" + addr + "/presence"
			if secure {
				h.URL = "https://" + addr + "/presence"
			}
			client := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: protocol == "h2"}
			t.Cleanup(client.CloseIdleConnections)
			c := h.streamBy(client, "/events", bearer(t, "alice"))
			c.next("user count")
			all = append(all, open{h, c, fmt.Sprintf("Harden %v, %s", harden, protocol)})
		}
	}
	<-time.After(idle)
	for _, o := range all {
		if _, err := o.Publish(t.Context(), "lobby", "", "hello"); err != nil {
			t.Fatal(err)
		}
		for name := ""; name != "message"; {
			e, err := o.stream.read(patience)
			if err != nil {
				t.Errorf("%s: got %v, want event \"message\"", o.name, err)
				break
			}
			name = e.name
		}
		o.stream.close()
	}
}

// Over HTTP/2, a response ends if its client never opens the flow-control window, with and without
// Harden. A stream on the same connection continues.
func TestMountedServerEndsBlockedResponses(t *testing.T) {
	t.Parallel()
	for _, harden := range []bool{true, false} {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			_, addr := hardened(t, presence.Config{Heartbeat: 2 * time.Second}, harden, true)
			conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			io.WriteString(conn, http2.ClientPreface)
			framer := http2.NewFramer(conn, conn)
			framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
			ask := func(stream uint32, path string) {
				var block bytes.Buffer
				fields := hpack.NewEncoder(&block)
				for _, f := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "x"}, {":path", path}, {"authorization", "Bearer " + bearer(t, "alice")}} {
					fields.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
				}
				framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true})
			}
			ask(1, "/presence/events")
			ask(3, "/presence/presence")
			framer.WriteWindowUpdate(1, 1<<20)
			conn.SetReadDeadline(time.Now().Add(2 * patience))
			for ended, alive := false, false; !ended || !alive; {
				frame, err := framer.ReadFrame()
				if err != nil {
					t.Fatalf("Harden %v: got response ended %v, stream alive %v, %v; want both", harden, ended, alive, err)
				}
				switch f := frame.(type) {
				case *http2.RSTStreamFrame:
					if f.StreamID != 3 {
						t.Fatalf("got a reset of stream %d, want one of stream 3", f.StreamID)
					}
					ended = true
				case *http2.DataFrame: // a heartbeat ping after the end of the response
					alive = ended && bytes.Contains(f.Data(), []byte("ping"))
				}
			}
		})
	}
}

// Harden limits the idle connections, and a new connection evicts one that sent nothing. Streams
// and hijacked connections do not count.
func TestHardenBoundsConnections(t *testing.T) {
	t.Parallel()
	h, addr := hardened(t, presence.Config{MaxIdleConnections: 3, Linger: -1}, true, false)
	h.URL = "http://" + addr + "/presence"
	var streams []*tab
	for range 5 {
		streams = append(streams, h.stream("/events", bearer(t, "alice")))
	}
	streams[4].until("user count", "5")
	var silent []net.Conn
	for range 5 {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		silent = append(silent, conn)
	}
	// Hijacked connections do not count.
	for range 4 {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		io.WriteString(conn, "GET /hijack HTTP/1.1\r\nHost: x\r\n\r\n")
		if _, err := io.ReadFull(conn, make([]byte, len("hijacked"))); err != nil {
			t.Fatal(err)
		}
	}
	// At most three silent connections and all streams stay open.
	for i, conn := range silent[:2] {
		conn.SetReadDeadline(time.Now().Add(patience / 2))
		if _, err := conn.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("silent connection %d: got it open, want it evicted", i)
		}
	}
	h.post("/messages", bearer(t, "bob"), `{"data":"hello"}`)
	for _, c := range streams {
		c.next("message")
	}
}

// Harden limits the connections per client address, streams included. A connection that ends
// releases its slot.
func TestHardenBoundsAnAddress(t *testing.T) {
	t.Parallel()
	h, addr := hardened(t, presence.Config{MaxConnectionsPerAddress: 2, Linger: -1}, true, false)
	h.URL = "http://" + addr + "/presence"
	responds := func() bool {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			return false // reset before the dial returned
		}
		defer conn.Close()
		io.WriteString(conn, "GET /own HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		line, _ := bufio.NewReader(conn).ReadString('\n')
		return strings.Contains(line, "200")
	}
	first := h.stream("/events", bearer(t, "alice"))
	second := h.stream("/events", bearer(t, "alice"))
	first.next("sync")
	second.next("sync")
	if responds() {
		t.Error("third connection of an address: got a response, want none")
	}
	first.close()
	second.until("user count", "1")
	for end := time.Now().Add(patience); !responds(); {
		if time.Now().After(end) {
			t.Fatalf("new connection after the end of a stream: got no response within %v, want 200", patience)
		}
	}
}
