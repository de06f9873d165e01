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
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"example.com/presence/pkg/presence/internal/stream"
)

// 100 connections cost a descriptor each and nothing else, and nothing of it
// is left when they have gone.
func TestDirectCostsNoGoroutine(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // which would close what was forgotten
	g := newRig(t, stream.Config{}, ways[0].start)
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
		t.Errorf("%d connections have %d goroutines", clients, more-goroutines)
	}
	if more := settle(descriptors, files+2*clients); more > files+2*clients { // the client's, too
		t.Errorf("%d connections have %d descriptors", clients, more-files-clients)
	}
	for _, c := range conns {
		c.Close()
		<-g.ends
	}
	if left := settle(descriptors, files); left > files {
		t.Errorf("%d descriptors are left", left-files)
	}
}

// settle returns what f returns once that is no more than want, or after a
// while.
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

// A client from which nothing comes any more, not even acknowledgements, is
// found by the next ping, and earlier where there is more to tell it.
func TestPromise5Vanished(t *testing.T) {
	t.Parallel()
	heartbeat := sized(2*time.Second, 4*time.Second)
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
	c, conn := g.rawBy(narrow(16<<10), get)
	r := bufio.NewReader(c)
	if _, err := r.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if doing == "pausing" { // it has no room, and so is sent nothing that it could leave unanswered
		conn.Send([]byte("data: " + strings.Repeat("x", 40<<10) + "\n\n"))
		<-time.After(500 * time.Millisecond)
	}
	// A filter that lets nothing in: as far as the server sees, its power has
	// failed.
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
	gone := time.Now()
	if doing == "reading much" {
		for range 10 {
			g.publish(stream.Reserved, "e-1", "n", strings.Repeat("0", 60<<10))
		}
	}
	if end := <-g.ends; end != stream.Timeout {
		t.Errorf("ended %q, want timeout", end)
	}
	const slack = time.Second // for a machine with other work
	if after := time.Since(gone); after > 2*heartbeat+slack {
		t.Errorf("it was out after %v, more than two heartbeats of %v", after, heartbeat)
	}
}

// A client that takes nothing for a while, and for which little waits, stays,
// whatever the heartbeat; it has what it missed when it goes on.
func TestPause(t *testing.T) { // promise 4
	t.Parallel()
	eachHTTP1(t, stream.Config{Heartbeat: time.Second, MaxUnsent: 1 << 20}.WithProgressTime(6*time.Second), func(t *testing.T, g *rig) {
		t.Parallel()
		c, _ := g.rawBy(narrow(16<<10), get)
		for range 5 { // fills what it has, and no more waits than may
			g.publish(stream.Reserved, "e-1", "n", strings.Repeat("0", 100<<10))
		}
		select {
		case end := <-g.ends:
			t.Fatalf("ended %q in a pause of 4 s", end)
		case <-time.After(4 * time.Second):
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
		// And one that takes nothing more at all is sent away.
		for range 5 {
			g.publish(stream.Reserved, "e-1", "n", strings.Repeat("0", 100<<10))
		}
		if end := <-g.ends; end != stream.Slow {
			t.Errorf("ended %q, want slow", end)
		}
	})
}

// What the kernel has taken for a client waits there no longer than what waits
// for the kernel.
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
			t.Errorf("of %d bytes none is a goodbye", len(all))
		}
	})
}

// The last descriptor is not for a stream that could not say goodbye.
func TestFull(t *testing.T) {
	streams := stream.Open(stream.Config{})
	defer streams.Close()
	ended := make(chan stream.End, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var limit syscall.Rlimit
		if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
			t.Error(err)
			return
		}
		next, err := unix.Dup(2) // the lowest that is free
		if err != nil {
			t.Error(err)
			return
		}
		unix.Close(next)
		syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: uint64(next), Max: limit.Max})
		conn, err := streams.Conn(w, r)
		syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
		if !errors.Is(err, stream.ErrFull) {
			t.Errorf("got %v, want ErrFull", err)
			return
		}
		conn.Send([]byte("retry: 10000\n\n"))
		conn.End("full")
		conn.Serve(r.Context(), func(why stream.End) { ended <- why })
	}))
	defer server.Close()
	if got, want := answer(t, server), "retry: 10000\n\ndata: {\"reason\":\"full\"}\nevent: goodbye\n\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if why := <-ended; why != "full" {
		t.Errorf("ended %q", why)
	}
}
