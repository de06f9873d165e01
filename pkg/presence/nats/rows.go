package nats

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"example.com/presence/pkg/presence/backplane"
)

// Put stores a row. The time to live is rounded up to a whole second. See [backplane.Bus].
func (b *Bus) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	if ttl <= 0 {
		return fmt.Errorf("nats: put: time to live is positive, not %v", ttl)
	}
	if key == "" {
		return errors.New("nats: put: key is empty")
	}
	seconds := max(1, int64((ttl+time.Second-1)/time.Second))
	ttl = time.Duration(seconds) * time.Second
	if err := b.change(ctx, key, "", encodeRow(value, ttl), seconds); err != nil {
		return b.callError(ctx, "put", err)
	}
	return nil
}

// Delete deletes a row. See [backplane.Bus].
func (b *Bus) Delete(ctx context.Context, key string) error {
	if err := b.change(ctx, key, "PURGE", nil, int64(markerTime/time.Second)); err != nil {
		return b.callError(ctx, "delete", err)
	}
	return nil
}

// change publishes a change of a row. It does not use the bucket's Put, which has no time to live.
func (b *Bus) change(ctx context.Context, key, operation string, data []byte, seconds int64) error {
	if _, err := b.ready(ctx); err != nil {
		return err
	}
	if operation == "" && b.table.isFull(key) {
		return &backplane.TableFullError{Limit: maxRows}
	}
	m := nats.NewMsg("$KV." + b.subjects.bucket() + "." + token(key))
	m.Data = data
	m.Header.Set(headerTTL, strconv.FormatInt(seconds, 10))
	if operation != "" {
		m.Header.Set(headerOperation, operation)
		m.Header.Set(headerRollup, "sub")
	}
	_, err := b.publishAcked(ctx, m)
	return err
}

// Watch calls f with every row and each change. See [backplane.Bus].
func (b *Bus) Watch(f func(backplane.Row)) (cancel func(), err error) {
	if b.isClosed() {
		return nil, backplane.ErrClosed
	}
	if b.Status().Connected {
		// The copy may be behind the bucket. If the bucket does not answer, its rows follow.
		ctx, done := context.WithTimeout(b.life, callTime)
		if info, err := b.openTable(ctx); err == nil {
			b.table.await(ctx, info.State.LastSeq)
		}
		done()
	}
	if !b.enter() {
		return nil, backplane.ErrClosed
	}
	defer b.running.Done()
	return b.table.watch(f), nil
}
