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
	for _, open := range []func(context.Context) (*jetstream.StreamInfo, error){core.openStream, core.openTable} {
		if err := core.try(ctx, open); err != nil {
			return err
		}
	}
	return nil
}

// try opens the stream or the bucket for Check. It repeats an attempt that has failed, because the
// servers may just elect a leader. A stream that does not exist is created by the first node.
func (c *core) try(ctx context.Context, open func(context.Context) (*jetstream.StreamInfo, error)) error {
	for {
		_, err := open(ctx)
		switch setting := new(SettingError); {
		case errors.Is(err, jetstream.ErrStreamNotFound) && c.config.Replicas > 1 && c.isSingle():
			return fieldErrorf("Replicas", 1, "%d replicas require a cluster of NATS servers: a single server requires 1 replica", c.config.Replicas)
		case err == nil, errors.Is(err, jetstream.ErrStreamNotFound):
			return nil
		case errors.As(err, &setting):
			return err
		case !wait(ctx, retryTime):
			return fmt.Errorf("nats: %w (%w)", context.Cause(ctx), err)
		}
	}
}
