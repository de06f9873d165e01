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

// Conn is a connection that was accepted by a listener of [Guard.Harden].
type Conn struct {
	net.Conn // the accepted connection
	guard    *Guard
	socket   socket.Socket // nil if it has no accessible socket
	known    bool          // the kernel's TCP statistics are available
	began    atomic.Int64  // Unix nanoseconds of the first byte since http.StateIdle; 0: none
	proxied  *proxied      // the PROXY header; nil if the peer sends none
	unread   bool          // nothing was read yet, and the peer must not send a PROXY header. Used only by Conn.Read
	preface  preface

	// Guarded by guard.mu.
	addr        netip.Addr // the address that it counts toward; zero: none
	state       http.ConnState
	since       time.Time // when it entered state
	http2       bool
	secure      bool      // uses TLS
	sentRequest bool      // it has sent a complete request
	served      int       // number of times it entered http.StateIdle
	bodies      int       // number of requests with an incomplete body
	streams     []*Answer // its event streams
	answers     []*Answer // responses in progress
	until       time.Time // deadline of the peer to acknowledge the finished responses; zero: none
	ended       time.Time // end of its last event stream, if the peer has had data to acknowledge since; zero: none
	closing     bool      // closed by net/http while the peer had data to acknowledge
	closed      time.Time // when closing was set

	progress   progress
	largeSlots largeSlots
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

// ReadFrom implements [io.ReaderFrom], for files that the embedding program sends.
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

// Read implements [net.Conn]. It reads the PROXY header first, if the peer sends one. The read
// deadline of net/http for the TLS handshake or the first request applies to the PROXY header, too.
// Only one goroutine at a time may call Read.
func (c *Conn) Read(b []byte) (n int, err error) {
	if c.proxied == nil {
		n, err = c.Conn.Read(b)
	} else {
		n, err = c.readProxied(b)
	}
	if n > 0 && c.began.Load() == 0 {
		c.began.Store(time.Now().UnixNano())
	}
	if c.unread && n > 0 {
		c.unread = false
		c.reportHeader(b[:n])
	}
	c.preface.add(b[:max(n, 0)])
	return n, err
}

// unnamed is the address of every peer on a Unix socket. A peer chooses its path, which may look
// like the IP address of another client.
var unnamed = &net.UnixAddr{Name: "@", Net: "unix"}

// RemoteAddr returns the address of the client in the PROXY header. If there is none, or it has not
// arrived yet, it returns the address of the peer, and unnamed on a Unix socket. It never blocks.
func (c *Conn) RemoteAddr() net.Addr {
	if c.proxied != nil {
		if client := c.proxied.client.Load(); client != nil {
			return client
		}
	}
	if addr := c.Conn.RemoteAddr(); addr.Network() != unnamed.Net {
		return addr
	}
	return unnamed
}

// Close ends the connection when the peer has acknowledged everything, or when its time for that
// has passed. Close does not block.
func (c *Conn) Close() error {
	g := c.guard
	unacked := c.liveness().Queued() > 0
	g.mu.Lock()
	_, counted := g.conns[c]
	switch {
	case c.closing:
		g.mu.Unlock()
		return net.ErrClosed
	case counted && unacked && !g.ending:
		c.closing = true
		g.finishLocked(c)
		g.mu.Unlock()
		c.Conn.SetDeadline(time.Unix(1, 0)) // ends a read or write of net/http on another goroutine
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

// Detach removes the connection from the idle connections, because it carries an event stream from
// now on. It returns the connection below, and a function to call when that connection is closed.
// The function may be nil. The PROXY header and the request have been read by then, and net/http
// has read all bytes that arrived with the PROXY header.
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

// reset closes the connection immediately. Queued data is lost.
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

// stateChanged is called by net/http when the connection changes its state. top is the connection
// that net/http uses, which may be a [tls.Conn].
func (c *Conn) stateChanged(top net.Conn, s http.ConnState) {
	http2 := c.preface.seen.Load()
	if t, ok := top.(*tls.Conn); ok && s == http.StateIdle { // the handshake is done
		http2 = t.ConnectionState().NegotiatedProtocol == "h2"
	}
	g := c.guard
	g.mu.Lock()
	defer g.mu.Unlock()
	again := c.http2 // false on the first call: HTTP/2 enters StateIdle before the first request
	c.state, c.since, c.http2 = s, time.Now(), c.http2 || http2 && s == http.StateIdle
	if !c.http2 {
		c.bodies = 0
	}
	switch s {
	case http.StateIdle:
		c.began.Store(0)
		c.sentRequest = c.sentRequest || !c.http2 || again
		c.served++ // over HTTP/2, also before the first request
	case http.StateHijacked: // also by handlers of the embedding program
		g.removeLocked(c)
	}
}

// liveness returns the kernel's TCP statistics, or zero if they are unknown. It returns zero for a
// Unix socket: its peer can read the queued data after the close.
func (c *Conn) liveness() (p socket.Liveness) {
	if _, isUnix := c.Conn.(*net.UnixConn); c.socket != nil && !isUnix {
		c.socket.Control(func(fd uintptr) { p = socket.ReadLiveness(fd) })
	}
	return p
}

// shut closes the server's half of the connection and reports whether it did. It does nothing if
// the peer has sent data that net/http has not read yet: the server may be slow, or a request may
// have arrived at this moment. The check and the close are one step, because a proxy responds with
// 502 if its request crosses the close.
func (c *Conn) shut() (shut bool) {
	if c.socket == nil {
		return true
	}
	c.socket.Control(func(fd uintptr) { shut = socket.ShutUnread(fd) })
	return shut
}
