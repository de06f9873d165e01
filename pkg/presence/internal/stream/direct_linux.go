package stream

import (
	"context"
	"io"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"example.com/presence/pkg/presence/internal/socket"
)

// direct is the sink of a plain HTTP/1 connection: a socket without a goroutine and without a
// buffer. A loop writes as much as the socket accepts, without blocking. Only the loop's goroutine
// uses the fields, except for those whose comments mention other goroutines.
type direct struct {
	loop       *loop  // set once, safe for all goroutines
	attachedTo *share // guarded by the Stream's lock
	att        attachment
	pace       pace
	backlog    *backlog  // nil if the socket has accepted everything
	ended      func(End) // the callback of serve
	released   func()    // see http1.released
	ending     End       // reason for the end; "" while the connection is not ending

	fd         int32  // -1 after the end
	index      int32  // index in loop.conns
	trailing   uint16 // number of bytes received after the request
	chunked    bool
	wantsWrite bool // epoll reports when the socket has free space

	served atomic.Bool // serve was called; safe for all goroutines
	holds  heldCell    // safe for all goroutines
}

// newDirect returns a sink for the descriptor. The sink closes the descriptor when the connection
// ends. The loop does not flush the backlog before the first call of serve or end.
func newDirect(l *loop, fd int, h *http1) *direct {
	c := &direct{loop: l, fd: int32(fd), trailing: uint16(min(h.trailing, maxTrailing)), chunked: h.chunked, released: h.released}
	c.setBacklog(&backlog{chunked: h.chunked, private: [][]byte{h.head}})
	l.size.Add(1)
	l.put(func() { l.add(c) })
	return c
}

// setBacklog sets the backlog, or removes it if b is nil.
func (c *direct) setBacklog(b *backlog) {
	c.backlog, c.pace.debt = b, nil
	if b != nil {
		c.pace.debt = &b.debt
	}
}

func (c *direct) inbox() *inbox[task] { return c.loop.inbox }

func (c *direct) attachment() *attachment { return &c.att }

func (c *direct) attach(sh *share, after uint64) {
	c.attachedTo = sh
	c.loop.put(func() { c.loop.attach(c, sh, after) }) // runs before the next event is delivered
}

func (c *direct) detach() *share { return c.attachedTo }

func (c *direct) deliver(b *batch) (cost int) { return c.loop.deliver(c, b) }

func (c *direct) send(events [][]byte, sent func()) {
	added := c.loop.put(func() { c.loop.send(c, events, sent) })
	switch {
	case !added && sent != nil:
		sent()
	case added && c.served.Load(): // otherwise, serve wakes the loop later
		signal(c.loop.inbox.wake)
	}
}

func (c *direct) end(why End)  { c.loop.do(func() { c.loop.end(c, why) }) }
func (c *direct) drop(why End) { c.loop.do(func() { c.loop.finish(c, why) }) }

func (c *direct) serve(_ context.Context, ended func(End)) {
	c.served.Store(true)
	if !c.loop.do(func() { c.loop.serve(c, ended) }) { // the loop has ended
		ended(Closed)
	}
}

func (c *direct) held() Held { return c.holds.get() }

// load returns the state of the backlog. pace uses it to set the deadline.
func (c *direct) load() load {
	if c.backlog == nil {
		return load{}
	}
	return c.backlog.load()
}

// liveness returns the kernel's TCP statistics for the socket.
func (c *direct) liveness() socket.Liveness { return socket.ReadLiveness(uintptr(c.fd)) }

// write writes as much of b as the socket accepts. It returns [io.ErrShortWrite] if the socket is
// full.
func (c *direct) write(b []byte) (int, error) {
	n, err := writeAll(len(b), func() (int, error) { return unix.Write(int(c.fd), b) })
	c.loop.fanOuts.tally.bytes += n
	return n, err
}

// flush writes as much of the backlog as the socket accepts. It uses the memory of pieces as a
// buffer.
func (c *direct) flush(pieces [][]byte) error {
	b := c.backlog
	for {
		size := 0
		if pieces, size = b.pieces(pieces[:0]); size == 0 {
			return nil
		}
		n, err := writeAll(size, func() (int, error) {
			if len(pieces) == 1 {
				return unix.Write(int(c.fd), pieces[0])
			}
			return unix.Writev(int(c.fd), pieces)
		})
		b.advance(n)
		c.loop.fanOuts.tally.bytes += n
		c.pace.wrote(n)
		if err != nil {
			return err
		}
	}
}

// writeAll calls write, and repeats the call after EINTR. It returns an error unless write wrote
// size bytes.
func writeAll(size int, write func() (int, error)) (int, error) {
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

// descriptor is a [socket.Socket] that package net does not manage.
type descriptor int32

func (d descriptor) Control(f func(fd uintptr)) error { f(uintptr(d)); return nil }
func (d descriptor) Close() error                     { return unix.Close(int(d)) }
