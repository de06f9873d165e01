package main

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net/http"
	"strings"
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
	Running   runningFlags  `embed:"" group:"Running"`
}

type listenFlags struct {
	Listen  string `placeholder:":8080" help:"Where to listen; with --dev 127.0.0.1:8080; a bare $PORT is taken too"`
	TLSCert string `name:"tls-cert" placeholder:"FILE" help:"Serve TLS and HTTP/2 with this certificate chain, PEM"`
	TLSKey  string `name:"tls-key" placeholder:"FILE" help:"The certificate's key, PEM"`
}

type browserFlags struct {
	CORSOrigin     []string `name:"cors-origin" placeholder:"ORIGIN" help:"Origin whose pages may use this server, such as https://example.com; * without cookies; repeatable"`
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
	MaxMessage  size           `default:"64KiB" help:"Largest body of a message"`
	MaxUnsent   size           `placeholder:"256KiB" help:"What may wait for a client that stops reading; at least four times --max-message, and that by default if it is more"`
}

type runningFlags struct {
	ShutdownGrace time.Duration `default:"8s" help:"How long the end may take after SIGTERM; containers are often given 10s"`
	LogFormat     string        `default:"text" enum:"text,json" placeholder:"text" help:"text or json, to standard error"`
	LogLevel      string        `default:"info" enum:"debug,info,warn,error" placeholder:"info" help:"debug, info, warn or error"`
	Check         bool          `help:"Check the configuration, keys and certificate too, and exit"`
}

// flagNames turns the library's words for its settings into the flags.
var flagNames = strings.NewReplacer(
	"presence: config: ", "",
	"Coalesce", "--coalesce",
	"Linger", "--linger",
	"Heartbeat", "--heartbeat",
	"MemberLimit", "--member-limit",
	"MaxMessage", "--max-message",
	"MaxUnsent", "--max-unsent",
	"the CORS origin", "--cors-origin",
	"Cookie.Domain", "--cookie-domain",
)

// config is what the flags make of the server. Bounds are the server's to
// check; here are those that it cannot see. ctx bounds the life of the keys.
func (c *serve) config(ctx context.Context, log *slog.Logger) (presence.Config, error) {
	// To the server zero means the default, which the flags have of their own.
	for flag, zero := range map[string]bool{
		"coalesce":       c.Presence.Coalesce == 0,
		"heartbeat":      c.Presence.Heartbeat == 0,
		"member-limit":   c.Presence.MemberLimit == 0,
		"linger":         c.Presence.Linger < 0,
		"shutdown-grace": c.Running.ShutdownGrace <= 0,
	} {
		if zero {
			return presence.Config{}, usagef("--%s is too small", flag)
		}
	}
	insecure := c.Browsers.CookieInsecure || c.Keys.Dev
	if c.Browsers.CookieSameSite == "none" && insecure {
		return presence.Config{}, usagef("--cookie-samesite none needs a Secure cookie, which --cookie-insecure and --dev do without")
	}
	authenticator, guest, err := c.Keys.authenticator(ctx, log)
	if err != nil {
		return presence.Config{}, err
	}
	linger := c.Presence.Linger
	if linger == 0 {
		linger = -1 // to the server that is none at all
	}
	return presence.Config{
		Authenticator: authenticator,
		Guest:         guest,
		Count:         c.Presence.Count,
		Coalesce:      c.Presence.Coalesce,
		Linger:        linger,
		Heartbeat:     c.Presence.Heartbeat,
		MemberLimit:   c.Presence.MemberLimit,
		MaxMessage:    int(c.Presence.MaxMessage),
		MaxUnsent:     int(c.Presence.MaxUnsent),
		CORSOrigins:   c.Browsers.CORSOrigin,
		Cookie: presence.Cookie{
			SameSite: map[string]http.SameSite{"lax": http.SameSiteLaxMode, "strict": http.SameSiteStrictMode, "none": http.SameSiteNoneMode}[c.Browsers.CookieSameSite],
			Domain:   c.Browsers.CookieDomain,
			Insecure: insecure,
		},
		Web:    web.Files,
		Logger: log,
	}, nil
}

func (f runningFlags) logger(w io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(f.LogLevel)) // one of four, as parsed
	options := &slog.HandlerOptions{Level: level}
	if f.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
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
		return nil, usagef("--tls-cert and --tls-key: %w", err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}}, nil
}
