package stream_test

import (
	"bufio"
	"io"
	"net"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"example.com/presence/pkg/presence/internal/stream"
)

// newUnixRig returns a rig whose server listens on a Unix socket, and a function that opens a
// stream.
func newUnixRig(t *testing.T, c stream.Config) (g *rig, open func() (*net.UnixConn, *stream.Conn)) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	g = newRig(t, c, func(s *httptest.Server) {
		s.Listener.Close()
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		s.Listener = l
		s.Start()
	})
	return g, func() (*net.UnixConn, *stream.Conn) {
		t.Helper()
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		io.WriteString(conn, get)
		return conn.(*net.UnixConn), <-g.conns
	}
}

// unread returns the size of the data that the peer of a Unix socket has not read.
func unread(t *testing.T, c *net.UnixConn) (n int) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err == nil {
		raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.SIOCINQ) })
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A stream over a Unix socket has no goroutine. It ends when the client closes or half-closes it,
// even if bytes follow the request (promise 5).
func TestUnixIsDirect(t *testing.T) {
	g, open := newUnixRig(t, stream.Config{})
	goroutines := runtime.NumGoroutine()
	const clients = 50
	var conns [clients]*net.UnixConn
	for i := range conns {
		conns[i], _ = open()
	}
	if more := settle(runtime.NumGoroutine, goroutines); more > goroutines {
		t.Errorf("%d connections: got %d goroutines, want 0", clients, more-goroutines)
	}
	for i, c := range conns {
		if i%3 == 0 {
			io.WriteString(c, "trailing")
		}
		if i%2 == 0 {
			c.CloseWrite()
		} else {
			c.Close()
		}
		if end := <-g.ends; end != stream.Closed {
			t.Errorf("ended %q, want closed", end)
		}
	}
}

// Promise 4 over a Unix socket: a client that does not read is disconnected at its hard limit, the
// kernel holds little for it, and another client receives every event.
func TestUnixSlow(t *testing.T) {
	t.Parallel()
	g, open := newUnixRig(t, stream.Config{MaxUnsent: 64 << 10})
	stopped, _ := open()
	healthy, _ := open()
	text := strings.Repeat("x", 32<<10)
	const events = 100
	lines := bufio.NewReader(healthy)
	for n := range events {
		g.publish(stream.Reserved, "e-1", "n", text)
		for line, err := "", error(nil); line != "event: n\n"; {
			if line, err = lines.ReadString('\n'); err != nil {
				t.Fatalf("event %d of the other client: %v", n, err)
			}
		}
	}
	if end := <-g.ends; end != stream.Slow {
		t.Errorf("ended %q, want slow", end)
	}
	if n := unread(t, stopped); n == 0 || n > 64<<10 {
		t.Errorf("the kernel holds %d bytes for the stopped client, want 1 to %d", n, 64<<10)
	}
	if _, err := io.Copy(io.Discard, stopped); err != nil { // the socket is closed
		t.Error(err)
	}
}

// Promise 5 over a Unix socket: a client that reads none of its pings, such as a frozen proxy, is
// disconnected.
func TestUnixFrozen(t *testing.T) {
	t.Parallel()
	g, open := newUnixRig(t, stream.Config{Heartbeat: 500 * time.Millisecond}.WithProgressTime(time.Second))
	open()
	began := time.Now()
	if end := <-g.ends; end != stream.Slow {
		t.Errorf("ended %q, want slow", end)
	}
	if after := time.Since(began); after < time.Second {
		t.Errorf("disconnected after %v, want at least 1 s", after)
	}
}

// Promise 4 over a Unix socket: a client that always has unread data, but reads a part of it within
// every progress time, stays connected. Some events exceed the send buffer of the socket.
func TestUnixReadsSlowly(t *testing.T) {
	t.Parallel()
	const progress = 2 * time.Second // the default is 15 s
	g, open := newUnixRig(t, stream.Config{Heartbeat: 250 * time.Millisecond, MaxUnsent: 8 << 20}.WithProgressTime(progress))
	c, conn := open()
	const size = 256 << 10
	conn.Send([]byte("data: " + strings.Repeat("x", size) + "\n\n"))
	ticks := time.NewTicker(progress / 8)
	defer ticks.Stop()
	for range 20 {
		<-ticks.C
		if unread(t, c) == 0 {
			t.Error("the client has no unread data")
		}
		if _, err := io.ReadFull(c, make([]byte, 12<<10)); err != nil {
			t.Fatalf("%v: the stream has ended: %q", err, <-g.ends)
		}
	}
	select {
	case end := <-g.ends:
		t.Errorf("ended %q, want no end", end)
	default:
	}
}
