package presence

import (
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/internal/guard"
	"example.com/presence/pkg/presence/internal/hub"
	"example.com/presence/pkg/presence/internal/input"
	"example.com/presence/pkg/presence/room"
)

// Authenticator authenticates requests. It is called by many goroutines at once.
//
// Authenticate must not change the request or read its body. Its error determines the answer:
//
//	[auth.ErrNoToken], [auth.ErrBadToken]   401, with the text of the error
//	[auth.ErrUnavailable]                   503: the keys are not available
//	any other error                         401, without its text
//
// POST /session authenticates the token in its body: the request then has that token in an
// Authorization: Bearer header, and no cookie.
//
// If the error for GET /session is [auth.ErrBadToken], the server calls Authenticate again: once
// with only the cookies of the request, and once without them.
type Authenticator interface {
	Authenticate(*http.Request) (User, error)
}

// Count selects the meaning of the user count.
type Count string

// CountConnections counts the open connections. CountUsers counts each user once, users in their
// grace period included.
const (
	CountConnections Count = "connections"
	CountUsers       Count = "users"
)

// DefaultMaxIdleConnections is Config.MaxIdleConnections by default.
const DefaultMaxIdleConnections = guard.DefaultMaxIdle

// DefaultContentSecurityPolicy is the default of Config.ContentSecurityPolicy. With it a page loads
// scripts, styles, images and data from its own origin only. It runs no inline script or style, and
// cannot be framed (Content Security Policy Level 3).
const DefaultContentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// maxPolicy is the maximum length of Config.ContentSecurityPolicy, in bytes.
const maxPolicy = 4 << 10

// Config holds the settings of a [Server]. The zero value of a field means its default. Only
// Authenticator has no default.
type Config struct {
	// Authenticator authenticates the requests. Required.
	Authenticator Authenticator

	// Guest enables POST /login, which is open to any client. It returns a token for a new guest of
	// that name (1 to 128 bytes), and the user of the token. For development and demonstrations
	// only. Default: nil, no guests.
	Guest func(name string) (token string, guest User, err error)

	// Count is the meaning of the user count. Default: CountConnections.
	Count Count

	// Coalesce is the minimum time between two user counts to a whole room, 1 ms to 750 ms. A
	// shorter time costs more writes per client. Default: 50 ms.
	Coalesce time.Duration

	// Linger is the grace period: the time that a user stays in the room after its last connection
	// ended, at most 5 minutes. A negative value means none. A short one turns a page reload into a
	// leave and a join. A long one shows users that are gone. Default: 5 s.
	Linger time.Duration

	// Heartbeat is the time between two pings on a stream, 1 s to 5 minutes. The idle timeout of a
	// proxy must be longer. Default: 15 s.
	Heartbeat time.Duration

	// MemberLimit is the largest number of members for which a room sends members. Above it the
	// room sends counts only. The cost of a join grows with it, because every client receives every
	// member. Default: 500.
	MemberLimit int

	// History is the number of messages per room that are kept for clients that resume. A negative
	// value keeps none: a client that missed a message then receives reset. A message costs its
	// size on the wire and some 200 bytes. Default: 1,000.
	History int

	// HistoryAge is the maximum age of a kept message, 1 s to 24 hours. It is also the time after
	// which a room without members and messages is dropped, with its history. A long time costs the
	// memory of unused rooms. Default: 5 minutes.
	HistoryAge time.Duration

	// HistoryBytes is the maximum size of the histories of all rooms together, in bytes. At the
	// limit the oldest message of all rooms is evicted. Default: 64 MiB.
	HistoryBytes int

	// MaxConnections is the maximum number of open streams. A client above it receives goodbye
	// full, and reconnects after 10 to 30 s. 0 means unlimited: then the open-file limit is the
	// limit. Default: 0.
	MaxConnections int

	// MaxConnectionsPerUser is the maximum number of open streams per user, in all rooms together.
	// A client above it receives goodbye full. 0 means unlimited. Default: 0.
	MaxConnectionsPerUser int

	// MaxIdleConnections is the maximum number of connections without a stream, for the listeners
	// of Server.Harden. At the limit a new connection evicts one that never sent a whole request,
	// else the one that is idle longest. Default: 1,024.
	MaxIdleConnections int

	// MaxConnectionsPerAddress is the maximum number of connections per client address (per /64
	// with IPv6), streams included, for the listeners of Server.Harden. A connection above it is
	// reset at once. Behind a proxy all clients have its address. 0 means unlimited. Default: 0.
	MaxConnectionsPerAddress int

	// MaxRooms is the maximum number of rooms. At the limit a new room evicts the room that has
	// been empty longest, with its history. If no room is empty, the new room is refused: a stream
	// receives goodbye full. An empty room costs 3 KB. Default: 100,000.
	MaxRooms int

	// FullStatus is the status with which a stream is refused at a limit:
	//
	//   - 200: the stream consists of goodbye full. A browser's EventSource then reconnects.
	//   - 503: the answer is a problem document, for a load balancer that tries the next server.
	//
	// If the process is out of file descriptors it is always 200, because that is detected too
	// late. Default: 200.
	FullStatus int

	// MessageRate is the number of messages per second that each user may send, in all rooms
	// together, and MessageBurst the burst size of that limit. A message above it is answered with
	// 429 and the time to wait. A negative rate means unlimited. Admins and Publish have no rate
	// limit. Default: 20 and 40.
	MessageRate  float64
	MessageBurst int

	// MaxMessage is the maximum body of POST /messages, and the maximum data of Publish as JSON, in
	// bytes. It is at most 1 MiB. Default: 64 KiB.
	MaxMessage int

	// MaxUnsent is the backlog of shared events, in bytes, above which a client is a slow consumer.
	// It is at least four times MaxMessage. The server disconnects such a client if it takes less
	// than 32 KiB in a second, or if its backlog reaches sixteen times MaxUnsent. Default: 256 KiB,
	// or four times MaxMessage if that is more.
	MaxUnsent int

	// CORSOrigins are the origins whose pages may use this server from a browser, with its cookie.
	// The form is scheme://host[:port], with any scheme that a browser or an app shell sends:
	//
	//	https://example.com
	//	https://*.example.com       * is exactly one label
	//	capacitor://localhost
	//	chrome-extension://ID
	//	*                           every page, with its own token, never with the cookie
	//
	// They are compared by scheme, lower-cased host and port (RFC 6454 section 5). The entry "*"
	// must be the only one. Default: none.
	CORSOrigins []string

	// Cookie holds the attributes of the session cookie.
	Cookie Cookie

	// KeepHandler keeps the handler of GET /events running until its stream ends. Set it if the
	// middleware of the host must span the stream. The end of the request's context then ends the
	// stream. Each stream costs some 10 KB more. Default: over HTTP/1 the handler returns at once,
	// and the stream continues without it.
	KeepHandler bool

	// Backplane is the engine that the nodes of one server share: messages, bans and commands. The
	// host closes its own Backplane, after Shutdown. Default: nil, an engine in memory for a single
	// node, whose log is limited by History, HistoryAge and HistoryBytes.
	Backplane backplane.Bus

	// Web holds the files that GET / and the paths below it serve, with index.html at the root.
	// Default: nil, no files.
	Web fs.FS

	// ContentSecurityPolicy is the header of that name for the files of Web, at most 4096 bytes
	// without control characters. Set it for a page that loads from or connects to another origin.
	// Default: [DefaultContentSecurityPolicy].
	ContentSecurityPolicy string

	// OnMessage, OnJoin and OnLeave are hooks, called after each event. Nil means none.
	//
	//   - They are called one at a time, in the order of each room, while no lock is held.
	//   - They run apart from the streams, so that a slow hook delays no client.
	//   - Each hook has a backlog of at most 64 MiB. Above that its calls are dropped, which is
	//     logged at most once per minute.
	//   - A hook that panics ends the program.
	//   - A hook must not wait for Shutdown, which waits for the hooks. Shutdown reports no leaves.
	OnMessage func(Message)
	OnJoin    func(room string, m Member)
	OnLeave   func(room string, m Member, reason Reason)

	// Logger receives the log lines, those that an operator can act on. Default: slog.Default().
	Logger *slog.Logger

	count        func(*room.Room) int // the user count that Count selects
	portable     bool                 // stream.Config.Portable
	maxSnapshots int                  // hub.Config.MaxSnapshots
}

// Cookie holds the attributes of the session cookie, which POST /session and POST /login set. Its
// name is [auth.CookieName]. It is always HttpOnly. Its path is the mount point of the server.
type Cookie struct {
	// SameSite is the cookie's SameSite attribute. SameSiteNoneMode, for a page on another site,
	// requires a Secure cookie. Default: http.SameSiteLaxMode.
	SameSite http.SameSite
	// Domain is the cookie's Domain attribute. Empty means this host only. Default: empty.
	Domain string
	// Insecure omits the Secure attribute, for plain HTTP. Default: false.
	Insecure bool
}

// ConfigError is the error of [New] for an invalid field of its [Config].
type ConfigError struct {
	// Field is the name of the field, such as Coalesce, CORSOrigins or Cookie.Domain.
	Field string
	// Reason is a predicate for the field: the allowed values and the invalid one, such as "is 1ms
	// to 750ms, not 2s".
	Reason string

	cause error // may be nil
}

// Error returns the name of the field and the reason.
func (e *ConfigError) Error() string { return "config: " + e.Field + " " + e.Reason }

// Unwrap returns the error of reading Config.Web, nil for any other field.
func (e *ConfigError) Unwrap() error { return e.cause }

// withDefaults returns the config with its defaults. The error is a *ConfigError.
func (c Config) withDefaults() (Config, error) {
	setDefault(&c.Count, CountConnections)
	setDefault(&c.Coalesce, 50*time.Millisecond)
	setDefault(&c.Linger, 5*time.Second)
	setDefault(&c.Heartbeat, 15*time.Second)
	setDefault(&c.MemberLimit, 500)
	setDefault(&c.History, 1000)
	setDefault(&c.HistoryAge, 5*time.Minute)
	setDefault(&c.HistoryBytes, 64<<20)
	setDefault(&c.MaxIdleConnections, DefaultMaxIdleConnections)
	setDefault(&c.MaxRooms, 100_000)
	setDefault(&c.FullStatus, http.StatusOK)
	setDefault(&c.MessageRate, 20)
	setDefault(&c.MessageBurst, 40)
	setDefault(&c.MaxMessage, 64<<10)
	setDefault(&c.MaxUnsent, max(256<<10, 4*c.MaxMessage))
	setDefault(&c.ContentSecurityPolicy, DefaultContentSecurityPolicy)
	setDefault(&c.Cookie.SameSite, http.SameSiteLaxMode)
	setDefault(&c.Logger, slog.Default())
	c.Linger = max(0, c.Linger)
	c.History = max(0, c.History)
	if c.count == nil {
		c.count = (*room.Room).Connections
		if c.Count == CountUsers {
			c.count = (*room.Room).Users
		}
	}
	return c, c.check()
}

// check returns an error for the first field that is out of its bounds. The defaults must be set.
func (c Config) check() error {
	if c.Authenticator == nil {
		return &ConfigError{Field: "Authenticator", Reason: "is required"}
	}
	for _, f := range []struct {
		name   string
		ok     bool
		bounds string
		value  any
	}{
		{"Count", c.Count == CountConnections || c.Count == CountUsers, `"connections" or "users"`, strconv.Quote(string(c.Count))},
		{"Coalesce", c.Coalesce >= time.Millisecond && c.Coalesce <= hub.MaxCoalesce, "1ms to 750ms", c.Coalesce},
		{"Linger", c.Linger <= 5*time.Minute, "0s to 5m", c.Linger},
		{"Heartbeat", c.Heartbeat >= time.Second && c.Heartbeat <= 5*time.Minute, "1s to 5m", c.Heartbeat},
		{"MemberLimit", c.MemberLimit >= 1, "at least 1", c.MemberLimit},
		{"HistoryAge", c.HistoryAge >= time.Second && c.HistoryAge <= 24*time.Hour, "1s to 24h", c.HistoryAge},
		{"HistoryBytes", c.HistoryBytes >= 1, "at least 1", c.HistoryBytes},
		{"MaxConnections", c.MaxConnections >= 0, "at least 0", c.MaxConnections},
		{"MaxConnectionsPerUser", c.MaxConnectionsPerUser >= 0, "at least 0", c.MaxConnectionsPerUser},
		{"MaxIdleConnections", c.MaxIdleConnections >= 0, "at least 0", c.MaxIdleConnections},
		{"MaxConnectionsPerAddress", c.MaxConnectionsPerAddress >= 0, "at least 0", c.MaxConnectionsPerAddress},
		{"MaxRooms", c.MaxRooms >= 1, "at least 1", c.MaxRooms},
		{"FullStatus", c.FullStatus == http.StatusOK || c.FullStatus == http.StatusServiceUnavailable, "200 or 503", c.FullStatus},
		{"MessageRate", !math.IsNaN(c.MessageRate) && !math.IsInf(c.MessageRate, 0), "a number", c.MessageRate},
		{"MessageBurst", c.MessageBurst >= 1, "at least 1", c.MessageBurst},
		{"MaxMessage", c.MaxMessage >= 1 && c.MaxMessage <= 1<<20, "1 byte to 1 MiB", c.MaxMessage},
		{"MaxUnsent", c.MaxUnsent >= 4*c.MaxMessage, fmt.Sprintf("at least four times MaxMessage, %d", 4*c.MaxMessage), c.MaxUnsent},
	} {
		if !f.ok {
			return &ConfigError{Field: f.name, Reason: fmt.Sprintf("is %s, not %v", f.bounds, f.value)}
		}
	}
	switch {
	case !input.PlainBytes(c.ContentSecurityPolicy, maxPolicy):
		return &ConfigError{Field: "ContentSecurityPolicy", Reason: fmt.Sprintf("is at most %d bytes without control characters", maxPolicy)}
	case strings.Trim(c.Cookie.Domain, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-") != "":
		return &ConfigError{Field: "Cookie.Domain", Reason: fmt.Sprintf("%q is not a domain", c.Cookie.Domain)}
	case c.Cookie.SameSite == http.SameSiteNoneMode && c.Cookie.Insecure:
		return &ConfigError{Field: "Cookie.SameSite", Reason: "is None, which needs a Secure cookie: browsers refuse it otherwise"}
	}
	return nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
