package nats

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"example.com/presence/pkg/presence/backplane"
)

var _ backplane.Bus = (*Bus)(nil)

// Open connects to the NATS servers, and opens the stream and the bucket. It creates them if they
// do not exist. Close the bus with [Bus.Close].
//
// If no server can be reached, or the stream is not available yet, Open returns a bus that is not
// connected and tries again. ctx bounds the first attempts. They take at most 2 s per URL, and 5 s
// for the stream and the bucket.
//
// The error is a [*SettingError] if the settings of the stream or the bucket do not match Config.
// It is another error if Config is invalid, or if the server rejects the credentials. If Open has
// returned before it could compare the settings, the bus stays unconnected until they match. If
// they are changed later, the bus logs a warning and continues.
func Open(ctx context.Context, c Config) (*Bus, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("nats: %w", err)
	}
	b := &Bus{core: newCore(c), calls: make(chan struct{}, maxCalls), table: newTable()}
	b.notified.all = map[*notification]struct{}{}
	if err := b.connect(ctx); err != nil {
		b.end()
		return nil, err
	}
	contact := &contact{core: b.core, subs: b.subs, table: b.table, notified: &b.notified, broken: true}
	if err := contact.first(ctx); err != nil {
		b.Close()
		return nil, err
	}
	b.running.Go(contact.watch)
	return b, nil
}

// connect connects to a server. If none can be reached, the connection tries again by itself.
func (b *Bus) connect(ctx context.Context) error {
	options := append(b.config.options(),
		nats.DisconnectErrHandler(func(*nats.Conn, error) { b.interrupted() }),
		nats.ReconnectHandler(func(*nats.Conn) { b.interrupted() }),
		nats.ConnectHandler(func(*nats.Conn) { b.doubt() }),
		nats.ErrorHandler(func(_ *nats.Conn, s *nats.Subscription, err error) { b.asyncError(s, err) }))
	b.subs = newSubscriptions(b.core)
	conn, err := dial(ctx, options, b.config.Log)
	if err != nil {
		return fmt.Errorf("nats: connect: %w", err)
	}
	b.conn = conn
	if b.js, err = jetstream.New(conn); err == nil {
		b.asks, err = newAsks(conn)
	}
	if err == nil {
		_, err = conn.Subscribe(b.subjects.rows()+">", func(m *nats.Msg) { b.receiveRow(b.table, m) })
	}
	if err != nil {
		conn.Close()
		return fmt.Errorf("nats: connect: %w", err)
	}
	return nil
}

// dial connects to one of the servers. It tries each of them once. If none can be reached, the
// connection tries again by itself.
func dial(ctx context.Context, options []nats.Option, log *slog.Logger) (*nats.Conn, error) {
	type result struct {
		conn *nats.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() { // ends after two attempts per server
		conn, err := nats.Connect("", options...)
		if err != nil && !isDenied(err) {
			log.Warn("NATS server not reachable: trying again", "err", err)
			conn, err = nats.Connect("", append(options, nats.RetryOnFailedConnect(true))...)
		}
		done <- result{conn, err}
	}()
	select {
	case r := <-done:
		return r.conn, r.err
	case <-ctx.Done():
		go func() { // as above
			if r := <-done; r.conn != nil {
				r.conn.Close()
			}
		}()
		return nil, context.Cause(ctx)
	}
}

// asyncError handles an error that NATS reports apart from a call.
func (b *Bus) asyncError(sub *nats.Subscription, err error) {
	if errors.Is(err, nats.ErrSlowConsumer) {
		if s := b.subs.find(sub); s != nil {
			b.warn.Warn(b.life, "backplane messages dropped: this node is too slow", "topic", s.topic)
			s.worker.lose(s)
			return
		}
	}
	if !b.isClosed() {
		b.warn.Warn(b.life, "NATS reported an error", "err", err)
	}
}

// isDenied reports whether a connection attempt failed because of the settings of this node.
func isDenied(err error) bool {
	for _, denied := range []error{nats.ErrAuthorization, nats.ErrAuthExpired, nats.ErrAuthRevoked, nats.ErrAccountAuthExpired,
		nats.ErrSecureConnRequired, nats.ErrSecureConnWanted, nats.ErrNkeysNotSupported} {
		if errors.Is(err, denied) {
			return true
		}
	}
	var file *fs.PathError
	var certificate *tls.CertificateVerificationError
	var parse *url.Error
	return errors.As(err, &file) || errors.As(err, &certificate) || errors.As(err, &parse)
}
