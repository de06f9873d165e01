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
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"example.com/presence/pkg/presence/stream"
)

// 100 connections cost a descriptor each and nothing else, and nothing of it
// is left when they have gone.
func TestDirectCostsNoGoroutine(t *testing.T) {
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
// found by the next ping; one that takes nothing but still answers is slow.
func TestVanished(t *testing.T) { // promise 5
	const heartbeat = 2 * time.Second
	eachHTTP1(t, stream.Config{Heartbeat: heartbeat}, func(t *testing.T, g *rig) {
		c, _ := g.raw(get)
		r := bufio.NewReader(c)
		if _, err := r.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		// A filter that lets nothing in: as far as the server sees, its power
		// has failed.
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
		if end := <-g.ends; end != stream.Timeout {
			t.Errorf("ended %q, want timeout", end)
		}
		if after := time.Since(gone); after > 2*heartbeat {
			t.Errorf("it was out after %v, more than two heartbeats", after)
		}
	})
}

func TestZeroWindow(t *testing.T) { // promise 4
	eachHTTP1(t, stream.Config{Heartbeat: 2 * time.Second, MaxUnsent: 1 << 20}, func(t *testing.T, g *rig) {
		c, _ := g.raw(get)
		c.SetReadBuffer(4 << 10)
		for range 5 {
			g.publish(stream.Reserved, "e-1", "n", strings.Repeat("0", 100<<10)) // fills what it has, and no more waits than may
		}
		if end := <-g.ends; end != stream.Slow {
			t.Errorf("ended %q, want slow", end)
		}
	})
}

// The last descriptor is not for a stream that could not say goodbye.
func TestFull(t *testing.T) {
	streams := stream.Open(stream.Config{})
	defer streams.Close()
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
		conn.Tell([]byte("retry: 10000\n\n"))
		conn.End("full")
		conn.Serve(r.Context(), func(why stream.End) {
			if why != "full" {
				t.Errorf("ended %q", why)
			}
		})
	}))
	defer server.Close()
	response, err := server.Client().Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	got, err := io.ReadAll(response.Body)
	if want := "retry: 10000\n\ndata: {\"reason\":\"full\"}\nevent: goodbye\n\n"; string(got) != want || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}
