package stream_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"example.com/presence/pkg/presence/internal/stream"
)

// enterRing is io_uring_enter(2) without waiting.
func enterRing(ring, entries int) (taken int, err error) {
	n, _, failed := unix.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(ring), uintptr(entries), 0, 0, 0, 0)
	if failed != 0 {
		return 0, failed
	}
	return int(n), nil
}

// reports counts the calls of Config.IOUringFailed.
type reports struct {
	n    atomic.Int32
	last atomic.Value
}

func (r *reports) add(err error) { r.n.Add(1); r.last.Store(err.Error()) }

// newRingRig returns a rig whose loops use enter.
func newRingRig(t *testing.T, c stream.Config, enter func(ring, entries int) (int, error)) (*rig, *reports) {
	t.Helper()
	failed := new(reports)
	c.IOUring, c.IOUringFailed = true, failed.add
	g := newRig(t, c.WithEnter(enter), variants[0].start)
	if err := g.streams.Stats().IOUringError; err != nil {
		t.Fatalf("%v: this test needs a kernel that allows io_uring", err)
	}
	return g, failed
}

// join connects clients that have received their first event.
func (g *rig) join(n int) (clients []*bufio.Reader) {
	g.t.Helper()
	for range n {
		r, _ := g.client()
		block(g.t, r) // retry
		clients = append(clients, r)
	}
	return clients
}

// A room of at least MinRing connections in a loop is sent to with io_uring, and a smaller room
// with write.
func TestRingNeedsManyConnections(t *testing.T) {
	var calls, sends atomic.Int32
	g, failed := newRingRig(t, stream.Config{}, func(ring, n int) (int, error) {
		calls.Add(1)
		sends.Add(int32(n))
		return enterRing(ring, n)
	})
	clients := g.join(15)
	publish := func() {
		g.publish(stream.Every, "1", "n", "0")
		for _, r := range clients {
			block(t, r)
		}
	}
	publish()
	if n := sends.Load(); n != 0 {
		t.Errorf("15 clients: got %d sends with io_uring, want 0", n)
	}
	loops := runtime.GOMAXPROCS(0)
	clients = append(clients, g.join(15*loops+1-15)...) // one loop has 16
	publish()
	if n, c := sends.Load(), int(calls.Load()); n < 16 || int(n) > len(clients) || c > loops {
		t.Errorf("%d clients: got %d sends with io_uring in %d calls, want at least 16, one call per loop", len(clients), n, c)
	}
	if !g.streams.Stats().IOUring || failed.n.Load() != 0 {
		t.Errorf("got %+v and %d failures, want io_uring and none", g.streams.Stats(), failed.n.Load())
	}
}

// If a ring fails, all loops use write, and each client has each event once. The failure is
// reported once.
func TestRingFailure(t *testing.T) {
	var fails atomic.Bool
	var calls atomic.Int32
	g, failed := newRingRig(t, stream.Config{MinRing: 1}, func(ring, n int) (int, error) {
		calls.Add(1)
		if fails.Swap(false) {
			return 0, unix.EPERM
		}
		return enterRing(ring, n)
	})
	clients := g.join(40)
	for i := range 10 {
		switch i {
		case 5:
			fails.Store(true)
		case 6:
			calls.Store(0)
		}
		g.publish(stream.Every, fmt.Sprint(i), "n", "0")
		for _, r := range clients {
			if got, want := block(t, r), fmt.Sprintf("id: %d\ndata: 0\nevent: n\n\n", i); got != want {
				t.Fatalf("got %q, want %q", got, want)
			}
		}
	}
	settle(func() int { return 1 - int(failed.n.Load()) }, 0)
	if n := failed.n.Load(); n != 1 || !strings.Contains(fmt.Sprint(failed.last.Load()), "operation not permitted") {
		t.Errorf("got %d reports, the last one %q, want 1: operation not permitted", n, failed.last.Load())
	}
	if n := int(calls.Load()); n >= runtime.GOMAXPROCS(0) || g.streams.Stats().IOUring {
		t.Errorf("got %d system calls for the events after the failure, io_uring=%v, want at most one per other loop, false", n, g.streams.Stats().IOUring)
	}
}

// If the kernel does not finish a send, the stream of that client ends, because its bytes are not
// known. All others continue.
func TestRingWithoutResult(t *testing.T) {
	var lies atomic.Bool
	g, failed := newRingRig(t, stream.Config{MinRing: 1}, func(ring, n int) (int, error) {
		if lies.Swap(false) {
			enterRing(ring, n-1)
			return n, nil
		}
		return enterRing(ring, n)
	})
	clients := g.join(40)
	lies.Store(true)
	g.publish(stream.Every, "1", "n", "1")
	if end := <-g.ends; end != stream.Closed {
		t.Errorf("got the end %q, want %q", end, stream.Closed)
	}
	g.publish(stream.Every, "2", "n", "2")
	whole := 0
	for _, r := range clients {
		all := make([]byte, len("id: 1\ndata: 1\nevent: n\n\nid: 2\ndata: 2\nevent: n\n\n"))
		n, err := io.ReadFull(r, all)
		if err == nil {
			whole++
		} else if n != 0 {
			t.Errorf("a client received %q, want both events or none", all[:n])
		}
	}
	settle(func() int { return 1 - int(failed.n.Load()) }, 0)
	if whole != len(clients)-1 || failed.n.Load() != 1 || g.streams.Stats().IOUring {
		t.Errorf("got %d clients with both events, %d reports, io_uring=%v, want %d, 1, false",
			whole, failed.n.Load(), g.streams.Stats().IOUring, len(clients)-1)
	}
}

// FuzzRing compares the bytes that each client receives with those that were published, while the
// ring has faults, and clients with small buffers read, stop, break and join.
func FuzzRing(f *testing.F) {
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		script, faults := make([]byte, 60), make([]byte, 1+rnd.IntN(40))
		for i := range script {
			script[i] = byte(rnd.Uint32())
		}
		for i := range faults {
			faults[i] = byte(rnd.Uint32())
		}
		f.Add(script, faults)
	}
	f.Fuzz(func(t *testing.T, script, faults []byte) {
		if len(script) > 200 {
			return
		}
		var k faultyKernel
		k.faults = faults
		g, failed := newRingRig(t, stream.Config{MinRing: 1, MaxUnsent: 1 << 30, Heartbeat: patience * 10}.
			WithProgressTime(patience).WithGoodbyeTime(patience), k.enter)
		var all []*fuzzClient
		for range 3 {
			all = append(all, newFuzzClient(g, len(all)%2 == 0))
		}
		for number, op := range script {
			c := all[int(op>>3)%len(all)]
			switch op % 8 {
			case 0, 1, 2, 3:
				e := stream.Event{ID: fmt.Sprint(number), Name: "n", Data: bytes.Repeat([]byte{'x'}, []int{1, 100, 3000, 40_000}[op%8])}
				g.shared.Publish(e, stream.Every)
				text := e.Append(nil)
				for _, c := range all {
					c.want = append(c.want, text...)
				}
			case 4:
				c.read()
			case 5:
				if op > 127 && !c.reset {
					c.reset = true
					c.SetLinger(0)
					c.Close()
				}
			case 6:
				if len(all) < 12 {
					all = append(all, newFuzzClient(g, op > 127))
				}
			case 7:
				g.streams.Drain()
			}
		}
		g.streams.Drain()
		for _, c := range all {
			c.conn.End("over")
			c.want = stream.Goodbye("over").Append(c.want)
		}
		cut := 0
		for i, c := range all {
			if c.reset {
				continue
			}
			got, err := c.body()
			if err == nil && bytes.Equal(got, c.want) {
				continue
			}
			if cut++; !k.lied.Load() || err == nil || !bytes.HasPrefix(c.want, got) {
				t.Errorf("client %d received %d bytes, %v, want %d; a prefix: %v", i, len(got), err, len(c.want), bytes.HasPrefix(c.want, got))
			}
		}
		if k.broken.Load() { // all clients of that group may be reset, so the loop may still be in the call
			settle(func() int { return 1 - int(failed.n.Load()) }, 0)
		}
		if want := k.broken.Load(); (failed.n.Load() == 1) != want || failed.n.Load() > 1 || g.streams.Stats().IOUring == want {
			t.Errorf("got %d reports, io_uring=%v, the ring has failed: %v", failed.n.Load(), g.streams.Stats().IOUring, want)
		}
	})
}

// faultyKernel is io_uring_enter with faults.
type faultyKernel struct {
	faults       []byte // one for each call, again and again
	calls        atomic.Int32
	broken, lied atomic.Bool // the ring has failed, and without some results
}

func (k *faultyKernel) enter(ring, n int) (int, error) {
	if len(k.faults) == 0 {
		return enterRing(ring, n)
	}
	switch f := k.faults[int(k.calls.Add(1)-1)%len(k.faults)]; {
	case f == 255:
		k.broken.Store(true)
		return 0, unix.EPERM
	case f >= 252:
		k.lied.Store(true)
		k.broken.Store(true)
		enterRing(ring, n-1)
		return n, nil
	case f%16 < 4:
		return 0, []error{unix.EAGAIN, unix.EBUSY, unix.ENOMEM, unix.EINTR}[f%16]
	case f%16 == 4:
		return enterRing(ring, 1)
	case f%16 == 5:
		return enterRing(ring, (n+1)/2)
	case f%16 == 6:
		return 0, nil
	}
	return enterRing(ring, n)
}

// fuzzClient is a client that reads only in read and body.
type fuzzClient struct {
	*net.TCPConn
	conn  *stream.Conn
	got   bytes.Buffer
	want  []byte // the body
	reset bool
}

func newFuzzClient(g *rig, small bool) *fuzzClient {
	c := &fuzzClient{want: []byte("retry: 1000\n\n")}
	var d net.Dialer
	if small {
		d = narrow(4 << 10)
	}
	c.TCPConn, c.conn = g.rawBy(d, get)
	return c
}

// read reads the bytes that have arrived, at most 64 KiB.
func (c *fuzzClient) read() {
	raw, err := c.SyscallConn()
	if err != nil {
		return // reset
	}
	buffer := make([]byte, 64<<10)
	raw.Read(func(fd uintptr) bool {
		if n, _ := unix.Read(int(fd), buffer); n > 0 {
			c.got.Write(buffer[:n])
		}
		return true
	})
}

// body reads until the end, and returns the body of the response.
func (c *fuzzClient) body() ([]byte, error) {
	_, failed := c.got.ReadFrom(c)
	response, err := http.ReadResponse(bufio.NewReader(&c.got), nil)
	if err != nil {
		return nil, errors.Join(failed, err)
	}
	body, err := io.ReadAll(response.Body)
	return body, errors.Join(failed, err)
}
