package presence

import (
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/internal/guard"
	"example.com/presence/pkg/presence/internal/hub"
	"example.com/presence/pkg/presence/internal/input"
	"example.com/presence/pkg/presence/room"
)

// Authenticator authenticates requests. It must be safe for concurrent use.
//
// Authenticate must not change the request or read its body. Its error determines the response:
//
//	[auth.ErrNoToken]       401, with a fixed text
//	[auth.ErrBadToken]      401, with the text of the error
//	[auth.ErrUnavailable]   503: the credential cannot be verified at the moment
//	any other error         401, without its text
//
// If the credential is a cookie, set User.Session: the server then rejects requests from pages of
// other origins.
//
// POST /session carries the token in its body. To verify that token, the server calls Authenticate
// with a copy of the request that has the token in an Authorization: Bearer header, and no cookie.
//
// If the error for GET /session is [auth.ErrBadToken], the server checks whether the cookie is the
// only credential. It calls Authenticate two more times: once with only the cookies of the request,
// and once without them.
//
// If an Authenticator also has the method Fingerprint() string, nodes that share a Backplane log a
// warning if its results differ between them. The server calls it once per heartbeat between nodes,
// also while it calls Authenticate, so that a change of keys is seen. [auth.JWT] has it.
type Authenticator interface {
	Authenticate(*http.Request) (User, error)
}

// Count selects the number that the user count reports.
type Count string

// CountConnections counts the open connections. CountUsers counts each user once, including users
// in their grace period.
const (
	CountConnections Count = "connections"
	CountUsers       Count = "users"
)

// DefaultMaxIdleConnections is the default of Config.MaxIdleConnections.
const DefaultMaxIdleConnections = guard.DefaultMaxIdle

// DefaultContentSecurityPolicy is the default of Config.ContentSecurityPolicy. It allows a page to
// load scripts, styles, images and data from its own origin only. It forbids inline scripts and
// styles, and it forbids framing (Content Security Policy Level 3).
const DefaultContentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// maxPolicy is the maximum length of Config.ContentSecurityPolicy, in bytes.
const maxPolicy = 4 << 10

// Config holds the settings of a [Server]. A zero field means its default. Only Authenticator has
// no default.
type Config struct {
	// Authenticator authenticates all requests. Required.
	Authenticator Authenticator

	// Guest enables POST /login, which any client may call. Guest creates a guest with the given
	// name (1 to 128 bytes), and returns a token and its user. Use it for development and
	// demonstrations only. Default: nil, no guests.
	Guest func(name string) (token string, guest User, err error)

	// Count selects the number that the user count reports. Default: CountConnections.
	Count Count

	// Coalesce is the minimum time between two user counts that are sent to the whole room, 1 ms to
	// 750 ms. A shorter time costs more writes per client. Default: 50 ms.
	Coalesce time.Duration

	// Linger is the grace period: the time for which a user stays in the room after its last
	// connection closes, at most 5 minutes. A negative value means no grace period. If it is too
	// short, a page reload causes a leave and a join. If it is too long, users that are gone are
	// still shown. Default: 5 s.
	Linger time.Duration

	// Heartbeat is the time between two pings on a stream, 1 s to 5 minutes. It must be shorter
	// than the idle timeout of any proxy in front of the server. Default: 15 s.
	Heartbeat time.Duration

	// MemberLimit is the maximum number of members of a room that sends members to its clients. A
	// larger room sends counts only. A higher limit makes joins more expensive, because every
	// client receives every member. Default: 500.
	MemberLimit int

	// History is the number of messages that each room keeps, for clients that resume and for pages
	// of the history. A negative value means that no messages are kept, so a client that missed a
	// message receives reset. A message costs its encoded size plus about 200 bytes. Default:
	// 1,000.
	History int

	// HistoryAge is the maximum age of a kept message, 1 s to 24 hours. It is also the time after
	// which a room without members and messages is dropped, together with its history. A longer
	// time keeps unused rooms in memory for longer. Default: 5 minutes.
	HistoryAge time.Duration

	// HistoryBytes is the maximum total size of the histories of all rooms, in bytes. Each user
	// with a kept message in a room counts as about 200 bytes more. At the limit, the user whose
	// messages use the most bytes over all rooms loses messages first: the oldest message of the
	// room in which this user uses the most is evicted. The messages of Server.Publish count as
	// those of one more user. Default: 64 MiB.
	HistoryBytes int

	// MaxConnections is the maximum number of open streams. At the limit, a new client receives
	// goodbye full and reconnects after 10 to 30 s. 0 means unlimited; the open-file limit still
	// applies. Default: 0.
	MaxConnections int

	// MaxConnectionsPerUser is the maximum number of open streams per user, across all rooms. At
	// the limit, a new client of that user receives goodbye full. 0 means unlimited. Default: 0.
	MaxConnectionsPerUser int

	// MaxIdleConnections is the maximum number of idle connections, which are connections without a
	// stream. It applies to the listeners of Server.Harden. At the limit, a new connection evicts a
	// connection that never sent a complete request, or else the one that has been idle longest.
	// Default: 1,024.
	MaxIdleConnections int

	// MaxConnectionsPerAddress is the maximum number of connections per client address (per /64 for
	// IPv6), including streams. It applies to the listeners of Server.Harden. A connection above
	// the limit is reset immediately. Behind a proxy, all clients share the address of the proxy,
	// unless ProxyProtocol is set. Peers on a Unix socket have no limit. 0 means unlimited.
	// Default: 0.
	MaxConnectionsPerAddress int

	// MaxRooms is the maximum number of rooms. At the limit, a new room evicts an empty room,
	// together with its history: that of the user that has created the most of these rooms, and of
	// its rooms the one that has been empty longest. If no room is empty, the new room is rejected:
	// a stream receives goodbye full. An empty room costs 3 KB. Default: 100,000.
	//
	// If a user has created more rooms than are free, its next room evicts an empty room in the
	// same way, but is rejected if the user has created more rooms than the other one. So one user
	// alone can use half of MaxRooms plus one room, and others find a free room. Publish has no
	// such limit. If all visitors share one user, set MaxRooms to twice the number of rooms.
	MaxRooms int

	// MaxRoomsPerUser is the maximum number of rooms that each user has created. A room whose
	// creator has no connection in it counts for another user that has one. At the limit, a new
	// room of the user evicts its own room that has been empty longest; if it has none, the new
	// room is rejected: a stream receives goodbye full. 0 means no limit of its own, beside that of
	// MaxRooms. Default: 0.
	MaxRoomsPerUser int

	// FullStatus is the HTTP status of a stream that is rejected at a limit:
	//
	//   - 200: the stream contains only goodbye full. A browser's EventSource then reconnects.
	//   - 503: the response is a problem document, for a load balancer that tries the next server.
	//
	// If the process runs out of file descriptors, the status is always 200, because this limit is
	// detected too late. Default: 200.
	FullStatus int

	// MessageRate is the maximum number of messages per second for each user, across all rooms.
	// MessageBurst is the burst size of that rate limit. A message above the limit is rejected with
	// 429 and a Retry-After header. A negative rate means unlimited. Admins and Publish have no
	// rate limit. Default: 20 and 40.
	MessageRate  float64
	MessageBurst int

	// CostRate is the maximum cost of the requests of each user, in bytes per second, and CostBurst
	// the cost that a user may cause at once after a pause, in bytes:
	//
	//	message           size of its data × clients of the room
	//	join              size of the snapshot; nothing if it is at most 4 KiB
	//	page of members   1 KiB × members in it
	//	page of messages  size of its messages, or more for an old page; at least 1 KiB
	//	state             1 KiB × clients of the room, at least 64 KiB
	//
	// A request may exceed the rest of the limit, but then the user must wait until that is paid.
	// Until then its requests are rejected with 429 and a Retry-After header, and its streams like
	// those at a limit, except in rooms with a snapshot of at most 4 KiB. A negative rate means
	// unlimited. Admins and the methods of a Server have no cost rate. CostBurst is at least 64
	// KiB. Default: 48 MiB and 96 MiB.
	CostRate, CostBurst int

	// HistoryRate is the maximum size of the messages that each user may send through this node, in
	// bytes per second, if other nodes share the history. After a pause, a user may add a sixteenth
	// of HistoryBytes at once. A message above the limit is rejected with 429 and a Retry-After
	// header. It keeps one user from evicting the messages of others; a node without others evicts
	// the messages of the user that has most instead. A negative rate means unlimited. Admins and
	// Publish have no limit. Default: 32 KiB.
	HistoryRate int

	// MaxMessage is the maximum size of the body of POST /messages, and of the JSON-encoded data of
	// Publish, in bytes. It is at most 1 MiB. Default: 64 KiB.
	MaxMessage int

	// MaxUnsent is the backlog of shared events, in bytes, above which a client is a slow consumer.
	// It is at least four times MaxMessage. The server disconnects a slow consumer if it receives
	// less than 32 KiB in one second, or if its backlog reaches sixteen times MaxUnsent. Default:
	// 256 KiB, or four times MaxMessage if that is more.
	MaxUnsent int

	// MaxUnsentTotal is a threshold, in bytes, for the shared events that are on their way or wait
	// in the backlogs of all connections. An event counts once for its room. Above it, clients that
	// took less than 32 KiB in 15 s are disconnected, beginning with the user whose backlogs are
	// largest. Each user with rooms that have a backlog gets an equal share of it, and each of
	// these rooms an equal part of that, at least four times MaxMessage. A room above its part,
	// whose user is above its share, rejects messages and states with 503, and streams like those
	// at a limit, until it has caught up. If all rooms exceed MaxUnsentTotal by 512 MiB, there is
	// no smallest part. It is at least four times MaxMessage. Default: 64 MiB.
	MaxUnsentTotal int

	// CORSOrigins are the origins whose pages may use this server from a browser, with its cookie.
	// An entry has the form scheme://host[:port], with any scheme that a browser or an app shell
	// sends:
	//
	//	https://example.com
	//	https://*.example.com       * is exactly one label
	//	capacitor://localhost
	//	chrome-extension://ID
	//	*                           every page, with its own token, never with the cookie
	//
	// Origins are compared by scheme, lower-cased host and port (RFC 6454 section 5). The entry "*"
	// must be the only one. Default: none.
	CORSOrigins []string

	// Hosts are the hosts that requests may name, without a port. Others are localhost, the names
	// below localhost, loopback addresses and the hosts of CORSOrigins. A request for any other
	// host is rejected with 421. Set it if the server accepts clients without a secret token, such
	// as guests on a developer's machine: otherwise a page of another site can reach the server
	// with DNS rebinding. Default: none, so a request may name any host.
	Hosts []string

	// TrustedProxies are the addresses of proxies whose X-Forwarded-For or Forwarded header (RFC
	// 7239) the log uses as the address of the client. A proxy must add to the header or replace
	// it. If a request has both headers, X-Forwarded-For is used. A peer on a Unix socket is always
	// trusted. The prefixes must have no host bits. Default: none, so the address is that of the
	// peer.
	TrustedProxies []netip.Prefix

	// DisableIOUring makes the server send with write(2) only. Otherwise, it sends to rooms with
	// many clients with io_uring(7), which needs less CPU time, if the system is Linux and allows
	// it. Stats reports the way in use, and the reason if it is write. Default: false.
	DisableIOUring bool

	// ProxyProtocol makes the peers in TrustedProxies, and the peers on a Unix socket, begin each
	// connection with a PROXY header (version 1 or 2). The address in it is then the RemoteAddr of
	// the requests, and counts for MaxConnectionsPerAddress. A connection of these peers without a
	// valid header is closed. Other peers must not send one. It applies to the listeners of
	// Server.Harden. Default: false.
	ProxyProtocol bool

	// Cookie holds the attributes of the session cookie.
	Cookie Cookie

	// KeepHandler keeps the handler of GET /events running until its stream ends. Set it if the
	// embedding program's middleware must span the stream. The stream then also ends when the
	// request's context is canceled. Each stream costs about 10 KB more. Default: false. Over
	// HTTP/1 the handler then returns immediately, and the stream continues without it.
	KeepHandler bool

	// Backplane is the engine that the nodes of a cluster share. It carries messages, bans and
	// commands. The embedding program closes its Backplane after Shutdown. Default: nil, an
	// in-memory engine for a single node, whose log is limited by History, HistoryAge and
	// HistoryBytes.
	Backplane backplane.Bus

	// Node is the label of this node, 1 to 64 printable characters without blanks. It is used only
	// if the Backplane is shared: the logs of all nodes show it beside the random id of the node.
	// Nodes with the same label work, but the log has a warning. Default: the host name.
	Node string

	// ReadyNeedsBackplane makes GET /readyz respond with 503 whenever this node has no contact with
	// the Backplane. A load balancer then sends its clients to other nodes. If no node has contact,
	// it sends them nowhere, although each node could still count its own clients. Default: false,
	// so the response is 503 only before the first contact; later it is 200, and its body has
	// "backplane":"down".
	ReadyNeedsBackplane bool

	// ShutdownGrace is the time that the operator allows for Shutdown. If the Backplane is shared,
	// Shutdown spreads the goodbyes over half of it, after a quarter of it, so that the other nodes
	// do not get all clients at once. Shutdown takes at least that quarter then. A client that has
	// reconnected to another node within Linger does not leave. Without a shared Backplane, the
	// field has no effect. Default: 0, so all goodbyes are sent at once.
	ShutdownGrace time.Duration

	// Metrics is the handler of GET /metrics, which any client may request, such as one of package
	// promhttp for the collector of package metrics. Default: nil, no such path.
	Metrics http.Handler

	// Observer receives measurements, such as those of package metrics. Default: none.
	Observer Observer

	// Web holds the files that are served at GET / and below, with index.html at the root. Pages of
	// all origins can read its scripts (*.js), so put no secret into them. Default: nil, no files.
	Web fs.FS

	// ContentSecurityPolicy is the Content-Security-Policy header of the files in Web, at most 4096
	// bytes without control characters. Set it if the page loads from or connects to another
	// origin. Default: [DefaultContentSecurityPolicy].
	ContentSecurityPolicy string

	// OnMessage, OnJoin and OnLeave are hooks that are called after each event. Nil means no hook.
	//
	//   - Hooks are called one at a time, in the event order of each room. No lock is held during a
	//     call.
	//   - Hooks run separately from the streams, so a slow hook delays no client.
	//   - Each hook has a queue of at most 64 MiB. Above that, calls are dropped, which is logged
	//     at most once per minute.
	//   - A panic in a hook ends the program.
	//   - A hook must not wait for Shutdown, because Shutdown waits for the hooks. Clients that
	//     Shutdown disconnects cause no OnLeave calls.
	//
	// OnJoin is called when a member joins a room, and OnLeave when it leaves, after its grace
	// period. For each member of a room the two alternate, and OnJoin is the first. Each OnJoin is
	// followed by an OnLeave, unless the server shuts down or calls are dropped.
	//
	// If Backplane is shared, OnMessage is called on the node that accepted the message. A node
	// calls OnJoin and OnLeave for the members of all nodes, but only while it serves the room:
	// from its first client until it has neither a client nor a user in its grace period.
	//
	//   - The first client causes OnJoin for each member of the room.
	//   - When the node ceases to serve the room, it calls OnLeave for each member that is still in
	//     the room on other nodes. The reason is empty, because the member has not left.
	OnMessage func(Message)
	OnJoin    func(room string, m Member)
	OnLeave   func(room string, m Member, reason Reason)

	// Logger receives the log lines, which report events that an operator can act on. Default:
	// slog.Default().
	Logger *slog.Logger

	count        func(*room.Room) int // returns the user count that Count selects
	portable     bool                 // sets stream.Config.Portable
	maxSnapshots int                  // sets hub.Config.MaxSnapshots
	minRing      int                  // sets stream.Config.MinRing
}

// Observer has functions that the server calls with a measurement. Each may be nil. They are called
// by goroutines that serve many clients, so they must return within microseconds, and they must be
// safe for concurrent use.
type Observer struct {
	// JoinToCount receives the time from a join until the user count that includes it was written
	// to the clients of the room on this node, or queued for slow ones.
	JoinToCount func(time.Duration)
	// LoopPass receives the duration of a turn of an event loop. All clients of the loop wait
	// meanwhile.
	LoopPass func(time.Duration)
	// RoundTrip receives the time from the publication of a heartbeat of this node until this node
	// has received it from the backplane, once per second, if the Backplane is shared.
	RoundTrip func(time.Duration)
}

// Cookie holds the attributes of the session cookie, which POST /session and POST /login set. The
// cookie is always HttpOnly. Its name depends on the attributes:
//
//	__Host-presence_token  Secure, mounted at /, and neither Domain nor Path is set
//	presence_token         otherwise
//
// No other host of the domain can set a cookie with the first name ([auth.HostCookieName]), and the
// server reads no other then. With the second name, the first valid one counts, and each host of
// the domain must be trusted: it can sign a visitor in as another user.
type Cookie struct {
	// Path is the cookie's Path attribute. Set it if a proxy removes a prefix from the paths of
	// requests: it is the path at which the browser finds the server, such as /presence/. Default:
	// the mount point of the server.
	Path string
	// SameSite is the cookie's SameSite attribute. A page on another site needs SameSiteNoneMode,
	// which requires a Secure cookie. Default: http.SameSiteLaxMode.
	SameSite http.SameSite
	// Domain is the cookie's Domain attribute. Empty means this host only. Default: empty.
	Domain string
	// Insecure omits the Secure attribute, so that the cookie works over plain HTTP. Default:
	// false.
	Insecure bool
}

// ConfigError is the error that [New] returns for an invalid [Config] field.
type ConfigError struct {
	// Field is the name of the field, such as Coalesce, CORSOrigins or Cookie.Domain.
	Field string
	// Reason continues a sentence that starts with the field: it states the allowed values and the
	// invalid value, such as "is 1ms to 750ms, not 2s".
	Reason string

	cause error // may be nil
}

// Error returns the name of the field and the reason.
func (e *ConfigError) Error() string { return "config: " + e.Field + " " + e.Reason }

// Unwrap returns the cause of a Web error, such as a file that cannot be read. It returns nil for
// any other field.
func (e *ConfigError) Unwrap() error { return e.cause }

// LargestPublication returns the size of the largest entry or publication that a server with this
// configuration sends to its Backplane, in bytes. It is about twice MaxMessage, but at least 640
// KiB: that of a frame with the longest names and infos.
func (c Config) LargestPublication() int {
	setDefault(&c.MaxMessage, 64<<10)
	return max(hub.LargestRecord(c.MaxMessage), hub.LargestFrame)
}

// withDefaults returns a copy of c in which zero fields have their defaults. A non-nil error is a
// *ConfigError.
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
	setDefault(&c.MaxUnsentTotal, 64<<20)
	setDefault(&c.CostRate, 48<<20)
	setDefault(&c.CostBurst, 96<<20)
	setDefault(&c.HistoryRate, 32<<10)
	setDefault(&c.ContentSecurityPolicy, DefaultContentSecurityPolicy)
	setDefault(&c.Cookie.SameSite, http.SameSiteLaxMode)
	setDefault(&c.Logger, slog.Default())
	if c.Node == "" {
		c.Node = hostLabel()
	}
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

// hostLabel returns the host name, or "unnamed" if it is no label.
func hostLabel() string {
	if name, err := os.Hostname(); err == nil && hub.IsLabel(name) {
		return name
	}
	return "unnamed"
}

// check returns an error for the first field that is out of bounds. Call it after the defaults are
// set.
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
		{"MaxRoomsPerUser", c.MaxRoomsPerUser >= 0, "at least 0", c.MaxRoomsPerUser},
		{"FullStatus", c.FullStatus == http.StatusOK || c.FullStatus == http.StatusServiceUnavailable, "200 or 503", c.FullStatus},
		{"ShutdownGrace", c.ShutdownGrace >= 0, "at least 0s", c.ShutdownGrace},
		{"Node", hub.IsLabel(c.Node), "1 to 64 printable characters without blanks", strconv.Quote(c.Node)},
		{"MessageRate", !math.IsNaN(c.MessageRate) && !math.IsInf(c.MessageRate, 0), "a number", c.MessageRate},
		{"MessageBurst", c.MessageBurst >= 1, "at least 1", c.MessageBurst},
		{"MaxMessage", c.MaxMessage >= 1 && c.MaxMessage <= 1<<20, "1 byte to 1 MiB", c.MaxMessage},
		{"CostBurst", c.CostBurst >= 64<<10, "at least 65536", c.CostBurst},
		{"MaxUnsentTotal", c.MaxUnsentTotal >= 4*c.MaxMessage, fmt.Sprintf("at least four times MaxMessage, %d", 4*c.MaxMessage), c.MaxUnsentTotal},
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
	case c.Cookie.Path != "" && !isCookiePath(c.Cookie.Path):
		return &ConfigError{Field: "Cookie.Path", Reason: fmt.Sprintf("is a path of at most %d bytes that starts with /, with special characters percent-encoded, not %q", maxCookiePath, c.Cookie.Path)}
	case c.Cookie.SameSite == http.SameSiteNoneMode && c.Cookie.Insecure:
		return &ConfigError{Field: "Cookie.SameSite", Reason: "is None, which needs a Secure cookie: browsers reject it otherwise"}
	}
	return nil
}

// maxCookiePath is the maximum length of Cookie.Path, in bytes. Browsers ignore a longer attribute
// (RFC 6265bis section 5.6).
const maxCookiePath = 1024

// isCookiePath reports whether a browser can match the path with the path of a URL. It compares
// them without decoding (RFC 6265 section 5.1.4). net/http would remove some other characters.
func isCookiePath(path string) bool {
	u, err := url.Parse(path)
	return err == nil && path[0] == '/' && len(path) <= maxCookiePath && u.Host == "" && u.RawQuery == "" && u.Fragment == "" &&
		u.EscapedPath() == path && !strings.ContainsAny(path, `;"\`)
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
