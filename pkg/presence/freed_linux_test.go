package presence_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"golang.org/x/sys/unix"

	"example.com/presence/pkg/presence"
)

// way is how a stream reaches the server.
type way struct {
	network                string // tcp or unix
	proxied, secure, http2 bool
}

func (w way) String() string {
	return fmt.Sprintf("%s, PROXY %v, TLS %v, HTTP/2 %v", w.network, w.proxied, w.secure, w.http2)
}

// serve starts a hardened server.
func (w way) serve(t *testing.T, c presence.Config) (h *testServer, addr string) {
	t.Helper()
	c.ProxyProtocol, c.TrustedProxies = w.proxied, loopback().TrustedProxies
	listen := func(*httptest.Server) {}
	if w.network == "unix" {
		listen = onUnix(t)
	}
	return hardenedBy(t, c, true, w.secure, func(s *httptest.Server) {
		listen(s)
		if w.http2 && !w.secure {
			h2c(s)
		}
	})
}

// open opens a stream and reads nothing of it. below is the socket below TLS. An HTTP/2 peer has a
// large flow-control window, so that only its socket delays the server.
func (w way) open(t *testing.T, addr, room string) (below net.Conn) {
	t.Helper()
	dialer := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<10) })
	}}
	below, err := dialer.DialContext(t.Context(), w.network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { below.Close() })
	if w.proxied {
		io.WriteString(below, header(t, 2, "203.0.113.7:1"))
	}
	top := below
	if w.secure {
		protocols := map[bool][]string{true: {"h2"}, false: {"http/1.1"}}
		top = tls.Client(below, &tls.Config{InsecureSkipVerify: true, NextProtos: protocols[w.http2]})
	}
	path, authorization := "/presence/events?room="+room, "Bearer "+bearer(t, "victim")
	if !w.http2 {
		fmt.Fprintf(top, "GET %s HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\n\r\n", path, authorization)
		return below
	}
	io.WriteString(top, http2.ClientPreface)
	framer := http2.NewFramer(top, top)
	framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
	framer.WriteWindowUpdate(0, 1<<30)
	var block bytes.Buffer
	fields := hpack.NewEncoder(&block)
	for _, f := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", "x"}, {":path", path}, {"authorization", authorization}} {
		fields.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true})
	return below
}

// victim is a stream whose client reads nothing.
type victim struct {
	way
	server    *testServer
	end       string // why it ends
	reason    string // of the event leave
	watch     *tab
	addr      string
	below     net.Conn
	left      time.Time // when the user left
	freed     time.Time // when the socket was free
	leftError error
}

// occupied reports whether the kernel has the server's socket of the stream. tables has the content
// of /proc/net/tcp and /proc/net/unix by their names. For a Unix socket, it counts all connections
// of the listener. A TCP socket in TIME-WAIT (06) has no buffers.
func (v *victim) occupied(tables map[string]string) bool {
	if v.network == "unix" {
		for line := range strings.Lines(tables["unix"]) {
			if fields := strings.Fields(line); len(fields) == 8 && fields[7] == v.addr && fields[5] == "03" {
				return true
			}
		}
		return false
	}
	own, peer := v.below.RemoteAddr().(*net.TCPAddr), v.below.LocalAddr().(*net.TCPAddr)
	_, state, found := strings.Cut(tables["tcp"], fmt.Sprintf(": 0100007F:%04X 0100007F:%04X ", own.Port, peer.Port))
	return found && !strings.HasPrefix(state, "06")
}

// Promises 4 and 5: however a stream reaches the server, and however it ends, its user leaves for
// the right reason, and its socket is free within 10 s, even if the client reads nothing.
func TestPromise4And5FreedSockets(t *testing.T) {
	t.Parallel()
	ways := []way{
		{network: "tcp", http2: true},
		{network: "tcp", http2: true, secure: true},
		{network: "tcp", proxied: true},
		{network: "tcp", proxied: true, secure: true},
		{network: "tcp", proxied: true, http2: true},
		{network: "tcp", proxied: true, http2: true, secure: true},
		{network: "unix"},
		{network: "unix", http2: true},
		{network: "unix", proxied: true, secure: true},
	}
	ends := map[string]string{"slow": "slow", "removed": "removed", "half-closed": "closed", "vanished": "timeout"}
	var victims []*victim
	var leaving sync.WaitGroup
	for _, w := range ways {
		// With the shortest heartbeat, a peer has vanished after 0.75 s without an acknowledgement.
		// A peer whose buffer is full may be silent for that long.
		h, addr := w.serve(t, presence.Config{Linger: -1, Heartbeat: 2 * time.Second, MaxMessage: 16 << 10})
		for end, reason := range ends {
			if end == "vanished" && w.network == "unix" {
				continue // the kernel closes the socket of a process that ends
			}
			v := &victim{way: w, server: h, end: end, reason: reason, addr: addr, watch: h.stream("/events?room="+end, bearer(t, "watch"))}
			v.below = w.open(t, addr, end)
			v.watch.until("user count", "2")
			victims = append(victims, v)
		}
	}
	full := map[*testServer]int{}
	for _, v := range victims {
		if v.end != "vanished" {
			full[v.server]++
			v.fill(t, full[v.server])
		}
	}
	for _, v := range victims {
		v.finish(t)
		leaving.Go(func() {
			for e := (event{}); e.name != "leave" && v.leftError == nil; {
				e, v.leftError = v.watch.read(patience)
				if e.name == "leave" && !strings.Contains(e.data, `"reason":"`+v.reason+`"`) {
					v.leftError = fmt.Errorf("got leave %s", e.data)
				}
			}
			v.left = time.Now()
		})
	}
	ticks := time.NewTicker(100 * time.Millisecond)
	defer ticks.Stop()
	for end, left := time.Now().Add(patience), len(victims); left > 0 && time.Now().Before(end); <-ticks.C {
		tables := map[string]string{}
		for _, name := range []string{"tcp", "unix"} {
			table, err := os.ReadFile("/proc/self/net/" + name)
			if err != nil {
				t.Fatal(err)
			}
			tables[name] = string(table)
		}
		left = 0
		for _, v := range victims {
			if v.freed.IsZero() && !v.occupied(tables) {
				v.freed = time.Now()
			}
			if v.freed.IsZero() {
				left++
			}
		}
	}
	leaving.Wait()
	for _, v := range victims {
		// A removed user leaves at once, but its stream ends up to 2 s later.
		within := 10 * time.Second
		if v.end == "removed" {
			within += 2 * time.Second
		}
		took := v.freed.Sub(v.left).Round(time.Millisecond)
		t.Logf("%s, %s: %v", v.way, v.end, took)
		if v.leftError != nil || v.freed.IsZero() || took > within {
			t.Errorf("%s, %s: socket free after %v, %v; want within %v, and leave %s", v.way, v.end, took, v.leftError, within, v.reason)
		}
	}
}

// fill sends messages until the socket of the client is full, which shows that the kernel holds
// little. full is the number of such clients of the server, with this one.
func (v *victim) fill(t *testing.T, full int) {
	t.Helper()
	const messages = 17 // more than the kernel takes, and less than MaxUnsent
	v.publish(t, messages)
	for range messages {
		v.watch.next("m")
	}
	ticks := time.NewTicker(time.Millisecond)
	defer ticks.Stop()
	for end := time.Now().Add(patience); v.server.Stats().Streams.Backlogged < full; <-ticks.C {
		if time.Now().After(end) {
			t.Fatalf("%s, %s: got %+v, want %d backlogs", v.way, v.end, v.server.Stats().Streams, full)
		}
	}
}

func (v *victim) publish(t *testing.T, messages int) {
	t.Helper()
	for range messages {
		if _, err := v.server.Publish(t.Context(), v.end, "m", strings.Repeat("x", 12<<10)); err != nil {
			t.Fatal(err)
		}
	}
}

// finish makes the stream end.
func (v *victim) finish(t *testing.T) {
	t.Helper()
	switch v.end {
	case "slow":
		v.publish(t, 30) // more than MaxUnsent, so that the client must read 32 KiB per second
	case "removed":
		if err := v.server.Kick(t.Context(), v.end, "victim", time.Minute); err != nil {
			t.Fatal(err)
		}
	case "half-closed":
		if err := v.below.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Fatal(err)
		}
	case "vanished":
		vanish(t, v.below)
	}
}
