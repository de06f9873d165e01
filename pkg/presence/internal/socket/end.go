package socket

import (
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

const (
	// deliveryTime is the time for which the kernel tries to deliver queued data after the end, and
	// finTime the time for which it waits for the peer's end after that. Together they are less
	// than the 10 s in which a socket must be free.
	deliveryTime = 5 * time.Second
	finTime      = 3 * time.Second
	// maxNext is the longest time until the kernel's next attempt that leaves the end to the
	// kernel, as it applies deliveryTime at that attempt only. To a peer that has taken nothing for
	// a while the next one may be a minute away.
	maxNext = 2 * time.Second
	// maxHeld is the number of sockets that an Ender holds open.
	maxHeld = 64
	// reviewInterval is the time between two reviews of these.
	reviewInterval = 250 * time.Millisecond
)

// Socket is a descriptor: a [net.TCPConn] by [Of], or a raw one.
type Socket interface {
	// Control calls f with the descriptor, unless it is closed.
	Control(f func(fd uintptr)) error
	io.Closer
}

// Of returns the socket of a connection; nil if it has none itself, such as a [net.Pipe] or a type
// around a connection.
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

// Reset closes the socket at once: queued data is lost, and the peer gets a reset.
func Reset(s Socket) {
	s.Control(discardOnClose)
	s.Close()
}

// Ender closes sockets: queued data is delivered, and the socket is free within 10 s. Its zero
// value is ready; its methods are safe for concurrent use.
type Ender struct {
	mu     sync.Mutex // guards held and closed
	held   []held     // the oldest first
	closed bool

	running sync.WaitGroup // run
}

// held is a socket that is shut down, and whose peer has yet to take queued data.
type held struct {
	Socket
	until time.Time
}

// End closes the socket: queued data is sent, then the end of the stream. It does not block. The
// kernel does the rest, unless its next attempt is too far away: then the socket is held for up to
// 5 s and reset.
func (e *Ender) End(s Socket) {
	tooFar := false
	s.Control(func(fd uintptr) {
		p := ReadPulse(fd)
		tooFar = p.Queued() > 0 && p.Next > maxNext
		shut(fd, deliveryTime, finTime)
	})
	if !tooFar {
		s.Close()
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		Reset(s)
		return
	}
	if len(e.held) >= maxHeld { // a bound on descriptors: the oldest is reset
		Reset(e.held[0])
		e.held = append(e.held[:0], e.held[1:]...)
	}
	e.held = append(e.held, held{s, time.Now().Add(deliveryTime)})
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
	ticks := time.NewTicker(reviewInterval)
	defer ticks.Stop()
	for now := range ticks.C {
		if !e.review(now) {
			return
		}
	}
}

// review closes the sockets whose peers have taken everything, resets those held for too long, and
// reports whether any is left.
func (e *Ender) review(now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	left := e.held[:0]
	for _, h := range e.held {
		var p Pulse
		h.Control(func(fd uintptr) { p = ReadPulse(fd) })
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
