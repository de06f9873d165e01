package presence_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"example.com/presence/pkg/presence"
)

// vanish drops every packet that the connection receives. To the server, this looks like a power
// failure of the peer.
func vanish(t *testing.T, c net.Conn) {
	t.Helper()
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		drop := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K}
		err = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &drop})
	})
	if err != nil {
		t.Fatal(err)
	}
}

// rawStream opens a stream behind a PROXY header, in one write with bytes that follow the request.
// It returns after the first user count.
func rawStream(t *testing.T, network, addr, user, trailing string) net.Conn {
	t.Helper()
	conn, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "%sGET /presence/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n%s",
		header(t, 2, "203.0.113.7:1"), bearer(t, user), trailing)
	conn.SetReadDeadline(time.Now().Add(patience))
	for r, line := bufio.NewReaderSize(conn, 16), ""; !strings.HasPrefix(line, "event: user count"); {
		if line, err = r.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	return conn
}

// A stream behind a PROXY header is direct, like any stream over plain HTTP/1: it has no goroutine.
// Bytes after the request do not hide the end of the connection.
func TestProxyHeaderStreamsHaveNoGoroutine(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		change := func(*httptest.Server) {}
		if network == "unix" {
			change = onUnix(t)
		}
		h, addr := hardenedBy(t, loopback(), true, false, change)
		watch := h.stream("/events", bearer(t, "watch")) // over the listener without a PROXY header
		rawStream(t, network, addr, "first", "").Close()
		watch.until("user count", "1")
		const streams = 40
		before := runtime.NumGoroutine()
		var conns [streams]net.Conn
		for i := range conns {
			conns[i] = rawStream(t, network, addr, "alice", strings.Repeat("x", 100*(i%4)))
		}
		most := before + streams/2
		for end := time.Now().Add(patience); runtime.NumGoroutine() > most; runtime.Gosched() {
			if time.Now().After(end) {
				t.Fatalf("%s: got %d goroutines for %d streams, want less than %d", network, runtime.NumGoroutine()-before, streams, streams/2)
			}
		}
		for i, c := range conns {
			if i%2 == 0 {
				c.(interface{ CloseWrite() error }).CloseWrite()
			} else {
				c.Close()
			}
		}
		watch.until("user count", "1")
	}
}

// Promise 5: a proxy that sends PROXY headers, or uses HTTP/2 without TLS, and vanishes is out
// within two heartbeats.
func TestPromise5VanishedProxy(t *testing.T) {
	t.Parallel()
	const heartbeat = time.Second
	gone := func(t *testing.T, watch *tab, conn net.Conn) {
		t.Helper()
		vanish(t, conn)
		began, pings := time.Now(), 0
		for {
			e, err := watch.any(patience)
			if err != nil {
				t.Fatal(err)
			}
			if e.name == "ping" {
				pings++
			}
			if e.name == "user count" && e.data == "1" {
				break
			}
		}
		// On a busy machine, the pings of the other stream are late, too. The sweep of HTTP/2
		// connections runs once per second.
		if took := time.Since(began); took > 2*heartbeat+2*time.Second && pings > 4 {
			t.Errorf("gone after %v and %d pings, want two heartbeats of %v", took, pings, heartbeat)
		}
	}
	t.Run("PROXY", func(t *testing.T) {
		t.Parallel()
		c := loopback()
		c.Heartbeat = heartbeat
		h, addr := hardened(t, c, true, false)
		watch := h.stream("/events", bearer(t, "watch"))
		conn := rawStream(t, "tcp", addr, "alice", "")
		watch.until("user count", "2")
		gone(t, watch, conn)
	})
	for name, secure := range map[string]bool{"TLS": true, "h2c": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, connect := newHTTP2(t, presence.Config{Heartbeat: heartbeat, Linger: -1}, secure)
			watch := h.streamBy(connect(), "/events", bearer(t, "watch"))
			client := connect()
			h.streamBy(client, "/events", bearer(t, "alice")).next("sync")
			watch.until("user count", "2")
			client.mu.Lock()
			conn := client.conn
			client.mu.Unlock()
			gone(t, watch, conn)
		})
	}
}

// Promise 4 behind a PROXY header: a stopped proxy connection is disconnected as slow, and another
// stream receives every message.
func TestPromise4StoppedProxy(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"tcp", "unix"} {
		change := func(*httptest.Server) {}
		if network == "unix" {
			change = onUnix(t)
		}
		c := loopback()
		c.MaxMessage, c.MaxUnsent = 16<<10, 64<<10
		h, addr := hardenedBy(t, c, true, false, change)
		healthy, watch := h.stream("/events", bearer(t, "healthy")), h.stream("/events", bearer(t, "watch"))
		stopped := rawStream(t, network, addr, "stopped", "")
		watch.until("user count", "3")
		if tcp, ok := stopped.(*net.TCPConn); ok {
			tcp.SetReadBuffer(4 << 10)
		}
		text := strings.Repeat("x", 12<<10)
		for n := range 200 { // 2.4 MB; the hard limit of a backlog is 1 MiB
			if _, err := h.Publish(t.Context(), "lobby", "m", fmt.Sprint(n, text)); err != nil {
				t.Fatal(err)
			}
			if e := healthy.next("m"); !strings.Contains(e.data, fmt.Sprintf(`"data":"%dx`, n)) {
				t.Fatalf("got %.80s, want message %d", e.data, n)
			}
		}
		if e := watch.next("leave"); !strings.Contains(e.data, `"reason":"slow"`) {
			t.Errorf("%s: got leave %s, want reason slow", network, e.data)
		}
		stopped.SetReadDeadline(time.Now().Add(10 * time.Second)) // the socket is free by then
		if _, err := io.Copy(io.Discard, stopped); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Errorf("%s: got %v, want the end of the connection", network, err)
		}
	}
}
