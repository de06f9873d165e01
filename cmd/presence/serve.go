package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"example.com/presence/pkg/presence"
)

// Run serves until ctx ends.
func (c *serve) Run(ctx context.Context, p *process) error {
	signal.Ignore(syscall.SIGPIPE) // or the end of whoever reads the log ends the server, without a goodbye
	if p.getenv("GOGC") == "" {
		// A storm of joins leaves much garbage, and a small heap is dear to who
		// runs this: a quarter less of it for a few percent of the storm's CPU.
		debug.SetGCPercent(50)
	}
	log := c.Running.logger(p.stderr)
	for _, v := range p.unknown {
		line := log.With("name", v.name)
		if v.meant != "" {
			line = line.With("did_you_mean", v.meant)
		}
		line.Warn("unknown environment variable")
	}
	addr, err := address(c.Listening.Listen, p.getenv("PORT"), c.Keys.Dev)
	if err != nil {
		return err
	}
	tls, err := c.Listening.tls()
	if err != nil {
		return err
	}
	// Keys are wanted until the shutdown is done, which begins when ctx ends.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	config, err := c.config(life, log)
	if err != nil {
		return err
	}
	server, err := presence.New(config)
	if err != nil {
		return flagError(err)
	}
	defer server.Shutdown(ctx) // for the ways out that come before the other one
	if c.Running.Check {
		if err := c.Keys.check(ctx, config.Authenticator); err != nil {
			return err
		}
		fmt.Fprintln(p.stdout, "the configuration is good")
		return nil
	}
	l, err := listen(ctx, addr, c.Presence.Heartbeat)
	if err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
	h := &http.Server{Handler: server, TLSConfig: tls}
	l = server.Harden(h, l) // at once: what connects before has sockets without its options
	log.Info("limits", "open_files", openFiles(), "max_connections", config.MaxConnections,
		"max_idle_connections", config.MaxIdleConnections, "reserved_files", reservedFiles)
	say := log.With("addr", l.Addr().String())
	if c.Keys.Dev {
		say = say.With("url", localURL(hostOf(addr, l.Addr()), tls != nil))
		if tcp, ok := l.Addr().(*net.TCPAddr); ok && tcp.IP.IsLoopback() {
			log.Warn("--dev: anyone on this machine may sign in as a guest")
		} else {
			log.Warn("--dev: anyone who can connect to this address may sign in as a guest",
				"addr", l.Addr().String(), "all_interfaces", ok && tcp.IP.IsUnspecified())
		}
		if c.Listening.Listen == "" {
			log.Info("--dev without --listen is for this machine alone")
		}
	}
	probe, err := answerProbes(l.Addr().String(), server)
	if err != nil {
		log.Warn("the health check must use HTTP: its socket could not be opened", "err", err)
	} else {
		defer probe.close()
	}
	if p.getenv("GOGC") != "off" { // else the operator wants no collection, but for GOMEMLIMIT
		releaser := startReleasing(log)
		defer releaser.close()
	}
	say.Info("listening")
	return serveUntil(ctx, l, h, server.Shutdown, c.Running.ShutdownGrace, log)
}

// serveUntil serves h on l until ctx ends, or l fails, and then shuts down,
// within the grace and in this order:
//
//  1. drain: the server says that it is not ready, takes no message, and tells
//     every stream goodbye. l goes on listening, so that newcomers are told to
//     come back later rather than refused.
//  2. l is closed, and the requests under way, which are short, get a second
//     for their answers.
//  3. What is left is cut off.
func serveUntil(ctx context.Context, l net.Listener, h *http.Server, drain func(context.Context) error, grace time.Duration, log *slog.Logger) error {
	served := make(chan error, 1)
	go func() { // ends when h is closed
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
		log.Warn("streams were still open at the end of the grace", "err", err)
	}
	ctx, cancel = context.WithTimeout(ctx, time.Second)
	defer cancel()
	if h.Shutdown(ctx) != nil {
		h.Close()
	}
	<-served
	return failed
}
