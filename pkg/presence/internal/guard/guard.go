package guard

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"example.com/presence/pkg/presence/internal/refusal"
	"example.com/presence/pkg/presence/internal/socket"
)

// Config holds the settings of a [Guard].
type Config struct {
	// MaxIdle is the maximum number of idle connections, which are connections that carry no event
	// stream. Default: 1024.
	MaxIdle int
	// MaxPerAddress is the maximum number of connections per client address, or per /64 prefix for
	// IPv6. Connections with event streams count as well. 0 means unlimited. Default: 0.
	MaxPerAddress int
	// Heartbeat is the interval between two pings of an event stream. It limits the time to detect
	// a vanished peer over HTTP/2. Default: 15 s.
	Heartbeat time.Duration
	// ProxyProtocol makes each peer in TrustedProxies, and each peer on a Unix socket, begin its
	// connections with a PROXY header. Default: false.
	ProxyProtocol  bool
	TrustedProxies []netip.Prefix
	// Refused is called when a limit is reached, with the attributes of the example for a log line.
	// ctx is the context of the request, or [context.Background] if there is no request yet.
	Refused func(ctx context.Context, why refusal.Cause, args ...any)
}

const (
	// DefaultMaxIdle is the default of Config.MaxIdle.
	DefaultMaxIdle = 1024

	headerTime = 10 * time.Second
	idleTime   = 2 * time.Minute
	maxHeader  = 32 << 10
	writeTime  = 8 * time.Second
	// maxHTTP2Streams is the maximum number of concurrent requests per HTTP/2 connection. RFC 9113
	// section 6.5.2 recommends at least 100.
	maxHTTP2Streams = 128
	// maxAnswers is the maximum number of concurrent responses. A response uses about 15 KB while
	// its peer delays it.
	maxAnswers = 4096
	// While there are more than yieldAbove idle connections, Accept yields to their goroutines.
	yieldAbove = 64
	// yieldEvery is the number of connections that Accept accepts before it yields. With 1, a
	// server whose cores are busy with thousands of streams would accept about 10 connections per
	// second.
	yieldEvery = 16
)

// Guard counts and limits the connections of its listeners. Its methods are safe for concurrent
// use.
type Guard struct {
	config Config
	ender  socket.Ender

	acceptFailures atomic.Uint64 // of the listeners

	freed chan struct{} // signalled when a slot is freed; capacity 1
	none  chan struct{} // signalled when conns becomes empty; capacity 1

	mu         sync.Mutex // guards the fields below, and the fields of a Conn that name it
	conns      map[*Conn]struct{}
	counted    int                // idle connections in conns
	addresses  map[netip.Addr]int // connections per client address, including those with streams
	largeSlots map[net.Addr]*largeSlots
	answers    int  // concurrent responses on conns
	accepts    uint // number of calls of Accept
	flood      flood
	sweeping   bool
	listeners  int     // number of open listeners
	ending     bool    // the last listener is closed
	finishing  []*Conn // closed by net/http within the last second; see finishLocked
}

// Stats holds the statistics of a [Guard].
type Stats struct {
	Idle           int    // gauge: idle connections
	AcceptFailures uint64 // total: connections that a listener could not accept, as at the open-file limit
}

// Stats returns the current statistics.
func (g *Guard) Stats() Stats {
	g.mu.Lock()
	defer g.mu.Unlock()
	return Stats{Idle: g.counted, AcceptFailures: g.acceptFailures.Load()}
}

// New returns a Guard. It has no goroutines while it has no connections.
func New(c Config) *Guard {
	c.MaxIdle = cmp.Or(c.MaxIdle, DefaultMaxIdle)
	c.Heartbeat = cmp.Or(c.Heartbeat, 15*time.Second)
	return &Guard{config: c, freed: make(chan struct{}, 1), none: make(chan struct{}, 1), conns: map[*Conn]struct{}{},
		addresses: map[netip.Addr]int{}, largeSlots: map[net.Addr]*largeSlots{}}
}

// Harden sets the deadlines, limits and hooks of h that are not set yet. It returns the listener
// that h must serve instead of l. The caller must set h.Handler first. l must be a TCP or Unix
// listener even for ServeTLS, because HTTP/2 and the TCP statistics need the connection below TLS.
func (g *Guard) Harden(h *http.Server, l net.Listener) net.Listener {
	if _, hardened := l.(*listener); hardened {
		return l
	}
	h.ReadHeaderTimeout = cmp.Or(h.ReadHeaderTimeout, headerTime)
	h.IdleTimeout = cmp.Or(h.IdleTimeout, idleTime)
	h.MaxHeaderBytes = cmp.Or(h.MaxHeaderBytes, maxHeader)
	_, tcp := l.(*net.TCPListener)
	h.HTTP2 = http2Config(h.HTTP2, socket.Known && tcp)

	h.DisableGeneralOptionsHandler = true
	h.Handler = g.handleOptions(h.Handler)

	state := h.ConnState
	h.ConnState = func(c net.Conn, s http.ConnState) {
		if own := connOf(c); own != nil {
			own.stateChanged(c, s)
		}
		if state != nil {
			state(c, s)
		}
	}
	connContext := h.ConnContext
	h.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		if connContext != nil {
			ctx = connContext(ctx, c)
		}
		if own := connOf(c); own != nil {
			_, secure := c.(*tls.Conn)
			g.mu.Lock()
			own.secure = secure
			g.mu.Unlock()
			ctx = context.WithValue(ctx, connKey{}, own)
		}
		return ctx
	}
	inherited := tcp
	if s, ok := l.(syscall.Conn); ok {
		if raw, err := s.SyscallConn(); err == nil {
			raw.Control(socket.Tune)
			raw.Control(func(fd uintptr) { inherited = inherited && !socket.Multipath(fd) })
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.listeners++
	g.ending = false
	return &listener{Listener: l, guard: g, inherited: inherited, closed: make(chan struct{})}
}

// handleOptions returns a handler that handles OPTIONS * and passes all other requests to next. If
// next is nil, it uses http.DefaultServeMux. The OPTIONS * handler of net/http sets no deadline for
// the body. The handler also corrects the RemoteAddr of each request.
func (g *Guard) handleOptions(next http.Handler) http.Handler {
	if next == nil {
		next = http.DefaultServeMux
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if g.config.ProxyProtocol {
			correctAddress(r)
		}
		if r.Method != http.MethodOptions || r.RequestURI != "*" {
			next.ServeHTTP(w, r)
			return
		}
		a, _ := g.Begin(w, r)
		defer a.End()
		w.Header().Set("X-Content-Type-Options", "nosniff") // as in all responses
		w.Header().Set("Content-Length", "0")
	})
}

// http2Config returns a copy of the given settings, with a limit for each setting that is zero. If
// monitored is set, WriteByteTimeout needs no limit, because the sweep disconnects a peer that
// stops reading. Otherwise, it frees the socket of an ended stream within the 10 s of promise 4.
func http2Config(given *http.HTTP2Config, monitored bool) *http.HTTP2Config {
	var c http.HTTP2Config
	if given != nil {
		c = *given
	}
	c.MaxConcurrentStreams = cmp.Or(c.MaxConcurrentStreams, maxHTTP2Streams)
	c.MaxReadFrameSize = cmp.Or(c.MaxReadFrameSize, 16<<10) // each connection has one such buffer
	c.MaxReceiveBufferPerStream = cmp.Or(c.MaxReceiveBufferPerStream, 64<<10)
	c.MaxReceiveBufferPerConnection = cmp.Or(c.MaxReceiveBufferPerConnection, 256<<10)
	if !monitored {
		c.WriteByteTimeout = cmp.Or(c.WriteByteTimeout, writeTime)
	}
	return &c
}

// connKey is the context key of a request's [Conn].
type connKey struct{}

// listener applies the limits of the guard to the connections that it accepts.
type listener struct {
	net.Listener
	guard     *Guard
	inherited bool // accepted sockets inherit the socket options of the listener
	once      sync.Once
	closed    chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		if l.guard.shouldYield() {
			runtime.Gosched()
		}
		c, err := l.Listener.Accept()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				l.guard.acceptFailures.Add(1)
			}
			return nil, err
		}
		if own := l.guard.admit(c, l.closed); own != nil {
			if !l.inherited && own.socket != nil {
				own.socket.Control(socket.Tune)
			}
			return own, nil
		}
	}
}

// shouldYield reports whether Accept must let the goroutines of the connections run before it
// accepts the next one. Accepting is much faster than responding. Without the yield, MaxIdle
// requests would be in progress at the same time in a burst of joins, at 40 KB each. A connection
// in the accept queue costs the process nothing.
func (g *Guard) shouldYield() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.accepts++
	return g.counted > yieldAbove && g.accepts%yieldEvery == 0
}

func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed); l.guard.end() })
	return l.Listener.Close()
}

// end is called when a listener closes. After the last listener, connections close without waiting
// for acknowledgements, because the process may exit next. The kernel delivers the rest.
func (g *Guard) end() {
	g.mu.Lock()
	g.listeners--
	if g.ending = g.listeners == 0; !g.ending {
		g.mu.Unlock()
		return
	}
	var closing []*Conn
	for c := range g.conns {
		if c.closing {
			closing = append(closing, c)
		}
	}
	g.mu.Unlock()
	g.ender.Close()
	for _, c := range closing {
		c.end()
	}
}

// admit counts a connection. At the limit, it evicts another connection, or waits until one can be
// evicted or the listener is closed. It returns nil if it closed the new connection instead.
func (g *Guard) admit(inner net.Conn, closed <-chan struct{}) *Conn {
	c := &Conn{Conn: inner, guard: g, socket: socket.Of(inner), proxied: g.expectHeader(inner), since: time.Now()}
	c.unread = g.config.ProxyProtocol && c.proxied == nil
	_, tcp := inner.(*net.TCPConn)
	c.known = socket.Known && tcp
	if !g.countAddress(c) {
		g.refuseAddress(inner.RemoteAddr())
		c.reset()
		return nil
	}
	for reported := false; !g.insert(c); reported = true {
		if !reported { // once, however long the connection waits
			g.config.Refused(context.Background(), refusal.IdleConnections, "detail", "idle connection limit reached",
				"limit", g.config.MaxIdle, "client_address", textOf(inner.RemoteAddr()))
		}
		if victim, unacked := g.evict(time.Now()); unacked {
			victim.reset()
			continue
		} else if victim != nil {
			victim.end()
			continue
		}
		wait := time.NewTimer(floodGrace / 4)
		select {
		case <-g.freed:
		case <-wait.C:
		case <-closed:
			c.release()
			inner.Close()
			return nil
		}
		wait.Stop()
	}
	return c
}

// refuseAddress reports a connection above the limit of its client address.
func (g *Guard) refuseAddress(client net.Addr) {
	g.config.Refused(context.Background(), refusal.Address, "detail", errAddressLimit.Error(), "limit", g.config.MaxPerAddress, "client_address", textOf(client))
}

// textOf returns the address of a client for the log: without a port, or unix for a Unix socket.
func textOf(client net.Addr) string {
	switch client := client.(type) {
	case *net.TCPAddr:
		return client.AddrPort().Addr().Unmap().String()
	case *net.UnixAddr:
		return "unix"
	}
	return client.String()
}

// insert counts a new connection as idle. At the limit, it does nothing and returns false.
func (g *Guard) insert(c *Conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.counted >= g.config.MaxIdle {
		return false
	}
	g.conns[c] = struct{}{}
	g.counted++
	if !g.sweeping {
		g.sweeping = true
		go g.sweep() // ends when there are no connections left
	}
	return true
}

// removeLocked removes a connection from the count. Calling it again is a no-op.
func (g *Guard) removeLocked(c *Conn) {
	if _, there := g.conns[c]; !there {
		return
	}
	delete(g.conns, c)
	if len(c.streams) == 0 {
		g.countLocked(-1)
	}
	if len(g.conns) == 0 {
		signal(g.none)
	}
}

// countLocked adds by to the number of idle connections.
func (g *Guard) countLocked(by int) {
	g.counted += by
	if by < 0 {
		signal(g.freed)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// countAddress counts a connection toward the address of its client. It returns false if the limit
// is reached. If the PROXY header is still expected, or the client has no IP address, it counts
// nothing and returns true.
func (g *Guard) countAddress(c *Conn) bool {
	tcp, ok := c.RemoteAddr().(*net.TCPAddr)
	if g.config.MaxPerAddress <= 0 || !ok || c.proxied.expected() {
		return true
	}
	addr := tcp.AddrPort().Addr().Unmap()
	if addr.Is6() {
		if prefix, err := addr.WithZone("").Prefix(64); err == nil {
			addr = prefix.Addr()
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.addresses[addr] >= g.config.MaxPerAddress {
		return false
	}
	g.addresses[addr]++
	c.addr = addr
	return true
}
