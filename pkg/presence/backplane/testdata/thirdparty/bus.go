// Package thirdparty shows that another module can implement an engine with exported names only.
// Its methods have the correct signatures but not the behaviour that Bus requires.
package thirdparty

import (
	"context"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/room"
)

// Bus is a stub that connects to no server.
type Bus struct{}

var _ backplane.Bus = Bus{}

// Publish implements [backplane.Bus].
func (Bus) Publish(ctx context.Context, topic room.Name, data []byte) error {
	if topic == backplane.Nodes {
		return context.Cause(ctx)
	}
	return backplane.ErrUnavailable
}

// Subscribe implements [backplane.Bus].
func (Bus) Subscribe(topic room.Name, h backplane.Handler) (cancel func(), err error) {
	if h.Entry != nil {
		h.Entry(backplane.Entry{Position: 1, At: time.Now(), Data: []byte("{}")})
	}
	return func() {}, nil
}

// Ask implements [backplane.Bus].
func (Bus) Ask(ctx context.Context, topic room.Name, request []byte, answer func(data []byte) (more bool)) error {
	answer(request)
	return nil
}

// Append implements [backplane.Bus].
func (Bus) Append(ctx context.Context, name room.Name, key string, data []byte) (position uint64, duplicate bool, err error) {
	return 0, false, backplane.ErrKeysFull
}

// Read implements [backplane.Bus].
func (Bus) Read(ctx context.Context, name room.Name, after uint64) (entries []backplane.Entry, complete bool, err error) {
	return nil, false, nil
}

// Last implements [backplane.Bus].
func (Bus) Last(ctx context.Context, name room.Name) (position uint64, err error) { return 0, nil }

// Clear implements [backplane.Bus].
func (Bus) Clear(ctx context.Context, name room.Name) error { return backplane.ErrClosed }

// Put implements [backplane.Bus].
func (Bus) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	return backplane.ErrTableFull
}

// Delete implements [backplane.Bus].
func (Bus) Delete(ctx context.Context, key string) error { return nil }

// Watch implements [backplane.Bus].
func (Bus) Watch(f func(backplane.Row)) (cancel func(), err error) {
	f(backplane.Row{Key: "k", Expires: time.Now().Add(time.Minute)})
	return func() {}, nil
}

// Shared implements backplane.Bus.
func (Bus) Shared() bool { return true }

// Status implements [backplane.Bus].
func (Bus) Status() backplane.Status { return backplane.Status{Epoch: "0123456789"} }

// Notify implements [backplane.Bus].
func (b Bus) Notify(f func(backplane.Status)) (cancel func()) { return func() {} }

// Close implements [backplane.Bus].
func (Bus) Close() {}
