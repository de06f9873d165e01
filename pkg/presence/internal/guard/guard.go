package guard

import (
	"cmp"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"sync"
	"syscall"
	"time"

	"example.com/presence/pkg/presence/internal/socket"
)

// Config holds the settings of a [Guard].
type Config struct {
	// MaxIdle bounds the connections that carry no stream. Default: 1024.
	MaxIdle int
	// MaxPerAddress bounds all connections of one client address, of one /64
	// with IPv6. Default: 0, no bound.
	MaxPerAddress int
	// Heartbeat is the time between two pings of an event stream, over HTTP/2 for
	// peers that vanish. Default: 15 s.
	Heartbeat time.Duration
	// Warn logs that a limit was reached, at most once per minute for each message. ctx is that of
	// the request, or has no values if there is none yet.
	Warn func(ctx context.Context, message string, args ...any)
}

const (
	// DefaultMaxIdle is Config.MaxIdle by default.
	DefaultMaxIdle = 1024

	headerTime = 10 * time.Second
	idleTime   = 2 * time.Minute
	maxHeader  = 32 << 10
	// maxHTTP2Streams bounds the concurrent requests of an HTTP/2 connection.
	// RFC 9113 section 6.5.2 advises 100 at least.
	maxHTTP2Streams = 128
	// maxAnswers bounds the answers under way: one costs some 15 KB while its
	// peer holds it up.
	maxAnswers = 4096
	// crowd is how many connections without a stream make a crowd: while there are more, accepting
	// yields to them after every turn.
	crowd = 64
	// turn is how many connections are accepted in a row in a crowd. With 1, a server whose cores
	// are busy with thousands of streams would accept some 10 connections per second.
	turn = 16
)

// Guard keeps account of the connections of its listeners. Its methods are safe
// for concurrent use.
type Guard struct {
	config Config
	ender  socket.Ender
	freed  chan struct{} // a connection left the account; has room for one
	none   chan struct{} // the last one did; has room for one

	mu        sync.Mutex // guards what follows, and what a Conn says it does
	conns     map[*Conn]struct{}
	counted   int                // of conns: those that carry no stream
	addresses map[netip.Addr]int // all connections, those of streams included
	pages     map[net.Addr]*pages
	answers   int  // under way on conns
	accepts   uint // calls of Accept
	flood     flood
	sweeping  bool
	listeners int     // open
	ending    bool    // the last one was closed
	finishing []*Conn // closed by net/http within the last second; their peers have not acknowledged everything
}

// New returns a Guard. It has no goroutine while it has no connections.
func New(c Config) *Guard {
	c.MaxIdle = cmp.Or(c.MaxIdle, DefaultMaxIdle)
	c.Heartbeat = cmp.Or(c.Heartbeat, 15*time.Second)
	return &Guard{config: c, freed: make(chan struct{}, 1), none: make(chan struct{}, 1), conns: map[*Conn]struct{}{},
		addresses: map[netip.Addr]int{}, pages: map[net.Addr]*pages{}}
}

// Harden sets the deadlines, limits and hooks of h that are not set yet, and
// returns the listener that h must serve instead of l. H.Handler must be set
// before, and l must be a TCP listener, also for ServeTLS: HTTP/2 and the
// kernel's figures need the connection below TLS.
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
	h.Handler = g.answerOptions(h.Handler)

	state := h.ConnState
	h.ConnState = func(c net.Conn, s http.ConnState) {
		if own := connOf(c); own != nil {
			own.enter(c, s)
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
	if s, ok := l.(syscall.Conn); ok { // the sockets that it accepts inherit the options
		if raw, err := s.SyscallConn(); err == nil {
			raw.Control(socket.Tune)
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.listeners++
	g.ending = false
	return &listener{Listener: l, guard: g, closed: make(chan struct{})}
}

// answerOptions answers OPTIONS * and leaves all other requests to next; nil means
// http.DefaultServeMux. The handler of net/http sets no deadline for the body of OPTIONS *.
func (g *Guard) answerOptions(next http.Handler) http.Handler {
	if next == nil {
		next = http.DefaultServeMux
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodOptions || r.RequestURI != "*" {
			next.ServeHTTP(w, r)
			return
		}
		a, _ := g.Begin(w, r)
		defer a.End()
		w.Header().Set("X-Content-Type-Options", "nosniff") // as all answers have
		w.Header().Set("Content-Length", "0")
	})
}

// http2Config returns the settings with bounds where there are none; seen says
// that the sweep ends a peer that stops reading, by what it acknowledges.
func http2Config(given *http.HTTP2Config, seen bool) *http.HTTP2Config {
	var c http.HTTP2Config
	if given != nil {
		c = *given
	}
	c.MaxConcurrentStreams = cmp.Or(c.MaxConcurrentStreams, maxHTTP2Streams)
	c.MaxReadFrameSize = cmp.Or(c.MaxReadFrameSize, 16<<10) // one buffer per connection
	c.MaxReceiveBufferPerStream = cmp.Or(c.MaxReceiveBufferPerStream, 64<<10)
	c.MaxReceiveBufferPerConnection = cmp.Or(c.MaxReceiveBufferPerConnection, 256<<10)
	if !seen {
		c.WriteByteTimeout = cmp.Or(c.WriteByteTimeout, 10*time.Second)
	}
	return &c
}

// connKey is the context key of a request's [Conn].
type connKey struct{}

// listener bounds the connections that it accepts.
type listener struct {
	net.Listener
	guard  *Guard
	once   sync.Once
	closed chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		if l.guard.yields() {
			runtime.Gosched()
		}
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if own := l.guard.admit(c, l.closed); own != nil {
			return own, nil
		}
	}
}

// yields reports whether the goroutines of the connections are to run before the next connection is
// accepted. Accepting is so much quicker than answering that in a storm of joins MaxIdle requests
// would be under way at once, at 40 KB each. One that waits in the accept queue costs a process
// nothing.
func (g *Guard) yields() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.accepts++
	return g.counted > crowd && g.accepts%turn == 0
}

func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed); l.guard.end() })
	return l.Listener.Close()
}

// end is called when a listener closes. After the last one connections close
// without waiting for acknowledgements: the process may exit next, and the kernel
// delivers the rest.
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

// admit takes a connection into account. At the limit it evicts a connection, or
// waits until one can be evicted or the listener is closed. It returns nil for a
// connection that it refused.
func (g *Guard) admit(inner net.Conn, closed <-chan struct{}) *Conn {
	c := &Conn{Conn: inner, guard: g, socket: socket.Of(inner), since: time.Now()}
	_, tcp := inner.(*net.TCPConn)
	c.known = socket.Known && tcp
	if !g.countAddress(c) {
		g.config.Warn(context.Background(), "connection limit per client address reached", "address", inner.RemoteAddr().String(), "limit", g.config.MaxPerAddress)
		c.reset()
		return nil
	}
	for !g.insert(c) {
		g.config.Warn(context.Background(), "limit of connections without a stream reached", "limit", g.config.MaxIdle)
		if victim, owed := g.evict(time.Now()); owed {
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

// insert reports whether the connection could be taken into account.
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
		go g.sweep() // ends when there are no connections
	}
	return true
}

// removeLocked takes a connection out of account. A second time it does
// nothing.
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

// countLocked changes the number of connections without a stream.
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

// countAddress counts a connection to its client's address, and reports whether
// the limit allows it.
func (g *Guard) countAddress(c *Conn) bool {
	tcp, ok := c.RemoteAddr().(*net.TCPAddr)
	if g.config.MaxPerAddress <= 0 || !ok {
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
