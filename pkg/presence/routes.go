package presence

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/cors"

	"example.com/presence/pkg/presence/auth"
	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/internal/guard"
	"example.com/presence/pkg/presence/internal/hub"
	"example.com/presence/pkg/presence/internal/loglimit"
	"example.com/presence/pkg/presence/internal/rates"
	"example.com/presence/pkg/presence/internal/redact"
	"example.com/presence/pkg/presence/internal/refusal"
	"example.com/presence/pkg/presence/internal/stream"
)

// New returns a Server that is ready to serve. The error wraps a [*ConfigError], or states why the
// backplane cannot be used.
func New(c Config) (*Server, error) {
	c, s, page, err := c.prepare()
	if err != nil {
		return nil, err
	}
	s.guard = guard.New(guard.Config{MaxIdle: c.MaxIdleConnections, MaxPerAddress: c.MaxConnectionsPerAddress,
		ProxyProtocol: c.ProxyProtocol, TrustedProxies: c.TrustedProxies,
		Heartbeat: c.Heartbeat, Refused: func(ctx context.Context, why refusal.Cause, args ...any) {
			s.refusals.Add(ctx, why, "", func() []any { return args })
		}})
	s.streams = stream.Open(stream.Config{Heartbeat: c.Heartbeat, MaxUnsent: c.MaxUnsent,
		MaxUnsentTotal: c.MaxUnsentTotal, MinShare: 4 * c.MaxMessage, Portable: c.portable,
		IOUring: !c.DisableIOUring, MinRing: c.minRing, IOUringFailed: func(err error) {
			c.Logger.Warn("io_uring has failed, so all sends use write from now on", "error", err)
		},
		Delivered: c.Observer.JoinToCount, Pass: c.Observer.LoopPass})
	if s.hub, err = hub.Open(hubConfig(c, s.streams, s.limits.costs.rates, s.warn)); err != nil {
		s.streams.Close()
		return nil, fmt.Errorf("presence: %w", err)
	}
	s.router = s.routes(page)
	return s, nil
}

// Validate returns the error that [New] would return because of a field of c, or nil. It starts
// nothing.
func (c Config) Validate() error {
	_, _, _, err := c.prepare()
	return err
}

// prepare returns c with its defaults, a server that is not started, and the files of its page.
func (c Config) prepare() (complete Config, s *Server, page map[string]*file, err error) {
	s = new(Server)
	complete, err = c.withDefaults()
	if err == nil {
		s.origins, err = newOrigins(complete.CORSOrigins)
	}
	if err == nil {
		s.proxies, err = newProxies(complete.TrustedProxies)
	}
	if err == nil {
		s.hosts, err = newHosts(complete.Hosts)
	}
	if err == nil {
		page, err = readPage(complete.Web, complete.ContentSecurityPolicy)
	}
	if err != nil {
		return c, nil, nil, fmt.Errorf("presence: %w", err)
	}
	complete.Logger = redact.Logger(complete.Logger)
	s.config = complete
	s.limits, s.pages = newLimits(complete), newPageCache()
	s.warn, s.refusals = loglimit.New(complete.Logger), refusal.New(complete.Logger)
	s.authFailures = make([]atomic.Uint64, len(auth.Reasons))
	return complete, s, page, nil
}

// hubConfig translates c to the settings of the hub. It creates an in-memory backplane if c has
// none.
func hubConfig(c Config, streams *stream.Streams, costs *rates.Table, warn *loglimit.Limiter) hub.Config {
	own := c.Backplane == nil
	if own {
		c.Backplane = backplane.NewMemory(backplane.MemoryConfig{Messages: c.History, Age: c.HistoryAge, Bytes: c.HistoryBytes, Full: func() {
			warn.Warn(context.Background(), "history byte limit reached: the user with the most bytes loses the oldest messages of its largest room", "limit", c.HistoryBytes)
		}})
	}
	return hub.Config{
		Label:                 c.Node,
		Settings:              func() []hub.Setting { return commonSettings(c) },
		Bus:                   c.Backplane,
		OwnBus:                own,
		Streams:               hub.Sockets(streams),
		Log:                   c.Logger,
		Warn:                  warn,
		Count:                 c.count,
		Linger:                c.Linger,
		Grace:                 c.ShutdownGrace,
		Coalesce:              c.Coalesce,
		Heartbeat:             c.Heartbeat,
		MemberLimit:           c.MemberLimit,
		RoomAge:               c.HistoryAge,
		MaxConnections:        c.MaxConnections,
		MaxConnectionsPerUser: c.MaxConnectionsPerUser,
		MaxRooms:              c.MaxRooms,
		MaxRoomsPerUser:       c.MaxRoomsPerUser,
		MaxReplay:             c.HistoryBytes,
		RingMessages:          c.History,
		RingAge:               c.HistoryAge,
		RingBytes:             c.HistoryBytes,
		MaxSnapshots:          c.maxSnapshots,
		Costs:                 costs,
		RoundTrip:             c.Observer.RoundTrip,
		OnMessage:             c.OnMessage,
		OnJoin:                c.OnJoin,
		OnLeave:               c.OnLeave,
	}
}

// commonSettings returns the settings that all nodes of a cluster should have in common.
func commonSettings(c Config) []hub.Setting {
	settings := []hub.Setting{
		{Name: "count", Value: string(c.Count)},
		{Name: "member-limit", Value: strconv.Itoa(c.MemberLimit)},
		{Name: "linger", Value: c.Linger.String()},
		{Name: "history", Value: strconv.Itoa(c.History)},
		{Name: "history-age", Value: c.HistoryAge.String()},
		{Name: "history-bytes", Value: strconv.Itoa(c.HistoryBytes)},
	}
	if a, ok := c.Authenticator.(interface{ Fingerprint() string }); ok {
		settings = append(settings, hub.Setting{Name: "keys", Value: a.Fingerprint()})
	}
	return settings
}

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// chi uses the path that an outer chi router left in the context. An http.StripPrefix between
	// the two routers does not update that path, so drop the context if its path is stale.
	outer, path := chi.RouteContext(r.Context()), cmp.Or(r.URL.RawPath, r.URL.Path)
	if outer != nil && outer.RoutePath != "/" && !strings.HasSuffix(path, outer.RoutePath) {
		r = r.WithContext(context.WithValue(r.Context(), chi.RouteCtxKey, nil))
	}
	r, facts := withFacts(r)
	answer, r := s.guard.Begin(w, r)
	defer answer.End()
	if answer.Refused() {
		return
	}
	w.Header().Set("X-Content-Type-Options", "nosniff")
	growStack()
	s.router.ServeHTTP(answer, r)
	if !answer.IsStream() {
		s.logAccess(r, facts, answer.Status())
	}
}

// growStack grows the goroutine's stack once, to the size that handlers need. net/http starts a
// goroutine with a small stack for each connection. Without growStack, the stack would grow in
// three steps before a handler decodes the JSON of a token, and each step would copy more frames.
// These copies take 8 % of the CPU per join.
//
//go:noinline
func growStack() byte {
	var space [8 << 10]byte
	return space[len(os.Args)%len(space)]
}

// Harden configures h so that the promises of a Server hold. It sets the deadlines and limits that
// h does not set, and adds hooks. It returns the listener that h must serve. Call it once per
// listener:
//
//	h := &http.Server{Handler: router}
//	err := h.Serve(server.Harden(h, l))
//
// Requirements:
//
//   - h.Handler must be set before the call.
//   - l must be the TCP or Unix listener, even for ServeTLS. A listener of crypto/tls would disable
//     HTTP/2.
//
// A hardened server:
//
//   - limits idle connections, which carry no stream (Config.MaxIdleConnections);
//   - aborts a response if its peer does not acknowledge enough of it;
//   - frees a socket within 10 s after its connection ends;
//   - detects vanished peers over HTTP/2;
//   - uses HTTP/2 receive buffers of 64 KiB per request and 256 KiB per connection, unless h.HTTP2
//     sets other sizes. A program that accepts large uploads should set its own sizes;
//   - logs its errors to Config.Logger if h.ErrorLog is nil, with at most one warning per minute
//     for each kind of error that clients cause.
//
// Without Harden, only the deadlines of the handlers apply. They limit the time for a request body
// and for each piece of a response.
func (s *Server) Harden(h *http.Server, l net.Listener) net.Listener {
	if h.ErrorLog == nil {
		h.ErrorLog = s.warn.ErrorLog()
	}
	return s.guard.Harden(h, l)
}

func (s *Server) routes(page map[string]*file) chi.Router {
	r := chi.NewRouter()
	if len(s.config.Hosts) > 0 {
		r.Use(s.screen(func(r *http.Request) error { return s.hosts.check(r, s.origins) }))
	}
	r.Use(s.screen(s.origins.checkPreflight))
	if len(s.config.CORSOrigins) > 0 {
		options := cors.Options{
			AllowedMethods: []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete},
			// Stream clients other than EventSource send Cache-Control.
			AllowedHeaders: []string{"Authorization", "Cache-Control", "Content-Type", "Last-Event-ID", "X-Request-Id"},
			ExposedHeaders: []string{"Retry-After", "X-Request-Id"},
			MaxAge:         600,
		}
		if s.origins.any {
			options.AllowedOrigins = []string{"*"}
		} else {
			options.AllowCredentials = true
			options.AllowOriginFunc = func(_ *http.Request, sent string) bool { return s.origins.allow(sent) }
		}
		r.Use(cors.Handler(options), allowTiming)
	}
	get := func(path string, f func(http.ResponseWriter, *http.Request) error) {
		r.Get(path, s.handle(f))
		r.Head(path, s.handle(f)) // net/http discards the body
	}
	r.Get("/events", s.handle(s.getEvents))
	r.Post("/messages", s.handle(s.postMessage))
	get("/messages", s.large(s.getMessages))
	r.Put("/state", s.handle(s.putState))
	get("/presence", s.large(s.getPresence))
	get("/rooms", s.large(s.getRooms))
	r.Delete("/members", s.handle(s.deleteMember))
	r.Delete("/members/{id}", s.handle(s.deleteMember))
	get("/bans", s.large(s.getBans))
	r.Delete("/bans", s.handle(s.deleteBan))
	get("/session", s.getSession)
	r.Post("/session", s.handle(s.postSession))
	r.Delete("/session", s.handle(s.deleteSession))
	if s.config.Guest != nil {
		r.Post("/login", s.handle(s.postLogin))
	}
	get("/healthz", s.getHealth)
	get("/readyz", s.getReady)
	if s.config.Metrics != nil {
		get("/metrics", s.large(s.getMetrics))
	}
	for path, file := range page {
		get(path, file.get)
	}
	r.NotFound(s.handle(notFound))
	r.MethodNotAllowed(s.handle(func(w http.ResponseWriter, req *http.Request) error { return methodNotAllowed(r, w, req) }))
	return r
}

// allowTiming lets pages of the allowed origins read the protocol of a response (W3C Resource
// Timing, section 4.5.1). presence.js then knows how many streams the browser can open.
func allowTiming(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if origin := w.Header().Get("Access-Control-Allow-Origin"); origin != "" {
			w.Header().Set("Timing-Allow-Origin", origin)
		}
		next.ServeHTTP(w, r)
	})
}

// handle returns a handler that responds to an error of f with a problem document (RFC 9457). An
// error without an entry in problems is an internal error, so its text is logged and not sent to
// the client.
func (s *Server) handle(f func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		err := f(w, r)
		if err == nil {
			return
		}
		p := problemOf(err)
		s.record(r, p, err)
		w.Header().Set("X-Request-Id", factsOf(r).requestID(r))
		writeProblem(w, p)
	}
}

// screen returns a middleware that responds with the error of check, if there is one.
func (s *Server) screen(check func(*http.Request) error) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return s.handle(func(w http.ResponseWriter, r *http.Request) error {
			err := check(r)
			if err == nil {
				next.ServeHTTP(w, r)
			}
			return err
		})
	}
}

// large makes the handler wait for a slot of its connection before it runs. A waiting request costs
// only its goroutine.
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

// notFound names the path, because a proxy may have kept a prefix that the client does not see.
func notFound(_ http.ResponseWriter, r *http.Request) error {
	return reject(http.StatusNotFound, "no resource at path %.300q", r.URL.Path)
}

// methodNotAllowed responds with 405 and the methods of the path (RFC 9110 section 15.5.6).
func methodNotAllowed(routes chi.Router, w http.ResponseWriter, r *http.Request) error {
	var allow []string
	for _, method := range []string{http.MethodDelete, http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut} {
		if routes.Match(chi.NewRouteContext(), method, routePath(r)) {
			allow = append(allow, method)
		}
	}
	if len(allow) == 0 { // chi also calls this handler for an unknown method at an unknown path
		return notFound(w, r)
	}
	w.Header().Set("Allow", strings.Join(allow, ", "))
	return reject(http.StatusMethodNotAllowed, "method %s not allowed at this path", r.Method)
}

func (s *Server) getMetrics(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Cache-Control", "no-store")
	s.config.Metrics.ServeHTTP(w, r)
	return nil
}

func (s *Server) getHealth(w http.ResponseWriter, r *http.Request) error {
	return writeJSON(w, http.StatusOK, map[string]string{"status": "alive"})
}

// getReady responds with 503 while this node drains, and before its first contact with the
// backplane. If the contact is down later, the response is
//
//	{"status":"ready","backplane":"down"}
//
// or 503 with Config.ReadyNeedsBackplane. All nodes may be cut off at the same time. If none were
// ready then, a load balancer would send no client to any of them.
func (s *Server) getReady(w http.ResponseWriter, r *http.Request) error {
	var ready struct {
		Status    string `json:"status"`
		Backplane string `json:"backplane,omitempty"`
	}
	ready.Status = "ready"
	switch ever, down := s.hub.Contact(); {
	case s.hub.Draining():
		return &problem{status: http.StatusServiceUnavailable, detail: ErrDraining.Error()}
	case !ever, down && s.config.ReadyNeedsBackplane:
		return &problem{status: http.StatusServiceUnavailable, detail: "backplane unavailable"}
	case down:
		ready.Backplane = "down"
	}
	return writeJSON(w, http.StatusOK, ready)
}

// Shutdown stops the server in this order:
//
//  1. The server rejects new messages, sends new clients a goodbye event with the reason draining,
//     and fails readyz.
//  2. The clients receive all accepted messages.
//  3. Each client receives a goodbye event with the reason draining, and its stream ends.
//
// If the Backplane is shared, the goodbyes are spread over time: see Config.ShutdownGrace. Until
// the last of them, the server accepts messages.
//
// Shutdown returns after the last stream has ended. If Harden is used, goroutines of open
// connections remain until the connections close. No other goroutine is left. If ctx is done first,
// Shutdown sends the goodbyes that are left, returns its error and continues in the background.
// Close the listener only after Shutdown. A second call waits for the first.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.hub.Close(ctx)
	s.refusals.Close()
	if err != nil {
		return fmt.Errorf("presence: shutdown: %w", err)
	}
	return nil
}
