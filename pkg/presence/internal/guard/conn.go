package guard

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"example.com/presence/pkg/presence/internal/socket"
)

// Conn is a connection of a listener of [Guard.Harden].
type Conn struct {
	net.Conn // as accepted
	guard    *Guard
	socket   socket.Socket // nil if it has no accessible socket
	known    bool          // the kernel's figures are available
	began    atomic.Int64  // Unix nanoseconds of the first byte read since it was idle; 0 before

	// Guarded by guard.mu.
	addr    netip.Addr // counts toward this address; zero: none
	state   http.ConnState
	since   time.Time // time of the change to state
	http2   bool
	secure  bool      // with TLS
	whole   bool      // it has sent a whole request
	served  int       // number of times it became idle
	bodies  int       // requests with an incomplete body
	streams []*Answer // its event streams
	answers []*Answer // its responses in progress
	until   time.Time // deadline to acknowledge the finished responses; zero: none
	closing bool      // closed by net/http, with data to acknowledge
	closed  time.Time // time of that close

	progress progress
	pages    pages
}

// connOf returns the Conn below a connection of net/http, or nil if there is none.
func connOf(c net.Conn) *Conn {
	for {
		switch t := c.(type) {
		case *Conn:
			return t
		case interface{ NetConn() net.Conn }:
			c = t.NetConn()
		default:
			return nil
		}
	}
}

// ReadFrom implements [io.ReaderFrom], for files that a host sends.
func (c *Conn) ReadFrom(r io.Reader) (int64, error) { return io.Copy(c.Conn, r) }

// SyscallConn implements [syscall.Conn].
func (c *Conn) SyscallConn() (syscall.RawConn, error) {
	if s, ok := c.Conn.(syscall.Conn); ok {
		return s.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

// CloseWrite sends the end of the stream (FIN) to the peer.
func (c *Conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// Read implements [net.Conn].
func (c *Conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && c.began.Load() == 0 {
		c.began.Store(time.Now().UnixNano())
	}
	return n, err
}

// Close ends the connection when the peer has acknowledged everything, or when its time for that
// has passed. Close itself does not wait.
func (c *Conn) Close() error {
	g := c.guard
	owes := c.pulse().Queued() > 0
	g.mu.Lock()
	_, counted := g.conns[c]
	switch {
	case c.closing:
		g.mu.Unlock()
		return net.ErrClosed
	case counted && owes && !g.ending:
		c.closing = true
		g.finishLocked(c)
		g.mu.Unlock()
		c.Conn.SetDeadline(time.Unix(1, 0)) // net/http may still read or write on another goroutine
		return c.CloseWrite()
	case counted:
		g.mu.Unlock()
		c.end()
		return nil
	}
	g.mu.Unlock()
	c.release()
	return c.Conn.Close()
}

// Detach removes the connection from the count, because it carries an event stream from now on. It
// returns the connection below, and a function to call when that is closed, or nil.
func (c *Conn) Detach() (below net.Conn, released func()) {
	g := c.guard
	g.mu.Lock()
	defer g.mu.Unlock()
	g.removeLocked(c)
	if c.addr.IsValid() {
		released = c.release
	}
	return c.Conn, released
}

// release stops counting the connection toward its address.
func (c *Conn) release() {
	g := c.guard
	g.mu.Lock()
	defer g.mu.Unlock()
	if !c.addr.IsValid() {
		return
	}
	if g.addresses[c.addr]--; g.addresses[c.addr] == 0 {
		delete(g.addresses, c.addr)
	}
	c.addr = netip.Addr{}
}

// end closes the connection and frees its socket within 10 s.
func (c *Conn) end() {
	c.remove()
	if c.socket == nil {
		c.Conn.Close()
		return
	}
	c.guard.ender.End(c.socket)
}

// reset closes the connection at once. Queued data is lost.
func (c *Conn) reset() {
	c.remove()
	if c.socket == nil {
		c.Conn.Close()
		return
	}
	socket.Reset(c.socket)
}

func (c *Conn) remove() {
	g := c.guard
	g.mu.Lock()
	g.removeLocked(c)
	g.mu.Unlock()
	c.release()
}

// enter is called by net/http when the connection changes its state. top is the connection as
// net/http knows it, which may be a [tls.Conn].
func (c *Conn) enter(top net.Conn, s http.ConnState) {
	http2 := false
	if t, ok := top.(*tls.Conn); ok && s == http.StateIdle { // the handshake is done
		http2 = t.ConnectionState().NegotiatedProtocol == "h2"
	}
	g := c.guard
	g.mu.Lock()
	defer g.mu.Unlock()
	again := c.http2 // not the first state: net/http enters StateIdle before the first request
	c.state, c.since, c.http2 = s, time.Now(), c.http2 || http2
	if !c.http2 {
		c.bodies = 0
	}
	switch s {
	case http.StateIdle:
		c.began.Store(0)
		c.whole = c.whole || !c.http2 || again
		c.served++ // over HTTP/2 also before the first request
	case http.StateHijacked: // also by the host's own handlers
		g.removeLocked(c)
	}
}

// pulse returns the kernel's figures, or zero if they are unknown.
func (c *Conn) pulse() (p socket.Pulse) {
	if c.socket != nil {
		c.socket.Control(func(fd uintptr) { p = socket.ReadPulse(fd) })
	}
	return p
}

// shut closes the server's half of the connection, unless its peer has sent something that net/http
// has not read. In that case the server is slow, or a request has arrived at this moment. Check and
// close are one step, because a proxy turns a request that crosses the close into a 502.
func (c *Conn) shut() (shut bool) {
	if c.socket == nil {
		return true
	}
	c.socket.Control(func(fd uintptr) { shut = socket.ShutUnread(fd) })
	return shut
}
