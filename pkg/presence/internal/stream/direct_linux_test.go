package stream_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"example.com/presence/pkg/presence/internal/stream"
)

// A direct connection uses one descriptor and no goroutine, and leaves nothing behind when it ends.
func TestDirectCostsNoGoroutine(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // the GC would close leaked descriptors
	g := newRig(t, stream.Config{}, variants[0].start)
	descriptors := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	const clients = 100
	goroutines, files := runtime.NumGoroutine(), descriptors()
	var conns [clients]*net.TCPConn
	for i := range conns {
		conns[i], _ = g.raw(get)
	}
	if more := settle(runtime.NumGoroutine, goroutines); more > goroutines {
		t.Errorf("%d connections: got %d goroutines, want 0", clients, more-goroutines)
	}
	if more := settle(descriptors, files+2*clients); more > files+2*clients { // one for each end
		t.Errorf("%d connections: got %d descriptors, want %[1]d", clients, more-files-clients)
	}
	for _, c := range conns {
		c.Close()
		<-g.ends
	}
	if left := settle(descriptors, files); left > files {
		t.Errorf("%d descriptors are left, want 0", left-files)
	}
}

// settle calls f until its result is at most want, for up to 5 s. It returns the last result.
func settle(f func() int, want int) (got int) {
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for range 500 {
		if got = f(); got <= want {
			break
		}
		<-again.C
	}
	return got
}

// Within two heartbeats, the server disconnects a client that no longer acknowledges anything.
func TestPromise5Vanished(t *testing.T) {
	t.Parallel()
	const heartbeat = 2 * time.Second
	for _, doing := range []string{"nothing", "reading much", "pausing"} {
		t.Run(doing, func(t *testing.T) {
			t.Parallel()
			eachHTTP1(t, stream.Config{Heartbeat: heartbeat, MaxUnsent: 64 << 10}, func(t *testing.T, g *rig) {
				t.Parallel()
				vanished(t, g, doing, heartbeat)
			})
		})
	}
}

func vanished(t *testing.T, g *rig, doing string, heartbeat time.Duration) {
	var pings atomic.Int32 // pings to another client: a clock that slows down on a busy machine
	if doing != "reading much" {
		other, _ := g.client()
		go func() { // ended by the test's cleanup
			for line, err := other.ReadString('\n'); err == nil; line, err = other.ReadString('\n') {
				if line == "event: ping\n" {
					pings.Add(1)
				}
			}
		}()
	}
	c, conn := g.rawBy(narrow(16<<10), get)
	r := bufio.NewReader(c)
	if _, err := r.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if doing == "pausing" { // its receive buffer is full, so the kernel sends only probes
		conn.Send([]byte("data: " + strings.Repeat("x", 40<<10) + "\n\n"))
		<-time.After(500 * time.Millisecond)
	}
	// This filter drops every packet. To the server, this looks like a power failure of the client.
	raw, err := c.SyscallConn()
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
	vanishedAt, before := time.Now(), pings.Load()
	if doing == "reading much" {
		for range 10 {
			g.publish(stream.Reserved, "e-1", "n", strings.Repeat("0", 60<<10))
		}
	}
	if end := <-g.ends; end != stream.Timeout {
		t.Errorf("ended %q, want timeout", end)
	}
	const slack = time.Second // for a busy machine
	if after, n := time.Since(vanishedAt), pings.Load()-before; after > 2*heartbeat+slack && (n > 2 || doing == "reading much") {
		t.Errorf("disconnected after %v and %d pings, more than two heartbeats of %v", after, n, heartbeat)
	}
}

// The server keeps a client connected if its backlog is below MaxUnsent, even if it reads nothing
// for some heartbeats. The client receives all events when it reads again.
func TestPause(t *testing.T) { // promise 4
	t.Parallel()
	eachHTTP1(t, stream.Config{Heartbeat: 250 * time.Millisecond, MaxUnsent: 1 << 20}.WithProgressTime(2*time.Second), func(t *testing.T, g *rig) {
		t.Parallel()
		c, _ := g.rawBy(narrow(16<<10), get)
		for range 5 { // fills the buffers and a part of the backlog, less than MaxUnsent
			g.publish(stream.Reserved, "e-1", "n", strings.Repeat("0", 100<<10))
		}
		select {
		case end := <-g.ends:
			t.Fatalf("ended %q during a pause of 1 s, want no end", end)
		case <-time.After(time.Second):
		}
		response, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		r := bufio.NewReader(response.Body)
		for messages := 0; messages < 5; {
			if strings.HasPrefix(block(t, r), "id: e-1\n") {
				messages++
			}
		}
		// If the client stops reading for longer, the server evicts it.
		for range 5 {
			g.publish(stream.Reserved, "e-1", "n", strings.Repeat("0", 100<<10))
		}
		if end := <-g.ends; end != stream.Slow {
			t.Errorf("ended %q, want slow", end)
		}
	})
}

// The server evicts a client that acknowledges none of the data in the kernel, as it evicts a
// client with a backlog.
func TestStopped(t *testing.T) { // promise 4
	t.Parallel()
	eachHTTP1(t, stream.Config{Heartbeat: time.Second}.WithProgressTime(time.Second), func(t *testing.T, g *rig) {
		t.Parallel()
		c, conn := g.rawBy(narrow(16<<10), get)
		conn.Send([]byte("data: " + strings.Repeat("x", 40<<10) + "\n\n"))
		if end := <-g.ends; end != stream.Slow {
			t.Errorf("ended %q, want slow", end)
		}
		if all, _ := io.ReadAll(c); !strings.Contains(string(all), `{"reason":"slow"}`) {
			t.Errorf("no goodbye with reason slow in %d bytes", len(all))
		}
	})
}

// At the open-file limit, a connection still receives a goodbye.
func TestFull(t *testing.T) {
	streams := stream.Open(ringed(stream.Config{}))
	defer streams.Close()
	ended := make(chan stream.End, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var limit syscall.Rlimit
		if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
			t.Error(err)
			return
		}
		next, err := unix.Dup(2) // the lowest free descriptor
		if err != nil {
			t.Error(err)
			return
		}
		unix.Close(next)
		syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: uint64(next), Max: limit.Max})
		conn, err := streams.Conn(w, r)
		syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
		if !errors.Is(err, stream.ErrFull) {
			t.Errorf("got error %v, want ErrFull", err)
			return
		}
		conn.Send([]byte("retry: 10000\n\n"))
		conn.End("full")
		conn.Serve(r.Context(), func(why stream.End) { ended <- why })
	}))
	defer server.Close()
	if got, want := responseBody(t, server), "retry: 10000\n\ndata: {\"reason\":\"full\"}\nevent: goodbye\n\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if why := <-ended; why != "full" {
		t.Errorf("ended %q, want full", why)
	}
}
