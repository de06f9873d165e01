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
	// MaxIdle is the maximum number of connections that carry no event stream. Default: 1024.
	MaxIdle int
	// MaxPerAddress is the maximum number of connections per client address, or per /64 with IPv6.
	// Connections with event streams count as well. 0 means unlimited. Default: 0.
	MaxPerAddress int
	// Heartbeat is the time between two pings of an event stream. It limits the time to detect a
	// vanished peer over HTTP/2. Default: 15 s.
	Heartbeat time.Duration
	// Warn logs that a limit was reached, at most once per minute for each message. ctx is the
	// context of the request, or has no values if there is no request yet.
	Warn func(ctx context.Context, message string, args ...any)
}

const (
	// DefaultMaxIdle is the default of Config.MaxIdle.
	DefaultMaxIdle = 1024

	headerTime = 10 * time.Second
	idleTime   = 2 * time.Minute
	maxHeader  = 32 << 10
	// maxHTTP2Streams is the maximum number of concurrent requests per HTTP/2 connection. RFC 9113
	// section 6.5.2 recommends at least 100.
	maxHTTP2Streams = 128
	// maxAnswers is the maximum number of concurrent responses. One costs about 15 KB while its
	// peer delays it.
	maxAnswers = 4096
	// crowd is a number of connections without a stream. While there are more, accepting yields to
	// them after every turn.
	crowd = 64
	// turn is the number of connections that are accepted in a row in a crowd. With 1, a server
	// whose cores are busy with thousands of streams would accept about 10 connections per second.
	turn = 16
)

// Guard counts and limits the connections of its listeners. Its methods are safe for concurrent
// use.
type Guard struct {
	config Config
	ender  socket.Ender
	freed  chan struct{} // signalled when a slot is free; capacity 1
	none   chan struct{} // signalled when conns is empty; capacity 1

	mu        sync.Mutex // guards the fields below, and those of a Conn that name it
	conns     map[*Conn]struct{}
	counted   int                // connections in conns that carry no stream
	addresses map[netip.Addr]int // all connections, including those with streams
	pages     map[net.Addr]*pages
	answers   int  // concurrent responses on conns
	accepts   uint // calls of Accept
	flood     flood
	sweeping  bool
	listeners int     // number of open ones
	ending    bool    // the last listener is closed
	finishing []*Conn // closed by net/http within the last second, with data to acknowledge
}

// New returns a Guard. It has no goroutines while it has no connections.
func New(c Config) *Guard {
	c.MaxIdle = cmp.Or(c.MaxIdle, DefaultMaxIdle)
	c.Heartbeat = cmp.Or(c.Heartbeat, 15*time.Second)
	return &Guard{config: c, freed: make(chan struct{}, 1), none: make(chan struct{}, 1), conns: map[*Conn]struct{}{},
		addresses: map[netip.Addr]int{}, pages: map[net.Addr]*pages{}}
}

// Harden sets the deadlines, limits and hooks of h that are not set yet. It returns the listener
// that h must serve instead of l. The caller must set h.Handler first. l must be a TCP listener,
// also for ServeTLS, because HTTP/2 and the kernel's figures need the connection below TLS.
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
	if s, ok := l.(syscall.Conn); ok { // accepted sockets inherit the options
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

// answerOptions handles OPTIONS *, and passes all other requests to next; nil means
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
		w.Header().Set("X-Content-Type-Options", "nosniff") // as in all responses
		w.Header().Set("Content-Length", "0")
	})
}

// http2Config returns the settings, with limits where given has none. seen means that the sweep
// sees the acknowledgements, and ends a peer that stops reading.
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

// listener limits the connections that it accepts.
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

// yields reports whether the goroutines of the connections run before the next connection is
// accepted. Accepting is much faster than responding. In a storm of joins MaxIdle requests would be
// in progress at once, at 40 KB each. A connection in the accept queue costs the process nothing.
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

// end is called when a listener closes. After the last listener, connections close without waiting
// for acknowledgements. The process may exit next, and the kernel delivers the rest.
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

// admit counts a connection. At the limit it evicts another one, or waits until one can be evicted
// or the listener is closed. It returns nil if it rejected the connection.
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

// insert counts the connection. It reports false, and does nothing, at the limit.
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

// removeLocked removes a connection from the count. A second call does nothing.
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

// countAddress counts a connection toward its client's address. It reports whether the limit allows
// it.
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
