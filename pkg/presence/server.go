package presence

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/cors"

	"example.com/presence/pkg/presence/room"
	"example.com/presence/pkg/presence/stream"
)

// Server counts who is in its rooms and carries their messages. It is an
// [http.Handler] to be mounted in any router, at the root or under a prefix,
// and its methods are safe for concurrent use. [Server.Shutdown] ends it.
type Server struct {
	config   Config
	log      *slog.Logger
	router   chi.Router
	origins  *http.CrossOriginProtection
	streams  *stream.Streams
	epoch    string // of all ids: drawn at the start, as no message outlives the process
	conns    connections
	hooks    hooks
	lastConn atomic.Uint64

	draining atomic.Bool
	running  sync.WaitGroup // connections that were counted in, and hooks that run
	closed   chan struct{}  // closed when Shutdown is done

	mu    sync.Mutex             // guards rooms and floor; taken before any counter's
	rooms map[room.Name]*counter // nil once the server drains
	// floor is the highest place of a room that was dropped. A new room starts
	// there, so that no id is given twice. Who comes back to a room that was
	// dropped may hear a reset for another room's messages, and misses none.
	floor uint64
}

// New returns a Server that is ready to serve. The error says which field of
// the Config is out of its bounds.
func New(c Config) (*Server, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("presence: %w", err)
	}
	origins, err := c.origins()
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
		config:  c,
		log:     c.Logger,
		origins: origins,
		streams: stream.Open(stream.Config{Heartbeat: c.Heartbeat, MaxUnsent: c.MaxUnsent}),
		epoch:   hex.EncodeToString(epoch),
		conns:   newConnections(),
		closed:  make(chan struct{}),
		rooms:   map[room.Name]*counter{},
	}
	s.hooks = hooks{log: s.log, running: &s.running}
	s.router = s.routes(page)
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
	s.router.ServeHTTP(w, r)
}

func (s *Server) routes(page map[string]*file) chi.Router {
	r := chi.NewRouter()
	if len(s.config.CORSOrigins) > 0 {
		r.Use(cors.Handler(cors.Options{
			AllowedOrigins:   s.config.CORSOrigins,
			AllowedMethods:   []string{http.MethodGet, http.MethodPost, http.MethodDelete},
			AllowedHeaders:   []string{"Authorization", "Content-Type", "Last-Event-ID"},
			AllowCredentials: s.config.CORSOrigins[0] != "*",
			MaxAge:           600,
		}))
	}
	r.Get("/events", s.handle(s.getEvents))
	r.Post("/messages", s.handle(s.postMessage))
	r.Get("/presence", s.handle(s.getPresence))
	r.Post("/session", s.handle(s.postSession))
	r.Delete("/session", s.handle(s.deleteSession))
	if s.config.Guest != nil {
		r.Post("/login", s.handle(s.postLogin))
	}
	r.Get("/healthz", s.handle(s.getHealth))
	r.Head("/healthz", s.handle(s.getHealth))
	r.Get("/readyz", s.handle(s.getReady))
	r.Head("/readyz", s.handle(s.getReady))
	for path, file := range page {
		r.Get(path, s.handle(file.get))
		r.Head(path, s.handle(file.get))
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

// counter returns the counter of a room, which it makes if there is none; nil
// while the server drains.
func (s *Server) counter(name room.Name) *counter {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.rooms[name]
	if c == nil && s.rooms != nil {
		start := room.Place{Epoch: s.epoch, Seq: s.floor}
		c = newCounter(name, &s.config, s.streams.Stream(string(name)), &s.hooks, start, &s.running, s.drop)
		s.rooms[name] = c
	}
	return c
}

// find returns the counter of a room; nil if nobody is there.
func (s *Server) find(name room.Name) *counter {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rooms[name]
}

// drop forgets a room in which nobody is and of which nothing is left to tell.
func (s *Server) drop(c *counter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || !c.emptyLocked() {
		return
	}
	c.closeLocked()
	s.floor = max(s.floor, c.room.Place().Seq)
	delete(s.rooms, c.name)
}

// ErrDraining says that the server is being shut down.
var ErrDraining = errors.New("the server is shutting down")

// Shutdown ends the server: from its start no message is taken, newcomers are
// told to come back later, and readyz fails; what was taken before is brought
// to the clients, then each is told goodbye. It returns when the last
// connection has ended, and every goroutine of the server with it, or with
// ctx's error when ctx ends first; the rest then happens behind it. The
// listener must be closed only afterwards. A second call waits for the first.
func (s *Server) Shutdown(ctx context.Context) error {
	if s.draining.CompareAndSwap(false, true) {
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

func (s *Server) drain() {
	s.mu.Lock()
	rooms := s.rooms
	s.rooms = nil
	s.mu.Unlock()
	for _, c := range rooms {
		c.close() // from here on nothing is published
	}
	s.streams.Drain()
	s.conns.end(endDraining)
	s.running.Wait()
	s.streams.Close()
}
