package socket

import (
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

const (
	// After [Ender.End], the kernel tries to deliver queued data for deliveryTime, and then waits
	// for the peer's FIN for finTime. The sum is less than the 10 s within which a socket must be
	// free.
	deliveryTime = 5 * time.Second
	finTime      = 3 * time.Second
	// maxNext is the maximum time until the kernel's next attempt to send for a socket that End
	// closes immediately. The kernel checks deliveryTime only at such an attempt. If the peer has
	// accepted nothing for some time, the next attempt may be a minute away, so the Ender holds
	// such a socket open.
	maxNext = 2 * time.Second
	// maxHeld is the maximum number of sockets that an Ender holds open.
	maxHeld = 64
	// reviewInterval is the time between two reviews of the held sockets.
	reviewInterval = 250 * time.Millisecond
)

// Socket is an open socket: that of a [net.TCPConn] or [net.UnixConn] (see [Of]), or a raw file
// descriptor.
type Socket interface {
	// Control calls f with the file descriptor, unless the socket is closed.
	Control(f func(fd uintptr)) error
	io.Closer
}

// Of returns the socket of a connection. It returns nil for a connection without a socket of its
// own, such as a [net.Pipe] or a type that wraps a connection.
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

// Reset closes the socket immediately. Queued data is discarded, and the peer receives a reset
// (RST).
func Reset(s Socket) {
	s.Control(discardOnClose)
	s.Close()
}

// Ender closes sockets gracefully: the peer receives the queued data, and the socket is free within
// 10 s. The zero value is ready to use. Its methods are safe for concurrent use.
type Ender struct {
	mu     sync.Mutex // guards held and closed
	held   []held     // oldest first
	closed bool

	running sync.WaitGroup // counts run
}

// held is a socket that is shut down, but whose peer has not acknowledged all queued data.
type held struct {
	Socket
	until time.Time
}

// End closes the socket. The peer receives the queued data and then a FIN. End does not block:
//
//	the kernel's next attempt to send   End
//	within maxNext, or nothing queued   closes the socket; the kernel delivers the data
//	later                               holds the socket; review closes it, or resets it after 5 s
func (e *Ender) End(s Socket) {
	hold := false
	s.Control(func(fd uintptr) {
		p := ReadLiveness(fd)
		hold = p.Queued() > 0 && p.Next > maxNext
		shut(fd, deliveryTime, finTime)
	})
	if !hold {
		s.Close()
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		Reset(s)
		return
	}
	if len(e.held) >= maxHeld { // reset the oldest, to limit the open descriptors
		Reset(e.held[0])
		e.held = append(e.held[:0], e.held[1:]...)
	}
	e.held = append(e.held, held{s, time.Now().Add(deliveryTime)})
	if len(e.held) == 1 {
		e.running.Go(e.run) // ends when no socket is held
	}
}

// Close resets all held sockets and waits for the goroutine to end.
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

// review closes the held sockets whose peers have acknowledged everything, and resets those that it
// has held for too long. It reports whether any sockets are still held.
func (e *Ender) review(now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	left := e.held[:0]
	for _, h := range e.held {
		var p Liveness
		h.Control(func(fd uintptr) { p = ReadLiveness(fd) })
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
