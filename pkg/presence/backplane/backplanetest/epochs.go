package backplanetest

import (
	"context"
	"fmt"
	"math"
	"sync"
	"sync/atomic"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/room"
)

// EpochBus wraps a bus and changes the epoch on demand. Several hubs can share one EpochBus. It
// remembers every room that was used. For a backplane.Memory, Memory.Recreate does the same.
type EpochBus struct {
	backplane.Bus

	changing sync.Mutex // held by Change, also while it calls handlers, and by Close, which waits for Change
	mu       sync.Mutex // guards the rest
	epoch    string
	changes  int
	ends     map[room.Name]uint64 // last positions of the previous epoch, as numbered by the wrapped bus
	subs     map[*epochSubscription]struct{}
	notified map[*epochNotification]struct{}
}

// Epochs returns a bus that wraps b and starts in the epoch of b. Close closes b.
func Epochs(b backplane.Bus) *EpochBus {
	return &EpochBus{Bus: b, epoch: b.Status().Epoch, ends: map[room.Name]uint64{},
		subs: map[*epochSubscription]struct{}{}, notified: map[*epochNotification]struct{}{}}
}

// Change replaces the log with an empty one under a new epoch and restarts its positions. If Last
// of the wrapped bus fails, Change returns that error and changes nothing.
func (b *EpochBus) Change(ctx context.Context) error {
	b.changing.Lock()
	defer b.changing.Unlock()
	b.mu.Lock()
	ends := map[room.Name]uint64{}
	for name := range b.ends {
		ends[name] = 0
	}
	b.mu.Unlock()
	for name := range ends {
		last, err := b.Bus.Last(ctx, name)
		if err != nil {
			return fmt.Errorf("change epoch: last position of room %q: %w", name, err)
		}
		ends[name] = last
	}
	b.mu.Lock()
	b.changes++
	b.epoch = fmt.Sprintf("%010x", b.changes)
	for name, end := range ends {
		b.ends[name] = end
	}
	status := b.status(b.Bus.Status())
	var subs []*epochSubscription
	for s := range b.subs {
		subs = append(subs, s)
	}
	var notified []*epochNotification
	for n := range b.notified {
		notified = append(notified, n)
	}
	b.mu.Unlock()
	for _, s := range subs {
		s.call(func() {})
	}
	for _, n := range notified {
		n.call(status)
	}
	return nil
}

// status returns s with the epoch of b. The caller must hold the lock.
func (b *EpochBus) status(s backplane.Status) backplane.Status {
	s.Epoch = b.epoch
	return s
}

// use records that a room is used. It returns the last position of the room in the previous epoch,
// and the current epoch.
func (b *EpochBus) use(name room.Name) (end uint64, epoch string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	end = b.ends[name]
	b.ends[name] = end
	return end, b.epoch
}

// Status returns the status of the wrapped bus with the epoch of b.
func (b *EpochBus) Status() backplane.Status {
	s := b.Bus.Status()
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.status(s)
}

// Append adds a message to the log of the current epoch. Keys of earlier epochs are unknown in it.
func (b *EpochBus) Append(ctx context.Context, name room.Name, key string, data []byte) (position uint64, duplicate bool, err error) {
	end, epoch := b.use(name)
	if key != "" {
		key = epoch + "/" + key
	}
	position, duplicate, err = b.Bus.Append(ctx, name, key, data)
	return position - min(end, position), duplicate, err
}

// Read returns only entries of the current epoch.
func (b *EpochBus) Read(ctx context.Context, name room.Name, after uint64) (entries []backplane.Entry, complete bool, err error) {
	end, _ := b.use(name)
	entries, complete, err = b.Bus.Read(ctx, name, after+min(end, math.MaxUint64-after))
	for i := range entries {
		entries[i].Position -= end
	}
	return entries, complete, err
}

// Last returns the last position of the current epoch.
func (b *EpochBus) Last(ctx context.Context, name room.Name) (position uint64, err error) {
	end, _ := b.use(name)
	position, err = b.Bus.Last(ctx, name)
	return position - min(end, position), err
}

// Close closes the wrapped bus.
func (b *EpochBus) Close() {
	b.Bus.Close()
	b.changing.Lock()
	defer b.changing.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.subs)
	clear(b.notified)
}

// epochSubscription wraps a handler and calls Lost between the entries of two epochs.
type epochSubscription struct {
	bus     *EpochBus
	topic   room.Name
	h       backplane.Handler
	ended   atomic.Bool
	mu      sync.Mutex // held while h is called; guards end and changes
	end     uint64
	changes int
}

// Subscribe subscribes to the wrapped bus.
func (b *EpochBus) Subscribe(topic room.Name, h backplane.Handler) (cancel func(), err error) {
	s := &epochSubscription{bus: b, topic: topic, h: h}
	s.end, _ = b.use(topic)
	b.mu.Lock()
	s.changes = b.changes
	b.subs[s] = struct{}{}
	b.mu.Unlock()
	end, err := b.Bus.Subscribe(topic, s.handler())
	cancel = func() {
		s.ended.Store(true)
		b.mu.Lock()
		delete(b.subs, s)
		b.mu.Unlock()
		if end != nil {
			end()
		}
	}
	if err != nil {
		cancel()
		return nil, err
	}
	return cancel, nil
}

// call calls f. If the epoch has changed since the previous call, it calls Lost first.
func (s *epochSubscription) call(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bus.mu.Lock()
	changed := s.changes != s.bus.changes
	s.end, s.changes = s.bus.ends[s.topic], s.bus.changes
	s.bus.mu.Unlock()
	if changed && s.h.Lost != nil && !s.ended.Load() {
		s.h.Lost()
	}
	if !s.ended.Load() {
		f()
	}
}

func (s *epochSubscription) handler() backplane.Handler {
	var h backplane.Handler
	if s.h.Entry != nil {
		h.Entry = func(e backplane.Entry) {
			s.call(func() {
				if e.Position > s.end { // otherwise it belongs to the previous epoch
					e.Position -= s.end
					s.h.Entry(e)
				}
			})
		}
	}
	if s.h.Message != nil {
		h.Message = func(data []byte) { s.call(func() { s.h.Message(data) }) }
	}
	if s.h.Ask != nil {
		h.Ask = func(request []byte) (answer []byte) {
			s.call(func() { answer = s.h.Ask(request) })
			return answer
		}
	}
	if s.h.Lost != nil {
		h.Lost = func() { s.call(s.h.Lost) }
	}
	return h
}

// epochNotification holds the function of one call of Notify.
type epochNotification struct {
	mu    sync.Mutex // held while f is called
	f     func(backplane.Status)
	ended atomic.Bool
}

// Notify calls f after each status change of the wrapped bus and after each Change.
func (b *EpochBus) Notify(f func(backplane.Status)) (cancel func()) {
	n := &epochNotification{f: f}
	b.mu.Lock()
	b.notified[n] = struct{}{}
	b.mu.Unlock()
	end := b.Bus.Notify(func(backplane.Status) { n.call(b.Status()) })
	return func() {
		n.ended.Store(true)
		b.mu.Lock()
		delete(b.notified, n)
		b.mu.Unlock()
		end()
	}
}

func (n *epochNotification) call(s backplane.Status) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.ended.Load() {
		n.f(s)
	}
}
