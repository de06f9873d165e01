package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"time"

	"example.com/presence/pkg/presence"
	"example.com/presence/web"
)

// serve is the command that runs the server.
type serve struct {
	Listening listenFlags   `embed:"" group:"Listening"`
	Keys      keyFlags      `embed:"" group:"Tokens (one key is required, unless --dev is set)"`
	Browsers  browserFlags  `embed:"" group:"Browsers"`
	Presence  presenceFlags `embed:"" group:"Presence"`
	Messages  messageFlags  `embed:"" group:"Messages"`
	Limits    limitFlags    `embed:"" group:"Limits"`
	Cluster   clusterFlags  `embed:"" group:"Cluster"`
	Running   runningFlags  `embed:"" group:"Running"`
}

type browserFlags struct {
	CORSOrigin     []string `name:"cors-origin" placeholder:"ORIGIN" help:"Origin whose pages may use the server, such as https://example.com, https://*.example.com or capacitor://localhost. With --dev, requests may also name its host. * allows every origin, but without the session cookie. Repeatable. Default: none."`
	CookieSameSite string   `name:"cookie-samesite" default:"lax" enum:"lax,strict,none" placeholder:"lax" help:"SameSite attribute of the session cookie: lax, strict or none. Default: lax."`
	CookieDomain   string   `placeholder:"DOMAIN" help:"Domain attribute of the session cookie. Default: none, so browsers send the cookie to this host only."`
	CookiePath     string   `placeholder:"PATH" help:"Path attribute of the session cookie, such as /presence/. Set it behind a proxy that removes a prefix from the paths of requests. The name of the cookie then lacks the prefix __Host-. Default: the path at which the server is mounted, /."`
	CookieInsecure bool     `help:"Set the session cookie without the Secure attribute, for plain HTTP. --dev implies it. Default: off."`
}

type presenceFlags struct {
	Count       presence.Count `default:"connections" enum:"connections,users" placeholder:"connections" help:"Number that the user count event reports: connections (open streams) or users. Default: connections."`
	Coalesce    time.Duration  `default:"50ms" help:"Flush interval: minimum time between two user count events to a whole room, 1ms to 750ms. Default: 50ms."`
	Linger      time.Duration  `default:"5s" help:"Grace period: how long a user stays in a room after the last connection closes, 0s to 5m. A page reload within this period causes no leave event. Default: 5s."`
	Heartbeat   time.Duration  `default:"15s" help:"Interval between ping events, 1s to 5m. The idle timeout of a proxy must be longer. Default: 15s."`
	MemberLimit int            `default:"500" help:"Maximum room size at which the member list is sent, at least 1. Larger rooms send only counts. Default: 500."`
}

type messageFlags struct {
	History      int           `default:"1000" help:"Maximum messages kept per room, for clients that resume and for GET /messages. 0 keeps none. Default: 1000."`
	HistoryAge   time.Duration `default:"5m" help:"Maximum age of kept messages, 1s to 24h. An unused room is kept for the same time. Default: 5m."`
	HistoryBytes size          `default:"64MiB" range:"1 to 2047MiB" help:"Maximum total size of kept messages across all rooms, in bytes, 1 to 2047MiB. Default: 64MiB."`
	MaxMessage   size          `default:"64KiB" range:"1 to 1MiB" help:"Maximum size of a message body in bytes, 1 to 1MiB. Default: 64KiB."`
	MessageRate  float64       `default:"20" help:"Rate limit for each user on this node, in messages per second, in all rooms together. 0 means unlimited. Default: 20."`
	MessageBurst int           `default:"40" help:"Burst size of the per-user message rate limit, at least 1. Default: 40."`
	CostRate     size          `default:"48MiB" range:"0 to 2047MiB" zero:"" help:"Cost limit for each user on this node, in bytes per second. A message costs its size times the clients of the room, a join its snapshot (nothing up to 4KiB), a page of members 1KiB per member, a state 1KiB per client, at least 64KiB, because its request takes as much CPU as 64 deliveries. 0 means unlimited. Default: 48MiB."`
	CostBurst    size          `default:"96MiB" range:"64KiB to 2047MiB" help:"Burst size of the per-user cost limit in bytes, 64KiB to 2047MiB. Default: 96MiB."`
	HistoryRate  size          `default:"32KiB" range:"0 to 2047MiB" zero:"" help:"With --nats, limit for the messages that each user adds to the history through this node, in bytes per second. The burst size is a sixteenth of --history-bytes. 0 means unlimited. Default: 32KiB."`
}

type limitFlags struct {
	MaxConnections        int  `placeholder:"N" help:"Maximum open streams, at most the open-file limit minus 200 reserved files and --max-idle-connections (at least 16 if that is not set). 0 means the default. Default: the open-file limit minus 200 minus --max-idle-connections."`
	MaxConnectionsPerUser int  `default:"0" help:"Maximum open streams per user across all rooms. 0 means unlimited. Default: 0."`
	MaxIdle               int  `name:"max-idle-connections" placeholder:"N" help:"Maximum idle connections: connections without an open stream. At the limit, a new connection evicts one that never sent a complete request; if there is none, it evicts the longest idle one. 0 means the default. Default: 1024, or a quarter of the open-file limit if that is less."`
	MaxPerAddress         int  `name:"max-connections-per-address" default:"0" help:"Maximum connections per client address (per /64 with IPv6), including streams. 0 means unlimited. Behind a proxy, all clients have the proxy's address, unless --proxy-protocol is set. Peers on a Unix socket have no limit. Default: 0."`
	MaxRooms              int  `default:"100000" help:"Maximum rooms, including those kept for their history, at least 1. At the limit, a new room evicts the least recently used empty room of the user that has created the most. A user that has created more rooms than are free gets a new one only if a user with at least as many rooms loses one. Default: 100000."`
	MaxRoomsPerUser       int  `default:"0" help:"Maximum rooms that a user has created. At the limit, a new room of the user evicts its own least recently used empty room. 0 means no limit of its own. Default: 0."`
	MaxUnsent             size `placeholder:"256KiB" range:"four times --max-message to 2047MiB" help:"Backlog limit per connection in bytes, four times --max-message to 2047MiB. A client with a larger backlog must read 32KiB per second, or the server disconnects it as slow. Default: 256KiB, or four times --max-message if that is more."`
	MaxUnsentTotal        size `default:"64MiB" range:"four times --max-message to 2047MiB" help:"Threshold for the events that wait in the backlogs of all connections, in bytes, four times --max-message to 2047MiB. An event counts once for its room. Above it, stalled clients are disconnected, and rooms over their share reject messages, states and streams. Each user that has created such rooms has an equal share. The hard bound is 512MiB more. Default: 64MiB."`
	FullStatus            int  `default:"200" enum:"200,503" placeholder:"200" help:"Response status when the server rejects a stream at a limit: 200 (with a goodbye event, so that browsers reconnect) or 503. Default: 200."`
}

type runningFlags struct {
	MetricsListen string        `placeholder:"127.0.0.1:9090" help:"Address for Prometheus metrics (/metrics) and profiles (/debug/pprof/), as [host]:port. Both are then only there. Default: none, so /metrics is on the address of --listen, for any client, and there are no profiles."`
	ShutdownGrace time.Duration `default:"8s" help:"Maximum duration of the shutdown after SIGTERM, more than 0s. Many container platforms allow 10s. With --nats, streams end between a quarter and three quarters of it. Default: 8s."`
	IOUring       string        `name:"io-uring" default:"auto" enum:"auto,off" placeholder:"auto" help:"Way to send events to rooms with many clients: auto (io_uring if the system is Linux and allows it, else write) or off (write). The log and the metric presence_io_uring report the way in use. Default: auto."`
	LogFormat     string        `default:"text" enum:"text,json" placeholder:"text" help:"Log format on standard error: text or json. Default: text."`
	LogLevel      string        `default:"info" enum:"debug,info,warn,error" placeholder:"info" help:"Minimum log level: debug, info, warn or error. Default: info."`
	Check         bool          `help:"Validate the configuration, including keys, certificate and limits, fetch the JWK Set (timeout 10s), compare the settings of the NATS servers (timeout 5s, changes nothing), and exit. Default: off."`
}

// flagOf maps the fields of [presence.Config] that [presence.New] checks to their flags.
var flagOf = map[string]string{
	"Count":                    "--count",
	"Coalesce":                 "--coalesce",
	"Linger":                   "--linger",
	"Heartbeat":                "--heartbeat",
	"MemberLimit":              "--member-limit",
	"HistoryAge":               "--history-age",
	"HistoryBytes":             "--history-bytes",
	"MaxMessage":               "--max-message",
	"MessageRate":              "--message-rate",
	"MessageBurst":             "--message-burst",
	"CostBurst":                "--cost-burst",
	"MaxUnsentTotal":           "--max-unsent-total",
	"MaxConnections":           "--max-connections",
	"MaxConnectionsPerUser":    "--max-connections-per-user",
	"MaxIdleConnections":       "--max-idle-connections",
	"MaxConnectionsPerAddress": "--max-connections-per-address",
	"MaxRooms":                 "--max-rooms",
	"MaxRoomsPerUser":          "--max-rooms-per-user",
	"Node":                     "--node",
	"ShutdownGrace":            "--shutdown-grace",
	"MaxUnsent":                "--max-unsent",
	"FullStatus":               "--full-status",
	"TrustedProxies":           "--trusted-proxies",
	"CORSOrigins":              "--cors-origin",
	"Cookie.Domain":            "--cookie-domain",
	"Cookie.Path":              "--cookie-path",
	"Cookie.SameSite":          "--cookie-samesite",
	"Hosts":                    "--listen",
}

// flagError converts an error of [presence.New] to a usage error that names the flag instead of the
// field.
func flagError(err error) error {
	if bad := new(presence.ConfigError); errors.As(err, &bad) && flagOf[bad.Field] != "" {
		return usagef("%s %s", flagOf[bad.Field], bad.Reason)
	}
	return usageError{err}
}

// Help returns the examples that --help prints.
func (serve) Help() string {
	return "Examples:\n\n" +
		"    presence serve --dev\n" +
		"    presence serve --jwt-secret-file ./secret --listen :8080"
}

// check returns a usage error for the first flag that is out of range, or nil if there is none.
// [presence.New] checks most ranges. This method checks the values that New would accept with
// another meaning, and the flags that depend on each other.
func (c *serve) check() error {
	// In a presence.Config, 0 means the default and a negative number means none, but a flag with
	// the value 0 means 0.
	p, m, unsent := c.Presence, c.Messages, c.Limits.MaxUnsent
	for _, f := range []struct {
		flag   string
		ok     bool
		bounds string
		value  any
	}{
		{"coalesce", p.Coalesce != 0, "1ms to 750ms", p.Coalesce},
		{"linger", p.Linger >= 0, "0s to 5m", p.Linger},
		{"heartbeat", p.Heartbeat != 0, "1s to 5m", p.Heartbeat},
		{"member-limit", p.MemberLimit != 0, "at least 1", p.MemberLimit},
		{"history", m.History >= 0, "at least 0", m.History},
		{"history-age", m.HistoryAge != 0, "1s to 24h", m.HistoryAge},
		{"message-rate", m.MessageRate >= 0 && !math.IsInf(m.MessageRate, 0), "a number of at least 0", m.MessageRate},
		{"message-burst", m.MessageBurst != 0, "at least 1", m.MessageBurst},
		{"max-rooms", c.Limits.MaxRooms != 0, "at least 1", c.Limits.MaxRooms},
		{"cost-burst", m.CostBurst >= 64<<10, "64KiB to 2047MiB", m.CostBurst},
		{"max-unsent-total", c.Limits.MaxUnsentTotal >= 4*m.MaxMessage, fmt.Sprintf("at least four times --max-message (%d)", 4*m.MaxMessage), c.Limits.MaxUnsentTotal},
		{"max-unsent", unsent == 0 || unsent >= 4*m.MaxMessage, fmt.Sprintf("at least four times --max-message (%d)", 4*m.MaxMessage), unsent},
		{"shutdown-grace", c.Running.ShutdownGrace > 0, "more than 0s", c.Running.ShutdownGrace},
	} {
		if !f.ok {
			return usagef("--%s is %s, not %v", f.flag, f.bounds, f.value)
		}
	}
	if err := c.Cluster.check(); err != nil {
		return err
	}
	if err := c.Listening.check(); err != nil {
		return err
	}
	if c.Keys.Dev && len(c.Cluster.NATS) > 0 && !c.Keys.hasSecret() {
		return usagef("--dev with --nats requires --jwt-secret or --jwt-secret-file, the same on all nodes: otherwise each node rejects the guests of the others")
	}
	if c.Browsers.CookieSameSite == "none" && c.insecure() {
		return usagef("--cookie-samesite none requires a Secure cookie, which --cookie-insecure and --dev disable")
	}
	return nil
}

// insecure reports whether the session cookie is set without the Secure attribute.
func (c *serve) insecure() bool { return c.Browsers.CookieInsecure || c.Keys.Dev }

// config returns the server's configuration and its keys. If a JWK Set is configured, it is kept up
// to date until ctx is done.
func (c *serve) config(ctx context.Context, log *slog.Logger) (presence.Config, *serverKeys, error) {
	if err := c.check(); err != nil {
		return presence.Config{}, nil, err
	}
	keyLog := log
	if c.Running.Check {
		keyLog = slog.New(slog.DiscardHandler) // --check reports the same failure as an error
	}
	keys, err := c.Keys.open(ctx, keyLog)
	if err != nil {
		return presence.Config{}, nil, err
	}
	most, idle, err := c.Limits.connections(openFiles())
	if err != nil {
		return presence.Config{}, nil, err
	}
	config := presence.Config{
		Authenticator: keys.jwt,
		Count:         c.Presence.Count,
		Coalesce:      c.Presence.Coalesce,
		Linger:        orNone(c.Presence.Linger),
		Heartbeat:     c.Presence.Heartbeat,
		MemberLimit:   c.Presence.MemberLimit,

		MaxConnections:           most,
		MaxIdleConnections:       idle,
		MaxConnectionsPerAddress: c.Limits.MaxPerAddress,
		MaxConnectionsPerUser:    c.Limits.MaxConnectionsPerUser,
		MaxRooms:                 c.Limits.MaxRooms,
		MaxRoomsPerUser:          c.Limits.MaxRoomsPerUser,
		MaxUnsent:                int(c.Limits.MaxUnsent),
		MaxUnsentTotal:           int(c.Limits.MaxUnsentTotal),
		FullStatus:               c.Limits.FullStatus,

		DisableIOUring: c.Running.IOUring == "off",
		ProxyProtocol:  c.Listening.ProxyProtocol,
		CORSOrigins:    c.Browsers.CORSOrigin,
		Cookie: presence.Cookie{
			SameSite: map[string]http.SameSite{"lax": http.SameSiteLaxMode, "strict": http.SameSiteStrictMode, "none": http.SameSiteNoneMode}[c.Browsers.CookieSameSite],
			Domain:   c.Browsers.CookieDomain,
			Path:     c.Browsers.CookiePath,
			Insecure: c.insecure(),
		},
		Node:                c.Cluster.Node,
		ReadyNeedsBackplane: c.Cluster.ReadyNeeds,

		ShutdownGrace: c.Running.ShutdownGrace,

		Web:    web.Files,
		Logger: log,
	}
	c.Messages.set(&config)
	config.TrustedProxies, _ = parsePrefixes(c.Listening.TrustedProxies) // check has found no error
	if c.Keys.Dev {
		config.Guest, config.Hosts = keys.guest, c.Listening.devHosts()
	}
	return config, keys, nil
}

// set sets the fields of the configuration to the flags.
func (f messageFlags) set(c *presence.Config) {
	c.History, c.HistoryAge, c.HistoryBytes = orNone(f.History), f.HistoryAge, int(f.HistoryBytes)
	c.MaxMessage = int(f.MaxMessage)
	c.MessageRate, c.MessageBurst = orNone(f.MessageRate), f.MessageBurst
	c.CostRate, c.CostBurst = orNone(int(f.CostRate)), int(f.CostBurst)
	c.HistoryRate = orNone(int(f.HistoryRate))
}

// orNone converts the value of a flag to the value of a field of [presence.Config]. 0 becomes -1,
// because 0 means none or unlimited for a flag, but the default for a field.
func orNone[T int | float64 | time.Duration](v T) T {
	if v == 0 {
		return -1
	}
	return v
}

// reservedFiles is the number of file descriptors that clients cannot use, because the server needs
// them for logs, keys, event loops and sockets that are being closed.
const reservedFiles = 200

// leastIdle is the number of file descriptors that --max-connections must leave for idle
// connections. An idle connection carries no stream: each new connection is idle until its stream
// opens. With a smaller number, the server would accept no new client once all streams are open.
const leastIdle = 16

// connections returns the stream limit (0 means unlimited) and the idle connection limit. The flags
// may set neither, one or both of them. files is the open-file limit, or 0 if it is unknown.
func (f limitFlags) connections(files uint64) (streams, idle int, err error) {
	const most = presence.DefaultMaxIdleConnections
	if files == 0 || files > math.MaxInt32 {
		return f.MaxConnections, cmp.Or(f.MaxIdle, most), nil
	}
	left := int(files) - reservedFiles
	idle = max(1, min(most, int(files/4)))
	switch {
	case f.MaxIdle > 0 && f.MaxConnections > 0 && f.MaxConnections > left-f.MaxIdle:
		return 0, 0, usagef("--max-connections and --max-idle-connections are together at most %d, not %d and %d: open-file limit (%d) minus %d reserved",
			max(0, left), f.MaxConnections, f.MaxIdle, files, reservedFiles)
	case f.MaxIdle > 0 && f.MaxIdle > left-1:
		return 0, 0, usagef("--max-idle-connections is at most %d, not %d: open-file limit (%d) minus %d reserved and 1 for a stream",
			max(0, left-1), f.MaxIdle, files, reservedFiles)
	case f.MaxIdle != 0:
		idle = f.MaxIdle
	case f.MaxConnections > 0 && f.MaxConnections > left-leastIdle:
		return 0, 0, usagef("--max-connections is at most %d, not %d: open-file limit (%d) minus %d reserved and %d for idle connections",
			max(0, left-leastIdle), f.MaxConnections, files, reservedFiles, leastIdle)
	case f.MaxConnections > 0:
		idle = min(idle, left-f.MaxConnections)
	}
	return cmp.Or(f.MaxConnections, max(1, left-idle)), idle, nil
}
