package stream

import (
	"cmp"
	"context"
	"io"
	"net"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"example.com/presence/pkg/presence/internal/socket"
)

// direct is the sink of a plain HTTP/1 connection: a socket without a
// goroutine, which a loop writes to as much as it takes, never waiting. Its
// fields are the loop's alone, but for those that are said not to be.
type direct struct {
	loop     *loop  // set once
	counted  *share // where it counts as attached; guarded by the Stream's lock
	sits     seat
	pace     pace
	backlog  *backlog  // nil while the socket has taken everything
	ended    func(End) // set by serve
	released func()    // from http1; nil if nobody asks
	ending   End       // why it ends, once that is known

	fd      int32  // -1 when it is closed
	slot    int32  // in loop.slots
	stray   uint16 // bytes that came after the request
	chunked bool
	watched bool // epoll says when the socket takes more

	served atomic.Bool // serve was called; for any goroutine
}

// loops are the loops of a process.
type loops []*loop

// open starts a loop a core. Without, as where the process has no descriptor
// left, connections have goroutines.
func (ls *loops) open(c Config, ended *inbox[func()], ours *sync.WaitGroup, ender *socket.Ender) {
	for range runtime.GOMAXPROCS(0) {
		if l, err := openLoop(c, ended, ours, ender); err == nil {
			*ls = append(*ls, l)
		}
	}
}

func (ls loops) close() {
	for _, l := range ls {
		l.close()
	}
}

// duplicating is held while a descriptor is duplicated. When the kernel makes
// the table of descriptors larger, that takes it milliseconds, and each of
// those who wait for it would hold a thread, for ever: 130 in a storm of 15,000
// joins, 200 at a time.
var duplicating sync.Mutex

// direct makes a sink of a connection that is TCP and nothing else, as a type
// around one may not want to be gone past; nil of another.
func (s *Streams) direct(h *http1) (sink, error) {
	tcp, ok := h.conn.(*net.TCPConn)
	if !ok || len(s.loops) == 0 {
		return nil, nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil, nil
	}
	fd := -1
	var failed error
	err = raw.Control(func(own uintptr) {
		// For a moment there are two: net gives no descriptor away.
		duplicating.Lock()
		defer duplicating.Unlock()
		fd, failed = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0)
	})
	if err != nil { // it was closed meanwhile
		return nil, nil
	}
	if failed != nil {
		return nil, ErrFull
	}
	least := slices.MinFunc(s.loops, func(a, b *loop) int { return cmp.Compare(a.conns.Load(), b.conns.Load()) })
	c := &direct{loop: least, fd: int32(fd), stray: uint16(min(h.stray, maxStray)), chunked: h.chunked, released: h.released}
	c.backlog = &backlog{chunked: h.chunked, private: [][]byte{h.head}}
	c.loop.conns.Add(1)
	c.loop.put(func() { c.loop.open(c) }) // until serve, or end
	h.conn.Close()                        // one of two
	return c, nil
}

func (c *direct) seat() *seat { return &c.sits }

func (c *direct) attach(s *Stream) {
	sh, place := s.shareLocked(c.loop.inbox), s.published
	sh.attached++
	c.counted = sh
	c.loop.put(func() { c.loop.attach(c, sh, place) }) // before the next event
}

func (c *direct) detach(s *Stream) { s.leaveLocked(c.counted) }

func (c *direct) deliver(b *batch) { c.loop.deliver(c, b) }

func (c *direct) tell(private [][]byte, taken func()) {
	added := c.loop.put(func() { c.loop.tell(c, private, taken) })
	switch {
	case !added && taken != nil:
		taken()
	case added && c.served.Load(): // else serve wakes the loop, after this
		signal(c.loop.inbox.wake)
	}
}

func (c *direct) end(why End)  { c.loop.do(func() { c.loop.end(c, why) }) }
func (c *direct) drop(why End) { c.loop.do(func() { c.loop.finish(c, why) }) }

func (c *direct) serve(_ context.Context, ended func(End)) {
	c.served.Store(true)
	if !c.loop.do(func() { c.loop.serve(c, ended) }) { // it ended before
		ended(Closed)
	}
}

// write brings b to the socket, as far as it takes it; io.ErrShortWrite says
// that it takes no more.
func (c *direct) write(b []byte) (int, error) {
	return whole(len(b), func() (int, error) { return unix.Write(int(c.fd), b) })
}

// load returns the figures of its backlog.
func (c *direct) load() load {
	if c.backlog == nil {
		return load{}
	}
	return c.backlog.load()
}

func (c *direct) feel() socket.Pulse { return socket.Feel(uintptr(c.fd)) }

// descriptor is a [socket.Socket] that net knows nothing of.
type descriptor int32

func (d descriptor) Control(f func(fd uintptr)) error { f(uintptr(d)); return nil }
func (d descriptor) Close() error                     { return unix.Close(int(d)) }

// flush brings the backlog to the socket, as far as it takes it.
func (c *direct) flush(pieces [][]byte) error {
	b := c.backlog
	for {
		size := 0
		if pieces, size = b.pieces(pieces[:0]); size == 0 {
			return nil
		}
		n, err := whole(size, func() (int, error) {
			if len(pieces) == 1 {
				return unix.Write(int(c.fd), pieces[0])
			}
			return unix.Writev(int(c.fd), pieces)
		})
		b.advance(n)
		c.pace.wrote(n)
		if err != nil {
			return err
		}
	}
}

// whole calls write and turns what it did into an error, unless it wrote all.
func whole(size int, write func() (int, error)) (int, error) {
	for {
		n, err := write()
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return 0, io.ErrShortWrite
		case err != nil:
			return 0, err
		case n < size:
			return n, io.ErrShortWrite
		}
		return n, nil
	}
}
