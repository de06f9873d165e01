package guard

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/pires/go-proxyproto"

	"example.com/presence/pkg/presence/internal/refusal"
)

// headerBuffer is the size of the read buffer for a PROXY header, in bytes. A line of version 1 has
// at most 107 bytes. A longer header of version 2 needs several reads.
const headerBuffer = 256

// errAddressLimit is the error of a connection whose PROXY header names a client at its limit.
var errAddressLimit = errors.New("connection limit per client address reached")

// proxied reads the PROXY header of a connection:
// https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt
//
// The first [Conn.Read] reads the header, on the goroutine of the connection. Therefore, a peer
// that sends no header blocks no other connection, and the deadlines and evictions for connections
// without a request apply to it.
type proxied struct {
	client  atomic.Pointer[net.TCPAddr] // nil before the header, and if it names no client
	arrived atomic.Bool                 // the header is complete

	// Used only by Conn.Read.
	reader *bufio.Reader // nil if neither the header nor bytes after it remain
	err    error         // of the header
}

// expectHeader returns the state of a new connection whose peer must send a PROXY header. It
// returns nil if the peer must not send one.
func (g *Guard) expectHeader(c net.Conn) *proxied {
	if !g.config.ProxyProtocol {
		return nil
	}
	switch peer := c.RemoteAddr().(type) {
	case *net.UnixAddr:
	case *net.TCPAddr:
		address := peer.AddrPort().Addr().Unmap().WithZone("")
		if !slices.ContainsFunc(g.config.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(address) }) {
			return nil
		}
	default:
		return nil
	}
	return &proxied{reader: bufio.NewReaderSize(c, headerBuffer)}
}

// expected reports whether the PROXY header has not arrived yet. p may be nil.
func (p *proxied) expected() bool { return p != nil && !p.arrived.Load() }

// readProxied reads from a connection that begins with a PROXY header. Its error is a
// [*net.OpError], because net/http responds to any other error with 400, which the proxy would
// forward to its client.
func (c *Conn) readProxied(b []byte) (int, error) {
	p := c.proxied
	if p.expected() && p.err == nil {
		if err := c.readHeader(); err != nil {
			p.err = &net.OpError{Op: "read", Net: c.LocalAddr().Network(), Source: c.LocalAddr(), Addr: c.Conn.RemoteAddr(), Err: err}
		}
	}
	switch {
	case p.err != nil:
		return 0, p.err
	case p.reader == nil:
		return c.Conn.Read(b)
	case p.reader.Buffered() > 0:
		n, err := p.reader.Read(b) // reads only from the buffer
		if p.reader.Buffered() == 0 {
			p.reader = nil
		}
		return n, err
	}
	p.reader = nil
	return c.Conn.Read(b)
}

// readHeader reads the PROXY header and counts the connection toward the address of its client.
func (c *Conn) readHeader() error {
	p, g := c.proxied, c.guard
	if _, err := p.reader.Peek(1); err != nil { // the peer has sent nothing, as a TCP health check
		return err
	}
	p.awaitLine()
	h, err := proxyproto.Read(p.reader)
	if err == nil {
		_, err = h.TLVs() // the parser does not check them
	}
	if err != nil {
		g.config.Refused(context.Background(), refusal.ProxyHeader, "detail", "PROXY header invalid", "err", err, "client_address", textOf(c.Conn.RemoteAddr()))
		return fmt.Errorf("PROXY header: %w", err)
	}
	p.client.Store(clientOf(h))
	p.arrived.Store(true)
	if !g.countAddress(c) {
		g.refuseAddress(c.RemoteAddr())
		return errAddressLimit
	}
	return nil
}

// awaitLine waits until the whole line of version 1 is buffered, because the parser refuses a line
// that arrives in parts. It returns early if the header is not of version 1, if it is too long, or
// at an error, which the parser then finds as well.
func (p *proxied) awaitLine() {
	const begin, longest = "PROXY", 107
	for {
		b, _ := p.reader.Peek(p.reader.Buffered())
		n := min(len(b), len(begin))
		if string(b[:n]) != begin[:n] || bytes.IndexByte(b, '\n') >= 0 || len(b) >= longest {
			return
		}
		if _, err := p.reader.Peek(len(b) + 1); err != nil {
			return
		}
	}
}

// reportHeader reports a PROXY header of a peer that is not trusted, because its address is often
// missing in the configuration. b is the first data of the peer. net/http responds with 400, or the
// TLS handshake fails.
func (c *Conn) reportHeader(b []byte) {
	if bytes.HasPrefix(b, proxyproto.SIGV1) || bytes.HasPrefix(b, proxyproto.SIGV2) {
		c.guard.config.Refused(context.Background(), refusal.ProxyHeader, "detail", "PROXY header of a peer that is no trusted proxy",
			"client_address", textOf(c.Conn.RemoteAddr()))
	}
}

// clientOf returns the address of the client. It is nil for a connection of the proxy itself (LOCAL
// in version 2, UNKNOWN in version 1), and for a client without an IP address.
func clientOf(h *proxyproto.Header) *net.TCPAddr {
	if h.Command.IsLocal() {
		return nil
	}
	switch client := h.SourceAddr.(type) {
	case *net.TCPAddr:
		return client
	case *net.UDPAddr: // of a proxy that accepts HTTP/3
		return &net.TCPAddr{IP: client.IP, Port: client.Port}
	}
	return nil
}

// correctAddress sets the RemoteAddr of an HTTP/1 request to the address of the client. net/http
// reads the address of a connection before the PROXY header has arrived.
func correctAddress(r *http.Request) {
	if conn, _ := r.Context().Value(connKey{}).(*Conn); conn != nil && conn.proxied != nil {
		r.RemoteAddr = conn.RemoteAddr().String()
	}
}
