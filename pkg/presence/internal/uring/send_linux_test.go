package uring

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// openRing opens a ring, and closes it at the end of the test.
func openRing(t *testing.T, entries int, enter Enter) *Ring {
	t.Helper()
	r, err := Open(entries, enter)
	if err != nil {
		t.Fatalf("%v: these tests need a kernel that allows io_uring: no seccomp filter, and kernel.io_uring_disabled=0", err)
	}
	t.Cleanup(r.Close)
	return r
}

// pair is a TCP connection: a non-blocking descriptor that sends, and the peer.
type pair struct {
	fd   int32
	peer *net.TCPConn
}

func newPair(t *testing.T) pair {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	peer, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { peer.Close() })
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var fd int32
	raw.Control(func(d uintptr) { fd = int32(d) })
	return pair{fd, peer.(*net.TCPConn)}
}

// text returns n bytes that differ for each i.
func text(i, n int) []byte { return bytes.Repeat([]byte{byte('a' + i%26)}, n) }

// results returns the results of the sends.
func results(sends []Send) (n []int) {
	for _, s := range sends {
		n = append(n, s.N)
	}
	return n
}

// Each socket receives its bytes, from its own buffer, in lists that are shorter and longer than
// the ring. The positions of the queues pass their ends many times.
func TestSend(t *testing.T) {
	r := openRing(t, 8, nil)
	var pairs []pair
	for range 21 {
		pairs = append(pairs, newPair(t))
	}
	for round := range 200 {
		var sends []Send
		for i, p := range pairs[:1+round%len(pairs)] {
			sends = append(sends, Send{Socket: p.fd, Bytes: text(i+round, 1+i*10)})
		}
		runtime.GC() // moves or frees nothing that the kernel reads
		if err := r.Send(sends); err != nil {
			t.Fatal(err)
		}
		for i, s := range sends {
			got := make([]byte, len(s.Bytes))
			if _, err := io.ReadFull(pairs[i].peer, got); err != nil || s.N != len(s.Bytes) || !bytes.Equal(got, s.Bytes) {
				t.Fatalf("round %d, socket %d: got %q, N=%d, %v, want %q", round, i, got, s.N, err, s.Bytes)
			}
		}
	}
}

// A full socket accepts a part of the bytes, and then 0. The other sockets of the list are not
// affected.
func TestFullSocket(t *testing.T) {
	r := openRing(t, 4, nil)
	full, other := newPair(t), newPair(t)
	long := text(0, 64<<20) // more than any buffer
	sends := []Send{{Socket: full.fd, Bytes: long}, {Socket: other.fd, Bytes: text(1, 10)}, {Socket: full.fd, Bytes: long}}
	if err := r.Send(sends); err != nil {
		t.Fatal(err)
	}
	first := sends[0].N
	if first <= 0 || first >= len(long) || sends[1].N != 10 || sends[2].N < 0 {
		t.Fatalf("got %d, want a part of %d bytes, 10, and at least 0", results(sends), len(long))
	}
	for sends[2].N > 0 { // the peer's buffer takes more
		first += sends[2].N
		if err := r.Send(sends[2:]); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := unix.Write(int(full.fd), long); err != unix.EAGAIN {
		t.Errorf("write after a result of 0: got %d, %v, want %v", n, err, unix.EAGAIN)
	}
	if got, err := io.ReadFull(full.peer, make([]byte, first)); err != nil {
		t.Errorf("the peer received %d bytes, %v, want %d", got, err, first)
	}
}

// A send to a broken connection or to a closed descriptor fails with the error of write.
func TestBrokenSocket(t *testing.T) {
	r := openRing(t, 4, nil)
	reset, alike, other := newPair(t), newPair(t), newPair(t)
	for _, p := range []pair{reset, alike} {
		p.peer.SetLinger(0)
		p.peer.Close()
	}
	sends := []Send{{Socket: reset.fd, Bytes: text(0, 5)}, {Socket: 1 << 20, Bytes: text(0, 5)}, {Socket: other.fd, Bytes: text(0, 5)}}
	if err := r.Send(sends); err != nil {
		t.Fatal(err)
	}
	if got, want := results(sends), []int{Failed, Failed, 5}; !slices.Equal(got, want) {
		t.Errorf("got %d, want %d", got, want)
	}
	if _, err := unix.Write(int(alike.fd), text(0, 5)); err == nil || sends[0].Err != err {
		t.Errorf("broken connection: got %v, want %v as from write", sends[0].Err, err)
	}
	if sends[1].Err != unix.EBADF || sends[2].Err != nil {
		t.Errorf("got %v and %v, want %v and no error", sends[1].Err, sends[2].Err, unix.EBADF)
	}
}

// Faults of io_uring_enter: the ring either continues, or reports that it has failed. Bytes with a
// result are received, and others are not.
func TestFaults(t *testing.T) {
	type step func(ring, n int) (int, error)
	part := func(most int) step { return func(ring, n int) (int, error) { return enter(ring, min(n, most)) } }
	refuse := func(err error) step { return func(int, int) (int, error) { return 0, err } }
	all := []int{3, 3, 3, 3}
	for name, c := range map[string]struct {
		steps []step // the last one repeats
		want  []int
		err   error
	}{
		"one entry at a time":           {[]step{part(1)}, all, nil},
		"a part, then the rest":         {[]step{part(3), enter}, all, nil},
		"a part, then no memory":        {[]step{part(1), refuse(unix.ENOMEM)}, []int{3, NotSent, NotSent, NotSent}, nil},
		"EAGAIN":                        {[]step{refuse(unix.EAGAIN)}, []int{NotSent, NotSent, NotSent, NotSent}, nil},
		"EBUSY":                         {[]step{refuse(unix.EBUSY)}, []int{NotSent, NotSent, NotSent, NotSent}, nil},
		"a signal":                      {[]step{refuse(unix.EINTR), part(2), refuse(unix.EINTR), enter}, all, nil},
		"signals for ever":              {[]step{refuse(unix.EINTR)}, []int{NotSent, NotSent, NotSent, NotSent}, nil},
		"nothing taken for ever":        {[]step{refuse(nil)}, []int{NotSent, NotSent, NotSent, NotSent}, nil},
		"another error":                 {[]step{part(1), refuse(unix.EPERM)}, []int{3, NotSent, NotSent, NotSent}, unix.EPERM},
		"a bad descriptor":              {[]step{func(_, n int) (int, error) { return enter(-1, n) }}, []int{NotSent, NotSent, NotSent, NotSent}, unix.EBADF},
		"a result is missing":           {[]step{func(ring, n int) (int, error) { enter(ring, 2); return 3, nil }}, []int{3, 3, Unknown, NotSent}, errIncomplete},
		"all results are missing":       {[]step{func(_, n int) (int, error) { return n, nil }}, []int{Unknown, Unknown, Unknown, Unknown}, errIncomplete},
		"more entries taken than there": {[]step{func(_, n int) (int, error) { return n + 1, nil }}, []int{Unknown, Unknown, Unknown, Unknown}, errCount},
	} {
		t.Run(name, func(t *testing.T) {
			calls := 0
			r := openRing(t, 4, func(ring, n int) (int, error) {
				if calls++; calls > 100 {
					t.Fatal("got more than 100 calls of enter, want an end")
				}
				return c.steps[min(calls, len(c.steps))-1](ring, n)
			})
			var pairs []pair
			var sends []Send
			for i := range c.want {
				pairs = append(pairs, newPair(t))
				sends = append(sends, Send{Socket: pairs[i].fd, Bytes: text(i, 3)})
			}
			err := r.Send(sends)
			if got := results(sends); !slices.Equal(got, c.want) || !errors.Is(err, c.err) {
				t.Errorf("got %d, %v, want %d, %v", got, err, c.want, c.err)
			}
			for i, p := range pairs {
				unix.Shutdown(int(p.fd), unix.SHUT_WR)
				got, err := io.ReadAll(p.peer)
				if want := text(i, max(0, c.want[i])); err != nil || c.want[i] != Unknown && !bytes.Equal(got, want) {
					t.Errorf("socket %d: got %q, %v, want %q", i, got, err, want)
				}
			}
		})
	}
}

// A result that does not fit its send fails the ring.
func TestBadResults(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*result)
		want   []int
		fails  bool
	}{
		"the results of write": {func(res *result) {}, []int{3, 3}, false},
		"full":                 {func(res *result) { res.value = -int32(unix.EAGAIN) }, []int{3, 0}, false},
		"no memory":            {func(res *result) { res.value = -int32(unix.ENOBUFS) }, []int{3, NotSent}, false},
		"an error of a socket": {func(res *result) { res.value = -int32(unix.ETIMEDOUT) }, []int{3, Failed}, false},
		"unknown send":         {func(res *result) { res.id = 2 }, []int{3, Unknown}, true},
		"earlier send":         {func(res *result) { res.id = 0 }, []int{3, Unknown}, true},
		"negative send":        {func(res *result) { res.id = 1<<64 - 1 }, []int{3, Unknown}, true},
		"too many bytes":       {func(res *result) { res.value = 4 }, []int{3, Unknown}, true},
	} {
		t.Run(name, func(t *testing.T) {
			var r *Ring
			r = openRing(t, 4, func(ring, n int) (int, error) {
				taken, err := enter(ring, n)
				q := r.queues
				c.change(&q.results[(*q.head+1)%uint32(len(q.results))]) // the second one
				return taken, err
			})
			p := newPair(t)
			sends := []Send{{Socket: p.fd, Bytes: text(0, 3)}, {Socket: p.fd, Bytes: text(1, 3)}}
			err := r.Send(sends)
			if got := results(sends); !slices.Equal(got, c.want) || (err != nil) != c.fails {
				t.Errorf("got %d, %v, want %d, and an error: %v", got, err, c.want, c.fails)
			}
		})
	}
}

// A ring continues after a fault that does not break it.
func TestSendAfterFault(t *testing.T) {
	faults := []func(ring, n int) (int, error){
		func(int, int) (int, error) { return 0, unix.EAGAIN },
		func(ring, n int) (int, error) { return enter(ring, 1) },
		func(int, int) (int, error) { return 0, unix.EBUSY },
		enter,
	}
	calls := 0
	r := openRing(t, 4, func(ring, n int) (int, error) { calls++; return faults[(calls-1)%len(faults)](ring, n) })
	p, want := newPair(t), []byte(nil)
	for round := range 100 {
		sends := []Send{{Socket: p.fd, Bytes: text(round, 3)}, {Socket: p.fd, Bytes: text(round, 4)}}
		if err := r.Send(sends); err != nil {
			t.Fatal(err)
		}
		for _, s := range sends {
			want = append(want, s.Bytes[:max(0, s.N)]...)
		}
	}
	unix.Shutdown(int(p.fd), unix.SHUT_WR)
	if got, err := io.ReadAll(p.peer); err != nil || !bytes.Equal(got, want) || len(want) < 300 {
		t.Errorf("got %d bytes, %v, want these %d: at least 300", len(got), err, len(want))
	}
}

// A closed ring leaves no descriptor and no mapping.
func TestClose(t *testing.T) {
	count := func() (rings int) {
		files, err := filepath.Glob("/proc/self/fd/*")
		if err != nil || len(files) == 0 {
			t.Fatalf("got %d files, %v", len(files), err)
		}
		for _, name := range files {
			if to, _ := os.Readlink(name); strings.Contains(to, "io_uring") {
				rings++
			}
		}
		maps, err := os.ReadFile("/proc/self/maps")
		if err != nil {
			t.Fatal(err)
		}
		return rings + strings.Count(string(maps), "io_uring")
	}
	before := count()
	r := openRing(t, 4, nil)
	if open := count(); open < before+3 {
		t.Errorf("with a ring, got %d descriptors and mappings, want at least 3 more than %d", open, before)
	}
	r.Close()
	if after := count(); after != before {
		t.Errorf("after Close, got %d descriptors and mappings, want %d", after, before)
	}
}

// Open returns the error of the kernel.
func TestOpenFails(t *testing.T) {
	if r, err := Open(1<<20, nil); !errors.Is(err, unix.EINVAL) || r != nil {
		t.Errorf("too many entries: got %v, %v, want %v", r, err, unix.EINVAL)
	}
}

// Open's test finds a kernel whose results are not those of write.
func TestOpenTests(t *testing.T) {
	for name, c := range map[string]struct {
		value int32 // result of a send to a full socket
		want  string
	}{
		"write":          {-int32(unix.EAGAIN), "<nil>"},
		"never full":     {1, "io_uring: send to a full socket returned 1, want 0"},
		"no such call":   {-int32(unix.EINVAL), "io_uring: send to a full socket returned -1, want 0"},
		"too many bytes": {2, "io_uring: result 2 for send 0, one of 1 from 0"},
	} {
		t.Run(name, func(t *testing.T) {
			r := openRing(t, 4, nil)
			r.enter = func(ring, n int) (int, error) {
				taken, err := enter(ring, n)
				if res := &r.queues.results[*r.queues.head%uint32(len(r.queues.results))]; res.value == -int32(unix.EAGAIN) {
					res.value = c.value
				}
				return taken, err
			}
			if got := fmt.Sprint(r.test()); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}
