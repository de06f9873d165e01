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

// Authenticator says who a request comes from. It may be called by many
// goroutines at once.
//
// The request is never changed and its body never read. An error that is
// [auth.ErrNoToken] or [auth.ErrBadToken] is answered with 401, one that is
// [auth.ErrUnavailable] (the keys cannot be had just now) with 503, and any
// other with 401 and without its text.
//
// POST /session asks it about the token in the body: with a request that has
// that token as its Authorization: Bearer header and no cookie.
//
// GET /session asks it again where it answers with [auth.ErrBadToken]: with the
// request's cookies alone, and without them.
type Authenticator interface {
	Authenticate(*http.Request) (User, error)
}

// Count says what the user count counts.
type Count string

// The two counts. The number of connections is what is open right now; the
// number of users has each once, and those who linger too.
const (
	CountConnections Count = "connections"
	CountUsers       Count = "users"
)

// DefaultMaxIdleConnections is Config.MaxIdleConnections by default.
const DefaultMaxIdleConnections = guard.DefaultMaxIdle

// DefaultContentSecurityPolicy is the default of Config.ContentSecurityPolicy. A page with it loads
// scripts, styles, images and data from its own origin only, runs no inline script or style, and
// cannot be framed (Content Security Policy Level 3).
const DefaultContentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// maxPolicy is the maximum length of Config.ContentSecurityPolicy, in bytes.
const maxPolicy = 4 << 10

// Config holds the settings of a [Server]. The zero value of each field is its
// default, which the field names; only Authenticator has none.
type Config struct {
	// Authenticator says who asks. Required.
	Authenticator Authenticator

	// Guest, if set, opens POST /login to anyone: it makes a token for a new
	// guest of that name (1 to 128 bytes), and says whom the token names. For
	// development and demonstrations only.
	Guest func(name string) (token string, guest User, err error)

	// Count is what the user count counts: connections by default.
	Count Count

	// Coalesce is the shortest time between two user counts to a whole room: 50 ms by default, from
	// 1 ms to 750 ms. A shorter one costs a write per client more often.
	Coalesce time.Duration

	// Linger is how long a user stays in the room after its last connection
	// ended: 5 s by default, 5 minutes at most; negative means not at all.
	// Short makes a reload a leave and a join; long shows people who are gone.
	Linger time.Duration

	// Heartbeat is the time between two pings on a stream: 15 s by default,
	// from 1 s to 5 minutes. A proxy that closes idle connections must wait
	// longer than this.
	Heartbeat time.Duration

	// MemberLimit is the number of members above which a room tells counts
	// only: 500 by default. What a join costs grows with it, as everybody is
	// told of everybody.
	MemberLimit int

	// History is how many messages of a room are kept for clients that come
	// back: 1,000 by default; negative means none, so that whoever missed one is
	// told reset. A message costs its size on the wire and some 200 bytes.
	History int

	// HistoryAge is how long a message is kept at most, and how long a room in
	// which nobody is and nothing is said stays, with its history: 5 minutes by
	// default, from 1 s to 24 hours. Long costs the memory of rooms that nobody uses.
	HistoryAge time.Duration

	// HistoryBytes bounds the histories of all rooms together, in bytes: 64 MiB
	// by default. Above it the oldest message of all goes first.
	HistoryBytes int

	// MaxConnections bounds the open streams: no bound by default, and then what
	// ends the rise is the number of descriptors. Who comes above it is told
	// goodbye full, and to come back in 10 to 30 s.
	MaxConnections int

	// MaxConnectionsPerUser bounds those of one user, in all rooms together: no
	// bound by default. Who has so many already is told goodbye full.
	MaxConnectionsPerUser int

	// MaxIdleConnections bounds the connections that carry no stream, of the
	// listeners of Server.Harden: 1,024 by default. At the limit a newcomer
	// evicts one that never sent a whole request, else the longest idle.
	MaxIdleConnections int

	// MaxConnectionsPerAddress bounds all connections of one client address (one
	// /64 with IPv6), of the listeners of Server.Harden: no bound by default.
	// Above it a connection is reset as it comes. Behind a proxy all have the
	// proxy's address.
	MaxConnectionsPerAddress int

	// MaxRooms bounds the rooms: 100,000 by default. A new one above it takes the
	// place of the one that nobody has been in for longest, whose history goes,
	// or is refused if there is none: to a stream with goodbye full. An empty room
	// costs 3 KB.
	MaxRooms int

	// FullStatus is how a stream is refused for want of room: 200 by default,
	// with goodbye full on it, after which a browser's EventSource comes back;
	// or 503, a problem document, for a balancer that tries the next server. For
	// want of descriptors it is always the former: that is noticed too late.
	FullStatus int

	// MessageRate is how many messages a second each user may send, in all rooms
	// together, and MessageBurst how many at once: 20 and 40 by default; a
	// negative rate means any number. Who sends faster is answered with 429 and
	// the time to wait. Admins and Publish are not held to it.
	MessageRate  float64
	MessageBurst int

	// MaxMessage is the largest body of a POST, and the largest data of Publish
	// as JSON, in bytes: 64 KiB by default, 1 MiB at most.
	MaxMessage int

	// MaxUnsent is how many bytes of shared events may wait for a client before
	// it must hurry: 256 KiB by default, at least four times MaxMessage. A
	// client for which more waits is sent away when it takes less than 32 KiB
	// in a second, or when sixteen times as much waits.
	MaxUnsent int

	// CORSOrigins are the origins whose pages may use this server from a browser,
	// with its cookie: scheme://host[:port], of any scheme that a browser or an app
	// shell sends, such as https://example.com, capacitor://localhost or
	// chrome-extension://ID. In https://*.example.com the star stands for one label.
	// They are compared by scheme, lower-cased host and port (RFC 6454 section 5).
	// The single "*" lets every page use it with a token of its own, never with the
	// cookie. Default: none.
	CORSOrigins []string

	// Cookie says how the session cookie is set.
	Cookie Cookie

	// KeepHandler has the handler of GET /events run until its stream ends, for
	// a host whose middleware must span the stream; the end of the request's
	// context then ends it. By default the handler returns at once over HTTP/1,
	// and the stream goes on without it; kept, each costs some 10 KB.
	KeepHandler bool

	// Backplane is the engine that the nodes of one server share: messages, bans and commands. Nil
	// is one in memory, for a single node; then History, HistoryAge and HistoryBytes bound its log.
	// The host closes a Backplane of its own, after Shutdown.
	Backplane backplane.Bus

	// Web is what GET / and the paths below it serve, index.html at the root;
	// nil serves no files.
	Web fs.FS

	// ContentSecurityPolicy is the header of that name on the files of Web, at most 4096 bytes
	// without control characters. A page that loads from or connects to another origin needs one of
	// its own. Default: [DefaultContentSecurityPolicy].
	ContentSecurityPolicy string

	// OnMessage, OnJoin and OnLeave, if set, hear what happened, one after the
	// other, in order a room and outside of any lock. They run beside the
	// streams, so that a slow one delays no client; while what waits for them
	// is more than 64 MiB it is dropped, which is logged once a minute. One that
	// panics ends the program; none may wait for Shutdown, which waits for them and tells no
	// leaves.
	OnMessage func(Message)
	OnJoin    func(room string, m Member)
	OnLeave   func(room string, m Member, reason Reason)

	// Logger takes what an operator could act on; slog.Default() by default.
	Logger *slog.Logger

	count        func(*room.Room) int // what Count says
	portable     bool                 // stream.Config.Portable
	maxSnapshots int                  // hub.Config.MaxSnapshots
}

// Cookie says how POST /session and POST /login set the session cookie, whose
// name is [auth.CookieName]. It is always HttpOnly, and its path is where the server is mounted.
type Cookie struct {
	// SameSite is http.SameSiteLaxMode by default. SameSiteNoneMode, for a page
	// on another site, needs a cookie that is Secure.
	SameSite http.SameSite
	// Domain is the cookie's Domain attribute; empty means this host alone.
	Domain string
	// Insecure leaves out the Secure attribute, for plain HTTP.
	Insecure bool
}

// ConfigError is the error of [New] for a [Config] with a bad field.
type ConfigError struct {
	// Field is the name of the Config's field, such as Coalesce, CORSOrigins or Cookie.Domain.
	Field string
	// Reason continues a sentence that begins with the field's name: the allowed values, and the
	// bad one, such as "is 1ms to 750ms, not 2s".
	Reason string

	cause error // nil if there is none
}

// Error returns the field and the reason.
func (e *ConfigError) Error() string { return "config: " + e.Field + " " + e.Reason }

// Unwrap returns the error of reading Config.Web; nil for any other field.
func (e *ConfigError) Unwrap() error { return e.cause }

// withDefaults returns the config with its defaults in place. The error is a *ConfigError.
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

// check returns the first field that is out of its bounds, nil if there is none. The defaults must
// be in place.
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
		return &ConfigError{Field: "Cookie.Domain", Reason: fmt.Sprintf("%q is no domain", c.Cookie.Domain)}
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
