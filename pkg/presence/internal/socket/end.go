package socket

import (
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

const (
	// giveUp is for how long the kernel tries to deliver what is queued after
	// the end, and finWait for how long it waits for the peer's end after that.
	// Together they stay under the 10 s in which a socket must be free.
	giveUp  = 5 * time.Second
	finWait = 3 * time.Second
	// stuck: the kernel heeds giveUp when its own timer fires next. For a peer
	// that has not taken anything for a while that may be a minute away.
	stuck = 2 * time.Second
	// maxHeld bounds the sockets that an Ender holds open.
	maxHeld = 64
	// look is how often it looks at them.
	look = 250 * time.Millisecond
)

// Socket is a descriptor: a [net.TCPConn] by [Of], or a raw one.
type Socket interface {
	// Control calls f with the descriptor, unless it is closed.
	Control(f func(fd uintptr)) error
	io.Closer
}

// Of returns the socket of a connection; nil if it has none that is its own, as
// that of a [net.Pipe] or a type around a connection.
func Of(c net.Conn) Socket {
	s, ok := c.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return nil
	}
	return conn{raw, c}
}

type conn struct {
	syscall.RawConn
	io.Closer
}

// Reset closes the socket at once: what is queued is lost, and the peer is
// reset. It is for peers that are owed nothing more.
func Reset(s Socket) {
	s.Control(cut)
	s.Close()
}

// Ender closes sockets in a way that delivers what is queued and frees the
// socket within 10 s. Its zero value is ready; its methods are safe for
// concurrent use.
type Ender struct {
	mu     sync.Mutex // guards what follows
	held   []held     // the oldest first
	closed bool

	running sync.WaitGroup // run
}

// held is a socket that is shut and waits for the peer to take what is queued.
type held struct {
	Socket
	until time.Time
}

// End closes the socket: what is queued goes out, then the end of the stream. It
// does not wait. The kernel does the rest by itself, unless it is about to
// sleep over it: then the socket is held for up to 5 s and reset.
func (e *Ender) End(s Socket) {
	sleeps := false
	s.Control(func(fd uintptr) {
		p := Feel(fd)
		sleeps = p.Queued() > 0 && p.Next > stuck
		shut(fd)
	})
	if !sleeps {
		s.Close()
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		Reset(s)
		return
	}
	if len(e.held) >= maxHeld { // a bound on descriptors: the longest stuck goes
		Reset(e.held[0])
		e.held = append(e.held[:0], e.held[1:]...)
	}
	e.held = append(e.held, held{s, time.Now().Add(giveUp)})
	if len(e.held) == 1 {
		e.running.Go(e.run) // ends when none is held
	}
}

// Close resets the sockets that are still held, and waits for the goroutine.
func (e *Ender) Close() {
	e.mu.Lock()
	e.closed = true
	for _, h := range e.held {
		Reset(h)
	}
	e.held = nil
	e.mu.Unlock()
	e.running.Wait()
}

func (e *Ender) run() {
	ticks := time.NewTicker(look)
	defer ticks.Stop()
	for now := range ticks.C {
		if !e.review(now) {
			return
		}
	}
}

// review closes the sockets whose peers have taken everything, resets those
// whose time is up, and reports whether any is left.
func (e *Ender) review(now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	left := e.held[:0]
	for _, h := range e.held {
		var p Pulse
		h.Control(func(fd uintptr) { p = Feel(fd) })
		switch {
		case p.Queued() == 0:
			h.Close()
		case now.After(h.until):
			Reset(h)
		default:
			left = append(left, h)
		}
	}
	clear(e.held[len(left):])
	e.held = left
	return len(left) > 0
}
