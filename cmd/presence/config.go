package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"time"

	"example.com/presence/pkg/presence"
	"example.com/presence/web"
)

// serve runs the server.
type serve struct {
	Listening listenFlags   `embed:"" group:"Listening"`
	Keys      keyFlags      `embed:"" group:"Tokens (one key is required, or --dev)"`
	Browsers  browserFlags  `embed:"" group:"Browsers"`
	Presence  presenceFlags `embed:"" group:"Presence"`
	Messages  messageFlags  `embed:"" group:"Messages"`
	Limits    limitFlags    `embed:"" group:"Limits"`
	Running   runningFlags  `embed:"" group:"Running"`
}

type listenFlags struct {
	Listen  string `placeholder:":8080" help:"Where to listen; with --dev 127.0.0.1:8080; a bare $PORT is taken too"`
	TLSCert string `name:"tls-cert" placeholder:"FILE" help:"Serve TLS and HTTP/2 with this certificate chain, PEM"`
	TLSKey  string `name:"tls-key" placeholder:"FILE" help:"The certificate's key, PEM"`
}

type browserFlags struct {
	CORSOrigin     []string `name:"cors-origin" placeholder:"ORIGIN" help:"Origin whose pages may use this server, such as https://example.com, https://*.example.com or capacitor://localhost; * allows every origin, without the cookie; repeatable"`
	CookieSameSite string   `name:"cookie-samesite" default:"lax" enum:"lax,strict,none" placeholder:"lax" help:"lax, strict or none"`
	CookieDomain   string   `placeholder:"DOMAIN" help:"Domain of the cookie; this host alone by default"`
	CookieInsecure bool     `help:"Set the cookie without Secure, for plain HTTP"`
}

type presenceFlags struct {
	Count       presence.Count `default:"connections" enum:"connections,users" placeholder:"connections" help:"What the user count counts: connections or users"`
	Coalesce    time.Duration  `default:"50ms" help:"Least time between two user counts of a room"`
	Linger      time.Duration  `default:"5s" help:"How long a user stays after its last connection, so that a reload is no leave"`
	Heartbeat   time.Duration  `default:"15s" help:"Time between two pings; proxies must allow more"`
	MemberLimit int            `default:"500" help:"Largest room whose members are told; above it only counts are"`
}

type messageFlags struct {
	History      int           `default:"1000" help:"Messages of a room that are kept for clients that come back; 0 keeps none"`
	HistoryAge   time.Duration `default:"5m" help:"How long each is kept, and a room that nobody is in"`
	HistoryBytes size          `default:"64MiB" range:"1 to 2047MiB" help:"What those of all rooms may take"`
	MaxMessage   size          `default:"64KiB" range:"1 to 1MiB" help:"Largest body of a message"`
	MessageRate  float64       `default:"20" help:"Messages a second that a user may send; 0 for any number"`
	MessageBurst int           `default:"40" help:"And at once"`
}

type limitFlags struct {
	MaxConnections        int  `placeholder:"N" help:"Maximum open streams, at most the open-file limit less 216. Default, and for 0: the open-file limit less --max-idle-connections and 200."`
	MaxConnectionsPerUser int  `default:"0" help:"Of one user; 0 for any number"`
	MaxIdle               int  `name:"max-idle-connections" placeholder:"N" help:"Open connections that carry no stream. At the limit a new one evicts one that never sent a whole request, or the longest idle. By default, and for 0, 1024, or a quarter of the limit of open files if that is less."`
	MaxPerAddress         int  `name:"max-connections-per-address" default:"0" help:"Open connections per client address (per /64 with IPv6), streams included. 0 means unlimited. Behind a proxy all clients have its address. Default: 0."`
	MaxRooms              int  `default:"100000" help:"Rooms, those kept for their history included"`
	MaxUnsent             size `placeholder:"256KiB" range:"four times --max-message to 2047MiB" help:"What may wait for a client that stops reading; at least four times --max-message, and that by default if it is more"`
	FullStatus            int  `default:"200" enum:"200,503" placeholder:"200" help:"How a stream is refused for want of room: 200 and goodbye, after which a browser comes back, or 503"`
}

type runningFlags struct {
	ShutdownGrace time.Duration `default:"8s" help:"How long the end may take after SIGTERM; containers are often given 10s"`
	LogFormat     string        `default:"text" enum:"text,json" placeholder:"text" help:"text or json, to standard error"`
	LogLevel      string        `default:"info" enum:"debug,info,warn,error" placeholder:"info" help:"debug, info, warn or error"`
	Check         bool          `help:"Check the configuration with its keys, certificate and limits, fetch the JWK Set, and exit."`
}

// flagOf is the flag that sets a field of [presence.Config], for the fields whose bounds the server
// checks.
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
	"MaxConnections":           "--max-connections",
	"MaxConnectionsPerUser":    "--max-connections-per-user",
	"MaxIdleConnections":       "--max-idle-connections",
	"MaxConnectionsPerAddress": "--max-connections-per-address",
	"MaxRooms":                 "--max-rooms",
	"MaxUnsent":                "--max-unsent",
	"FullStatus":               "--full-status",
	"CORSOrigins":              "--cors-origin",
	"Cookie.Domain":            "--cookie-domain",
	"Cookie.SameSite":          "--cookie-samesite",
}

// flagError returns the usage error for an error of [presence.New]. It names the flag of the bad
// field.
func flagError(err error) error {
	if bad := new(presence.ConfigError); errors.As(err, &bad) && flagOf[bad.Field] != "" {
		return usagef("%s %s", flagOf[bad.Field], bad.Reason)
	}
	return usageError{err}
}

// check returns a usage error for the first flag that is out of its bounds, nil if there is none. The
// server checks most bounds; these are the ones that it cannot see or that concern two flags.
func (c *serve) check() error {
	// In a presence.Config 0 means the default and a negative number means none. In a flag 0 means 0.
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
		{"max-unsent", unsent == 0 || unsent >= 4*m.MaxMessage, fmt.Sprintf("at least four times --max-message, %d", 4*m.MaxMessage), unsent},
		{"shutdown-grace", c.Running.ShutdownGrace > 0, "more than 0s", c.Running.ShutdownGrace},
	} {
		if !f.ok {
			return usagef("--%s is %s, not %v", f.flag, f.bounds, f.value)
		}
	}
	if c.Browsers.CookieSameSite == "none" && c.insecure() {
		return usagef("--cookie-samesite none needs a Secure cookie, which --cookie-insecure and --dev do without")
	}
	return nil
}

// insecure reports whether the cookie is set without Secure.
func (c *serve) insecure() bool { return c.Browsers.CookieInsecure || c.Keys.Dev }

// config returns the server's configuration. ctx bounds the life of the keys.
func (c *serve) config(ctx context.Context, log *slog.Logger) (presence.Config, error) {
	if err := c.check(); err != nil {
		return presence.Config{}, err
	}
	keyLog := log
	if c.Running.Check {
		keyLog = slog.New(slog.DiscardHandler) // the error of the check has the same text
	}
	authenticator, guest, err := c.Keys.authenticator(ctx, keyLog)
	if err != nil {
		return presence.Config{}, err
	}
	most, idle, err := c.Limits.connections(openFiles())
	if err != nil {
		return presence.Config{}, err
	}
	return presence.Config{
		Authenticator: authenticator,
		Guest:         guest,
		Count:         c.Presence.Count,
		Coalesce:      c.Presence.Coalesce,
		Linger:        orNone(c.Presence.Linger),
		Heartbeat:     c.Presence.Heartbeat,
		MemberLimit:   c.Presence.MemberLimit,
		History:       orNone(c.Messages.History),
		HistoryAge:    c.Messages.HistoryAge,
		HistoryBytes:  int(c.Messages.HistoryBytes),
		MaxMessage:    int(c.Messages.MaxMessage),
		MessageRate:   orNone(c.Messages.MessageRate),
		MessageBurst:  c.Messages.MessageBurst,

		MaxConnections:           most,
		MaxIdleConnections:       idle,
		MaxConnectionsPerAddress: c.Limits.MaxPerAddress,
		MaxConnectionsPerUser:    c.Limits.MaxConnectionsPerUser,
		MaxRooms:                 c.Limits.MaxRooms,
		MaxUnsent:                int(c.Limits.MaxUnsent),
		FullStatus:               c.Limits.FullStatus,

		CORSOrigins: c.Browsers.CORSOrigin,
		Cookie: presence.Cookie{
			SameSite: map[string]http.SameSite{"lax": http.SameSiteLaxMode, "strict": http.SameSiteStrictMode, "none": http.SameSiteNoneMode}[c.Browsers.CookieSameSite],
			Domain:   c.Browsers.CookieDomain,
			Insecure: c.insecure(),
		},
		Web:    web.Files,
		Logger: log,
	}, nil
}

// orNone turns a zero that was given, which stands for none or no bound, into
// what the server takes for that.
func orNone[T int | float64 | time.Duration](v T) T {
	if v == 0 {
		return -1
	}
	return v
}

// reservedFiles are the descriptors that are for no client: logs, keys, loops,
// sockets about to be closed.
const reservedFiles = 200

// leastIdle is how many connections without a stream a server needs, or it accepts no new client
// once all streams are open.
const leastIdle = 16

// connections returns the limits of streams (0 means none) and of connections
// without one, of which neither, one or both are given. Files is the limit of open
// files, 0 if it is unknown.
func (f limitFlags) connections(files uint64) (streams, idle int, err error) {
	const most = presence.DefaultMaxIdleConnections
	if files == 0 || files > math.MaxInt32 {
		return f.MaxConnections, cmp.Or(f.MaxIdle, most), nil
	}
	left := int(files) - reservedFiles
	idle = max(1, min(most, int(files/4)))
	switch {
	case f.MaxIdle > 0 && f.MaxConnections > 0 && f.MaxConnections > left-f.MaxIdle:
		return 0, 0, usagef("--max-connections and --max-idle-connections are together at most %d, not %d and %d: the open-file limit (%d) less %d in reserve",
			max(0, left), f.MaxConnections, f.MaxIdle, files, reservedFiles)
	case f.MaxIdle > 0 && f.MaxIdle > left-1:
		return 0, 0, usagef("--max-idle-connections is at most %d, not %d: the open-file limit (%d) less %d in reserve and 1 for a stream",
			max(0, left-1), f.MaxIdle, files, reservedFiles)
	case f.MaxIdle != 0:
		idle = f.MaxIdle
	case f.MaxConnections > 0 && f.MaxConnections > left-leastIdle:
		return 0, 0, usagef("--max-connections is at most %d, not %d: the open-file limit (%d) less %d in reserve and %d for connections without a stream",
			max(0, left-leastIdle), f.MaxConnections, files, reservedFiles, leastIdle)
	case f.MaxConnections > 0:
		idle = min(idle, left-f.MaxConnections)
	}
	return cmp.Or(f.MaxConnections, max(1, left-idle)), idle, nil
}

func (f runningFlags) logger(w io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(f.LogLevel)) // one of four, as parsed
	options := &slog.HandlerOptions{Level: level}
	if f.LogFormat == "json" {
		options.ReplaceAttr = durationText
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// durationText makes a duration text, such as 8s, for which [slog.JSONHandler] writes nanoseconds.
func durationText(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().String())
	}
	return a
}

// tls is how to serve TLS; nil is not at all.
func (f listenFlags) tls() (*tls.Config, error) {
	if (f.TLSCert == "") != (f.TLSKey == "") {
		return nil, usagef("--tls-cert and --tls-key go together")
	}
	if f.TLSCert == "" {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(f.TLSCert, f.TLSKey)
	if err != nil {
		return nil, usagef("--tls-cert and --tls-key: %w", denied(err))
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}}, nil
}
