package nats

import (
	"context"
	"fmt"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/room"
)

// maxCalls is the maximum number of calls of Read and Last that run at the same time. The NATS
// server drops requests if too many wait (10,000 by default), and after an interruption each room
// reads the log.
const maxCalls = 64

// Bus is a [backplane.Bus] over NATS. Create it with [Open].
type Bus struct {
	*core
	calls    chan struct{} // has an element per running call of Read and Last
	asks     *asks
	subs     *subscriptions
	table    *table
	notified notifications
}

// Shared returns true: other nodes may use the NATS servers.
func (b *Bus) Shared() bool { return true }

// Notify calls f after each change of the status. See [backplane.Bus].
func (b *Bus) Notify(f func(backplane.Status)) (cancel func()) { return b.notified.add(b.core, f) }

// Close ends all subscriptions, watches and notifications, and the connection. Publications that
// were sent before are delivered if the server answers within 1 s. See [backplane.Bus].
func (b *Bus) Close() {
	if b.close() {
		if b.conn.IsConnected() {
			b.conn.FlushTimeout(time.Second)
		}
		b.conn.Close()
	}
	b.running.Wait()
}

// acquire limits the number of calls. release ends the call.
func (b *Bus) acquire(ctx context.Context) (release func(), err error) {
	select {
	case b.calls <- struct{}{}:
		return func() { <-b.calls }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Publish sends data to all subscriptions of a topic. See [backplane.Bus].
func (b *Bus) Publish(ctx context.Context, topic room.Name, data []byte) error {
	if err := b.connected(ctx); err != nil {
		return err
	}
	if err := b.conn.Publish(b.subjects.topic(topic)+kindMessage, data); err != nil {
		return b.callError(ctx, "publish", err)
	}
	return nil
}

// Ask sends a request to all subscriptions of a topic. If there is none, the server reports this,
// and Ask returns [backplane.ErrNoSubscription]. See [backplane.Bus].
func (b *Bus) Ask(ctx context.Context, topic room.Name, request []byte, answer func(data []byte) (more bool)) error {
	if err := b.connected(ctx); err != nil {
		if ctx.Err() != nil && !b.isClosed() {
			return nil
		}
		return err
	}
	select {
	case b.asks.slots <- struct{}{}:
		defer func() { <-b.asks.slots }()
	case <-ctx.Done():
		return nil
	}
	reply, replies, end := b.asks.start()
	defer end()
	if err := b.conn.PublishRequest(b.subjects.ask(topic), reply, request); err != nil {
		return b.callError(ctx, "ask", err)
	}
	for {
		select {
		case m := <-replies:
			if isUnanswered(m) {
				return backplane.ErrNoSubscription
			}
			if !answer(m.Data) {
				return nil
			}
		case <-ctx.Done():
			return nil
		case <-b.life.Done():
			return backplane.ErrClosed
		}
	}
}

// Subscribe subscribes h to a topic. It returns when the server has the subscription, or after 1 s
// without an answer; then Lost follows. See [backplane.Bus].
func (b *Bus) Subscribe(topic room.Name, h backplane.Handler) (cancel func(), err error) {
	if b.isClosed() {
		return nil, backplane.ErrClosed
	}
	s, err := b.subs.subscribe(topic, h)
	if err != nil {
		if b.isClosed() {
			return nil, backplane.ErrClosed
		}
		return nil, fmt.Errorf("nats: subscribe to %s: %w: %w", b.subjects.topic(topic), backplane.ErrUnavailable, err)
	}
	if b.conn.IsConnected() {
		if err := b.conn.FlushTimeout(time.Second); err != nil && !b.isClosed() {
			b.warn.Warn(b.life, "subscription delayed", "topic", s.topic, "err", err)
			s.worker.lose(s)
		}
	}
	return func() { b.subs.remove(s) }, nil
}
