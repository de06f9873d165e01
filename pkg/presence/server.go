package presence

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/cors"

	"example.com/presence/pkg/presence/internal/guard"
	"example.com/presence/pkg/presence/internal/loglimit"
	"example.com/presence/pkg/presence/internal/stream"
	"example.com/presence/pkg/presence/room"
)

// Server counts who is in its rooms and carries their messages. It is an
// [http.Handler] to be mounted in any router, at the root or under a prefix,
// and its methods are safe for concurrent use. [Server.Shutdown] ends it.
type Server struct {
	shared
	router   chi.Router
	guard    *guard.Guard
	origins  origins
	rates    rates
	rooms    rooms
	lastConn atomic.Uint64

	draining atomic.Bool
	ending   chan struct{} // closed when it becomes true
	closed   chan struct{} // closed when Shutdown is done
}

// New returns a Server that is ready to serve. The error says which field of
// the Config is out of its bounds.
func New(c Config) (*Server, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("presence: %w", err)
	}
	allowed, err := newOrigins(c.CORSOrigins)
	if err != nil {
		return nil, fmt.Errorf("presence: %w", err)
	}
	page, err := readPage(c.Web)
	if err != nil {
		return nil, fmt.Errorf("presence: %w", err)
	}
	epoch := make([]byte, 5)
	rand.Read(epoch)
	s := &Server{
		shared: shared{
			config:  c,
			log:     c.Logger,
			streams: stream.Open(stream.Config{Heartbeat: c.Heartbeat, MaxUnsent: c.MaxUnsent, Portable: c.portable}),
			epoch:   hex.EncodeToString(epoch),
			conns:   newConnections(c.MaxConnections, c.MaxConnectionsPerUser),
			memory:  newMemory(c),
		},
		origins: allowed,
		rates:   newRates(c.MessageRate, c.MessageBurst),
		rooms:   rooms{open: map[room.Name]*counter{}},
		ending:  make(chan struct{}),
		closed:  make(chan struct{}),
	}
	s.warn = loglimit.New(s.log)
	s.guard = guard.New(guard.Config{MaxIdle: c.MaxIdleConnections, MaxPerAddress: c.MaxConnectionsPerAddress,
		Heartbeat: c.Heartbeat, Warn: s.warn.Warn})
	s.hooks = hooks{warn: s.warn, running: &s.running}
	s.router = s.routes(page)
	s.running.Go(s.sweep) // ended by Shutdown
	return s, nil
}

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// chi goes by the path that an outer chi left in the context, of which
	// http.StripPrefix between them knows nothing.
	outer, path := chi.RouteContext(r.Context()), cmp.Or(r.URL.RawPath, r.URL.Path)
	if outer != nil && outer.RoutePath != "/" && !strings.HasSuffix(path, outer.RoutePath) {
		r = r.WithContext(context.WithValue(r.Context(), chi.RouteCtxKey, nil))
	}
	answer, r := s.guard.Begin(w, r)
	defer answer.End()
	if answer.Refused() {
		return
	}
	w.Header().Set("X-Content-Type-Options", "nosniff")
	growStack()
	s.router.ServeHTTP(answer, r)
}

// growStack makes the goroutine's stack as large at once as handlers need it. Net/http gives
// each connection a goroutine; its stack would be copied three times on the way down to the JSON of
// a token, each time with more frames on it: 8 % of a join's CPU.
//
//go:noinline
func growStack() byte {
	var space [8 << 10]byte
	return space[len(os.Args)%len(space)]
}

// Harden sets the part of a host's [http.Server] in what a Server promises: the
// deadlines and limits of h that are not set, and hooks; and it returns the
// listener that h must serve. H.Handler must be set before. L must be the TCP
// listener, also for ServeTLS: with one of crypto/tls there is no HTTP/2. It is
// called once for each listener:
//
//	h := &http.Server{Handler: router}
//	err := h.Serve(server.Harden(h, l))
//
// It bounds the connections that carry no stream (Config.MaxIdleConnections),
// ends answers by what their peers acknowledge, frees sockets within 10 s of
// their end, and finds vanished peers over HTTP/2. HTTP/2 then has receive buffers
// of 64 KiB per request and 256 KiB per connection, unless h.HTTP2 has others: a
// host that takes large uploads sets them. Without Harden the handlers' own
// deadlines hold: for a request's body, and for each piece of an answer.
//
// An ErrorLog that is nil becomes Config.Logger, with at most one warning per minute for each kind of
// error that clients cause.
func (s *Server) Harden(h *http.Server, l net.Listener) net.Listener {
	if h.ErrorLog == nil {
		h.ErrorLog = s.warn.ErrorLog()
	}
	return s.guard.Harden(h, l)
}

func (s *Server) routes(page map[string]*file) chi.Router {
	r := chi.NewRouter()
	if len(s.config.CORSOrigins) > 0 {
		options := cors.Options{
			AllowedMethods: []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete},
			// Cache-Control is sent by clients of the stream that are no EventSource.
			AllowedHeaders: []string{"Authorization", "Cache-Control", "Content-Type", "Last-Event-ID"},
			ExposedHeaders: []string{"Retry-After"},
			MaxAge:         600,
		}
		if s.origins.any {
			options.AllowedOrigins = []string{"*"}
		} else {
			options.AllowCredentials = true
			options.AllowOriginFunc = func(_ *http.Request, sent string) bool { return s.origins.allow(sent) }
		}
		r.Use(cors.Handler(options))
	}
	get := func(path string, f func(http.ResponseWriter, *http.Request) error) {
		r.Get(path, s.handle(f))
		r.Head(path, s.handle(f)) // net/http drops the body
	}
	r.Get("/events", s.handle(s.getEvents))
	r.Post("/messages", s.handle(s.postMessage))
	r.Put("/state", s.handle(s.putState))
	get("/presence", s.large(s.getPresence))
	get("/rooms", s.large(s.getRooms))
	r.Delete("/members", s.handle(s.deleteMember))
	r.Delete("/members/{id}", s.handle(s.deleteMember))
	get("/session", s.getSession)
	r.Post("/session", s.handle(s.postSession))
	r.Delete("/session", s.handle(s.deleteSession))
	if s.config.Guest != nil {
		r.Post("/login", s.handle(s.postLogin))
	}
	get("/healthz", s.getHealth)
	get("/readyz", s.getReady)
	for path, file := range page {
		get(path, file.get)
	}
	r.NotFound(s.handle(notFound))
	r.MethodNotAllowed(s.handle(func(w http.ResponseWriter, req *http.Request) error { return methodNotAllowed(r, w, req) }))
	return r
}

func (s *Server) getHealth(w http.ResponseWriter, r *http.Request) error {
	return writeJSON(w, http.StatusOK, map[string]string{"status": "alive"})
}

func (s *Server) getReady(w http.ResponseWriter, r *http.Request) error {
	if s.draining.Load() {
		return ErrDraining
	}
	return writeJSON(w, http.StatusOK, map[string]string{"status": "ready"})
}

// Shutdown ends the server: from its start no message is taken, newcomers are
// told to come back later, and readyz fails; what was taken before is brought
// to the clients, then each is told goodbye. It returns when the last
// stream has ended, and every goroutine of the server with it but those that
// look after the connections of Harden, which end with these; or with
// ctx's error when ctx ends first; the rest then happens behind it. The
// listener must be closed only afterwards. A second call waits for the first.
func (s *Server) Shutdown(ctx context.Context) error {
	if s.draining.CompareAndSwap(false, true) {
		close(s.ending)
		go func() { // ends with the last connection: each has 2 s for its goodbye
			defer close(s.closed)
			s.drain()
		}()
	}
	select {
	case <-s.closed:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("presence: shutdown: %w", ctx.Err())
	}
}

// sweep forgets what has run out, once a minute: nobody may ask for it again.
func (s *Server) sweep() {
	ticks := time.NewTicker(time.Minute)
	defer ticks.Stop()
	for {
		select {
		case now := <-ticks.C:
			s.memory.expire(now)
			s.rates.expire(now)
		case <-s.ending:
			return
		}
	}
}

func (s *Server) drain() {
	for _, c := range s.rooms.close() {
		c.close() // from here on nothing is published
	}
	s.streams.Drain()
	s.conns.end(endDraining)
	s.running.Wait()
	s.streams.Close()
}
