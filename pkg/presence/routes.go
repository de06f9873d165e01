package presence

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/cors"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/internal/guard"
	"example.com/presence/pkg/presence/internal/hub"
	"example.com/presence/pkg/presence/internal/loglimit"
	"example.com/presence/pkg/presence/internal/stream"
)

// New returns a Server that is ready to serve. The error is a [ConfigError], or the reason why the
// backplane is not usable.
func New(c Config) (*Server, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("presence: %w", err)
	}
	allowed, err := newOrigins(c.CORSOrigins)
	if err != nil {
		return nil, fmt.Errorf("presence: %w", err)
	}
	page, err := readPage(c.Web, c.ContentSecurityPolicy)
	if err != nil {
		return nil, fmt.Errorf("presence: %w", err)
	}
	s := &Server{config: c, origins: allowed, rates: newRates(c.MessageRate, c.MessageBurst), warn: loglimit.New(c.Logger)}
	s.guard = guard.New(guard.Config{MaxIdle: c.MaxIdleConnections, MaxPerAddress: c.MaxConnectionsPerAddress,
		Heartbeat: c.Heartbeat, Warn: s.warn.Warn})
	s.streams = stream.Open(stream.Config{Heartbeat: c.Heartbeat, MaxUnsent: c.MaxUnsent, Portable: c.portable})
	if s.hub, err = hub.Open(hubConfig(c, s.streams, s.warn)); err != nil {
		s.streams.Close()
		return nil, fmt.Errorf("presence: %w", err)
	}
	s.router = s.routes(page)
	return s, nil
}

// hubConfig returns the settings of the hub.
func hubConfig(c Config, streams *stream.Streams, warn *loglimit.Limiter) hub.Config {
	own := c.Backplane == nil
	if own {
		c.Backplane = backplane.NewMemory(backplane.MemoryConfig{Messages: c.History, Age: c.HistoryAge, Bytes: c.HistoryBytes})
	}
	return hub.Config{
		Bus:                   c.Backplane,
		OwnBus:                own,
		Streams:               hub.Sockets(streams),
		Log:                   c.Logger,
		Warn:                  warn,
		Count:                 c.count,
		Linger:                c.Linger,
		Coalesce:              c.Coalesce,
		Heartbeat:             c.Heartbeat,
		MemberLimit:           c.MemberLimit,
		RoomAge:               c.HistoryAge,
		MaxConnections:        c.MaxConnections,
		MaxConnectionsPerUser: c.MaxConnectionsPerUser,
		MaxRooms:              c.MaxRooms,
		MaxReplay:             c.HistoryBytes,
		MaxSnapshots:          c.maxSnapshots,
		OnMessage:             c.OnMessage,
		OnJoin:                c.OnJoin,
		OnLeave:               c.OnLeave,
	}
}

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// chi uses the path that an outer chi left in the context. An http.StripPrefix between them
	// does not update it.
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

// growStack grows the goroutine's stack once, to the size that handlers need. net/http gives each
// connection a goroutine. Without growStack its stack would be copied three times on the way down
// to the JSON of a token, each time with more frames. That is 8 % of the CPU per join.
//
//go:noinline
func growStack() byte {
	var space [8 << 10]byte
	return space[len(os.Args)%len(space)]
}

// Harden prepares h for the promises of a Server. It sets the deadlines and limits of h that are
// not set, and hooks, and returns the listener that h must serve. Call it once per listener:
//
//	h := &http.Server{Handler: router}
//	err := h.Serve(server.Harden(h, l))
//
// Requirements:
//
//   - h.Handler must be set before.
//   - l must be the TCP listener, also for ServeTLS. With a listener of crypto/tls there is no
//     HTTP/2.
//
// Effects:
//
//   - limits the connections that carry no stream (Config.MaxIdleConnections);
//   - ends an answer whose peer does not acknowledge enough of it;
//   - frees a socket within 10 s of its end;
//   - detects vanished peers over HTTP/2;
//   - sets the receive buffers of HTTP/2 to 64 KiB per request and 256 KiB per connection, unless
//     h.HTTP2 has others. A host that accepts large uploads sets its own;
//   - sets a nil ErrorLog to Config.Logger, with at most one warning per minute for each kind of
//     error that clients cause.
//
// Without Harden only the handlers' own deadlines apply: for a request's body, and for each piece
// of an answer.
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
			// Clients of the stream other than EventSource send Cache-Control.
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

// handle returns a handler that answers an error of f with a problem document (RFC 9457). An error
// without an entry in problems is the server's fault: it goes to the log, not to the client.
func (s *Server) handle(f func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		err := f(w, r)
		if err == nil {
			return
		}
		p := problemOf(err)
		switch {
		case p.status == http.StatusInternalServerError && r.Context().Err() == nil:
			s.config.Logger.ErrorContext(r.Context(), "request failed", "method", r.Method, "path", r.URL.Path, "err", err)
		case p.status == http.StatusServiceUnavailable && !errors.Is(err, ErrDraining):
			s.warn.Warn(r.Context(), p.detail, "path", r.URL.Path) // a limit was reached; there are few details, so few messages
		}
		writeProblem(w, p)
	}
}

// large makes the handler wait for a slot of its connection, while it costs no more than a
// goroutine.
func (s *Server) large(f func(http.ResponseWriter, *http.Request) error) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		release, err := s.guard.Large(r)
		if err != nil {
			return err
		}
		defer release()
		return f(w, r)
	}
}

func notFound(http.ResponseWriter, *http.Request) error {
	return refuse(http.StatusNotFound, "no resource at this path")
}

// methodNotAllowed answers with the methods of the path (RFC 9110 section 15.5.6).
func methodNotAllowed(routes chi.Router, w http.ResponseWriter, r *http.Request) error {
	var allow []string
	for _, method := range []string{http.MethodDelete, http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut} {
		if routes.Match(chi.NewRouteContext(), method, routePath(r)) {
			allow = append(allow, method)
		}
	}
	if len(allow) == 0 { // a method unknown to chi, at an unknown path
		return notFound(w, r)
	}
	w.Header().Set("Allow", strings.Join(allow, ", "))
	return refuse(http.StatusMethodNotAllowed, "method %s is not allowed at this path", r.Method)
}

func (s *Server) getHealth(w http.ResponseWriter, r *http.Request) error {
	return writeJSON(w, http.StatusOK, map[string]string{"status": "alive"})
}

func (s *Server) getReady(w http.ResponseWriter, r *http.Request) error {
	if s.hub.Draining() {
		return ErrDraining
	}
	return writeJSON(w, http.StatusOK, map[string]string{"status": "ready"})
}

// Shutdown ends the server in this order:
//
//  1. It accepts no more messages, a new client receives goodbye draining, and readyz fails.
//  2. All accepted messages reach the clients.
//  3. Each client receives goodbye draining, and its stream ends.
//
// Shutdown returns when the last stream has ended. Every goroutine of the server has ended then,
// except those of the connections of Harden, which end with their connections. If ctx ends first,
// Shutdown returns its error, and the rest happens in the background. Close the listener only
// afterwards. A second call waits for the first.
func (s *Server) Shutdown(ctx context.Context) error {
	if err := s.hub.Close(ctx); err != nil {
		return fmt.Errorf("presence: shutdown: %w", err)
	}
	return nil
}
