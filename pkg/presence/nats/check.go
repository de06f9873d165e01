package nats

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Check connects to a NATS server, compares its limits, the stream and the bucket with c, and
// disconnects. It creates and changes nothing. It takes at most 1 s per URL, and then 5 s.
//
// The error is a [*SettingError], as with [Open]. It is another error if c is invalid, if no server
// can be reached or it rejects the credentials, or if the stream is not available.
func Check(ctx context.Context, c Config) error {
	c, err := c.withDefaults()
	if err != nil {
		return fmt.Errorf("nats: %w", err)
	}
	core := newCore(c)
	defer core.end()
	core.readOnly = true
	if core.conn, err = nats.Connect("", c.options()...); err != nil {
		return fmt.Errorf("nats: connect: %w", err)
	}
	defer core.conn.Close()
	if core.js, err = jetstream.New(core.conn); err != nil {
		return fmt.Errorf("nats: connect: %w", err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, firstTime, errors.New("JetStream does not answer within 5s"))
	defer cancel()
	if err := core.checkPayload(); err != nil {
		return err
	}
	if c.Replicas > 1 && core.conn.ConnectedClusterName() == "" {
		return fieldErrorf("Replicas", 1, "%d replicas require a cluster of NATS servers: a single server requires 1 replica", c.Replicas)
	}
	for _, open := range []func(context.Context) (*jetstream.StreamInfo, error){core.openStream, core.openTable} {
		switch _, err := open(ctx); {
		case err == nil, errors.Is(err, jetstream.ErrStreamNotFound): // the first node creates it
		case ctx.Err() != nil:
			return fmt.Errorf("nats: %w", context.Cause(ctx))
		default:
			return err
		}
	}
	return nil
}
