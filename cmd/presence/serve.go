package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"example.com/presence/pkg/presence"
)

// Run serves until ctx is done.
func (c *serve) Run(ctx context.Context, p *process) error {
	hangup := catchHangup() // first, because systemd can reload a server that has just started
	defer signal.Stop(hangup)
	prepareRuntime(p)
	log, queue := c.Running.logger(p.stderr)
	defer queue.close()
	warnUnknown(log, p.unknown)
	addr, err := address(c.Listening.Listen, p.getenv("PORT"), c.Keys.Dev)
	if err != nil {
		return err
	}
	cert, err := c.Listening.certificate()
	if err != nil {
		return err
	}
	if err := checkMetricsListen(c.Running.MetricsListen); err != nil {
		return err
	}
	// The keys must stay available until the shutdown is complete, but ctx is done when it begins.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	config, keys, err := c.config(life, log)
	if err != nil {
		return err
	}
	if err := config.Validate(); err != nil { // before the stream is created with the wrong settings
		return flagError(err)
	}
	if c.Running.Check {
		return c.verify(ctx, config, log, p.stdout)
	}
	log.Info("starting", "version", buildVersion(), "go", runtime.Version(), "pid", os.Getpid())
	reloads := startReloading(log, keys, cert, hangup)
	defer reloads.close()
	measured := newMeasured(log, reloads, keys.jwt, queue)
	config.Observer = measured.server.Observer()
	if c.Running.MetricsListen == "" {
		config.Metrics = measured.handler
	}
	closeBus, err := c.Cluster.open(ctx, &config, log)
	if err != nil {
		return err
	}
	defer closeBus() // after the shutdown of the server
	server, err := presence.New(config)
	if err != nil {
		return flagError(err)
	}
	defer shutDownNow(ctx, server) // for returns before serveUntil, which calls Shutdown itself
	measured.server.Watch(server)
	defer logTotals(log, server, time.Now()) // after the shutdown, before the one above
	if c.Running.MetricsListen != "" {
		m, err := serveMetrics(ctx, c.Running.MetricsListen, measured.handler, log)
		if err != nil {
			return err
		}
		defer m.close() // after the shutdown
	}
	l, err := c.Listening.open(ctx, addr, c.Presence.Heartbeat) // nothing fails after it, so l is always closed
	if err != nil {
		return err
	}
	h := &http.Server{Handler: server, TLSConfig: cert.config(), Protocols: c.Listening.protocols()}
	l = server.Harden(h, l) // immediately, because connections made before it lack the socket options
	logLimits(log, config)
	logSends(log, config, server)
	c.logAccess(log, keys)
	probe, err := answerProbes(bound(l.Addr()), server)
	if err != nil {
		log.Warn("health check socket unavailable: health checks use HTTP", "err", err)
	} else {
		defer probe.close()
	}
	if p.getenv("GOGC") != "off" { // off disables every collection that GOMEMLIMIT does not require
		releaser := startReleasing(log)
		defer releaser.close()
	}
	c.announce(log, addr, l.Addr(), cert != nil)
	return serveUntil(ctx, l, h, server.Shutdown, c.Running.ShutdownGrace, log)
}

// logLimits logs the limits that an operator compares with the metrics. 0 means unlimited, or no
// history.
func logLimits(log *slog.Logger, c presence.Config) {
	log.Info("limits", "open_files", openFiles(), "reserved_files", reservedFiles, "max_connections", c.MaxConnections,
		"max_connections_per_user", c.MaxConnectionsPerUser, "max_idle_connections", c.MaxIdleConnections,
		"max_connections_per_address", c.MaxConnectionsPerAddress, "max_rooms", c.MaxRooms, "max_rooms_per_user", c.MaxRoomsPerUser,
		"member_limit", max(0, c.MemberLimit),
		"max_unsent_total", c.MaxUnsentTotal, "max_message", c.MaxMessage, "message_rate", max(0, c.MessageRate),
		"cost_rate", max(0, c.CostRate), "cost_burst", c.CostBurst, "history_rate", max(0, c.HistoryRate),
		"history", max(0, c.History), "history_bytes", c.HistoryBytes)
}

// logSends logs the way of sending to rooms with many clients.
func logSends(log *slog.Logger, c presence.Config, server *presence.Server) {
	switch err := server.Stats().Streams.IOUringError; {
	case c.DisableIOUring:
		log.Info("io_uring is off, so all sends use write")
	case err != nil:
		log.Info("io_uring is not available, so all sends use write", "error", err)
	default:
		log.Info("io_uring is in use for sends to rooms with many clients")
	}
}

// logAccess logs the settings that decide which clients are accepted, so that the log alone is
// enough to find a wrong one.
func (c *serve) logAccess(log *slog.Logger, keys *serverKeys) {
	log.Info("access", "key_fingerprint", keys.jwt.Fingerprint(), "issuer", c.Keys.JWTIssuer, "audience", c.Keys.JWTAudience, "query_token", c.Keys.QueryToken,
		"cors_origins", strings.Join(c.Browsers.CORSOrigin, " "), "cookie_samesite", c.Browsers.CookieSameSite, "cookie_domain", c.Browsers.CookieDomain,
		"cookie_path", c.Browsers.CookiePath, "cookie_insecure", c.insecure())
}

// prepareRuntime sets signals and the garbage collection of the process.
func prepareRuntime(p *process) {
	// Ignore SIGPIPE. Otherwise, if the program that reads the log exits, SIGPIPE would terminate
	// the server before it sends goodbye to its clients.
	signal.Ignore(syscall.SIGPIPE)
	if p.getenv("GOGC") == "" {
		// A join burst leaves much garbage. A GOGC of 50 makes the heap a quarter smaller, for a
		// few percent more CPU during the burst.
		debug.SetGCPercent(50)
	}
}

// announce logs the address that the server listens on, and warns about --dev. addr is the value of
// --listen, or its default.
func (c *serve) announce(log *slog.Logger, addr string, at net.Addr, tls bool) {
	listening := log.With("addr", bound(at))
	if c.Keys.Dev {
		listening = listening.With("url", localURL(hostOf(addr, at), tls))
		if tcp, ok := at.(*net.TCPAddr); ok && tcp.IP.IsLoopback() {
			log.Warn("guest sign-in open to all users of this machine (--dev)")
		} else {
			log.Warn("guest sign-in open to all clients that can connect (--dev)", "addr", bound(at), "all_interfaces", ok && tcp.IP.IsUnspecified())
			log.Info("requests for hosts other than localhost, loopback addresses and those of --listen and --cors-origin are rejected (--dev)")
		}
		if c.Listening.Listen == "" {
			log.Info("listening on loopback only (--dev without --listen)")
		}
	}
	listening.Info("listening")
	// For Type=notify: systemd begins to send SIGHUP and to start other units only now.
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
		log.Warn("systemd not notified", "err", err)
	}
}

// logTotals logs the totals of a server that has shut down.
func logTotals(log *slog.Logger, server *presence.Server, began time.Time) {
	s := server.Stats()
	log.Info("stopped", "after", time.Since(began).Round(time.Millisecond), "streams", s.StreamsOpened, "joins", s.Joins, "leaves", s.Leaves,
		"messages", s.Messages, "deliveries", s.Streams.Deliveries, "refusals", s.Refused())
}

// verify checks the keys and the NATS servers of a valid configuration. It changes nothing there.
func (c *serve) verify(ctx context.Context, config presence.Config, log *slog.Logger, out io.Writer) error {
	if err := c.Keys.check(ctx, config.Authenticator); err != nil {
		return err
	}
	if err := c.Cluster.verify(ctx, config, log); err != nil {
		return err
	}
	_, err := fmt.Fprintln(out, "configuration is valid")
	return err
}

// shutDownNow stops a server that has no client. It does not wait until load balancers have found
// that the server is not ready.
func shutDownNow(ctx context.Context, server *presence.Server) {
	ended, cancel := context.WithCancel(ctx)
	cancel()
	server.Shutdown(ended)
	server.Shutdown(ctx)
}

// warnUnknown logs the environment variables that belong to no flag.
func warnUnknown(log *slog.Logger, unknown []unknownVariable) {
	for _, v := range unknown {
		line := log.With("name", v.name)
		if v.meant != "" {
			line = line.With("did_you_mean", v.meant)
		}
		line.Warn("unknown environment variable")
	}
}

// serveUntil serves h on l until ctx is done or l fails. Then it shuts down within the grace
// period, in this order:
//
//  1. Drain: the server reports that it is not ready, rejects messages, and sends goodbye on every
//     stream. l stays open, so that new clients receive goodbye and reconnect later. Otherwise
//     their connections would be refused. With other nodes, the goodbyes are spread over half of
//     the grace period, and messages are accepted until then.
//  2. Close l. The requests in progress, which are short, have one second to complete.
//  3. Close the remaining connections.
func serveUntil(ctx context.Context, l net.Listener, h *http.Server, drain func(context.Context) error, grace time.Duration, log *slog.Logger) error {
	served := make(chan error, 1)
	go func() { // ends when h is shut down or closed
		if h.TLSConfig != nil {
			served <- h.ServeTLS(l, "", "")
		} else {
			served <- h.Serve(l)
		}
	}()
	var failed error
	select {
	case <-ctx.Done():
	case failed = <-served:
		served <- failed
	}
	log.Info("shutting down", "grace", grace)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	if err := drain(ctx); err != nil {
		log.Warn("shutdown grace period exceeded: streams still open", "grace", grace, "err", err)
	}
	ctx, cancel = context.WithTimeout(ctx, time.Second)
	defer cancel()
	if h.Shutdown(ctx) != nil {
		h.Close()
	}
	<-served
	return failed
}
