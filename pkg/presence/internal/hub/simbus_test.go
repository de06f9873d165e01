package hub_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/room"
)

// simBus is the backplane.Bus of one node on a simEngine. The mutex of the engine guards all fields
// below done.
type simBus struct {
	engine *simEngine
	name   string
	clock  *simClock
	active sync.WaitGroup // counts running handlers; incremented under the lock while not closed
	done   chan struct{}  // closed by Close and crash

	dice     *rand.Rand // for the calls of this node
	closed   bool
	status   backplane.Status // as this node knows it
	statusAt time.Time        // when the last announced status arrives
	logAt    time.Time        // when the last entry or status arrives
	links    map[*simBus]*simLink
	subs     map[room.Name][]*simSubscription
	watchers []*simWatcher
	notifies []*simNotifier

	cutOff  bool
	cutAt   uint64   // engine.order at the cut
	cuts    int      // number of cuts so far
	mayHold int      // how many more frames of before the cut arrive after its end
	held    []func() // those frames

	frozen   bool
	thawed   chan struct{} // closed at the end of the freeze
	gathered []*simEvent   // events that wait for the end of the freeze, or for earlier ones
	draining bool

	blocked chan struct{} // closed when calls of Publish no longer block; nil: they do not
	refuses bool          // these calls then return ErrUnavailable
}

type simSubscription struct {
	simReceiver
	backplane.Handler
	order uint64 // engine.order at Subscribe
}

type simNotifier struct {
	simReceiver
	f func(backplane.Status)
}

func (b *simBus) init() {
	b.status = backplane.Status{Epoch: b.engine.log.epoch, Connected: true}
	b.links = map[*simBus]*simLink{}
	b.subs = map[room.Name][]*simSubscription{}
}

// enter begins a call. While the node is frozen, it waits. If it returns no error, the caller holds
// the lock of the engine.
func (b *simBus) enter(ctx context.Context) error {
	for {
		b.engine.mu.Lock()
		thawed := b.thawed
		switch {
		case b.closed:
			b.engine.mu.Unlock()
			return backplane.ErrClosed
		case !b.frozen && ctx.Err() != nil:
			b.engine.mu.Unlock()
			return context.Cause(ctx)
		case !b.frozen:
			return nil
		}
		b.engine.mu.Unlock()
		select {
		case <-thawed:
		case <-b.done:
		}
	}
}

// enterPublish begins a call of Publish. While the publications block, it waits. If it returns no
// error, the caller holds the lock of the engine.
func (b *simBus) enterPublish(ctx context.Context) error {
	for refused := false; ; {
		if err := b.enter(ctx); err != nil {
			return err
		}
		e, blocked := b.engine, b.blocked
		switch {
		case refused:
			e.stats.refusedByBlock++
			e.mu.Unlock()
			return backplane.ErrUnavailable
		case blocked == nil:
			return nil
		}
		e.stats.blocked++
		refused = b.refuses
		e.mu.Unlock()
		select {
		case <-blocked:
			ctx = context.WithoutCancel(ctx)
		case <-b.done:
		}
	}
}

// leave ends a call whose ctx has ended. While the node is frozen, it waits.
func (b *simBus) leave(ctx context.Context) error {
	if err := b.enter(context.Background()); err != nil {
		return err
	}
	b.engine.mu.Unlock()
	return context.Cause(ctx)
}

// toNodeLocked schedules an event that reaches the node after a delay.
func (b *simBus) toNodeLocked(d time.Duration, ev *simEvent) time.Time {
	ev.bus = b
	return b.engine.atLocked(time.Now().Add(d), ev)
}

// inLogOrderLocked schedules an event that reaches the node behind all earlier entries and
// statuses.
func (b *simBus) inLogOrderLocked(run func()) time.Time {
	e := b.engine
	at := time.Now().Add(e.delayLocked(e.dice))
	if at.Before(b.logAt) {
		at = b.logAt
	}
	b.logAt = e.atLocked(at, &simEvent{bus: b, run: run})
	return b.logAt
}

func (b *simBus) setStatusLocked(s backplane.Status) {
	b.status = s
	for _, n := range b.notifies {
		b.engine.callLocked(&n.simReceiver, func() { n.f(s) })
	}
}

func (b *simBus) loseLocked() {
	for _, topic := range sortedKeys(b.subs) {
		for _, s := range b.subs[topic] {
			if s.Lost != nil {
				b.engine.callLocked(&s.simReceiver, s.Lost)
			}
		}
	}
}

func (b *simBus) Subscribe(topic room.Name, h backplane.Handler) (cancel func(), err error) {
	e := b.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	if b.closed {
		return nil, backplane.ErrClosed
	}
	s := &simSubscription{simReceiver: simReceiver{bus: b}, Handler: h, order: e.order}
	b.subs[topic] = append(b.subs[topic], s)
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		s.ended = true
		if b.subs[topic] = without(b.subs[topic], s); len(b.subs[topic]) == 0 {
			delete(b.subs, topic)
		}
	}, nil
}

func (b *simBus) Notify(f func(backplane.Status)) (cancel func()) {
	e := b.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	n := &simNotifier{simReceiver{bus: b, ended: b.closed}, f}
	b.notifies = append(b.notifies, n)
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		n.ended = true
		b.notifies = without(b.notifies, n)
	}
}

func (b *simBus) Shared() bool { return true }

func (b *simBus) Status() backplane.Status {
	b.engine.mu.Lock()
	defer b.engine.mu.Unlock()
	return b.status
}

func (b *simBus) Close() {
	b.engine.mu.Lock()
	b.endLocked()
	b.engine.mu.Unlock()
	b.active.Wait()
}

// endLocked ends all calls and subscriptions. Calling it again is a no-op.
func (b *simBus) endLocked() {
	if b.closed {
		return
	}
	b.closed, b.status.Connected = true, false
	close(b.done)
	b.subs, b.watchers, b.notifies, b.gathered, b.held = map[room.Name][]*simSubscription{}, nil, nil, nil, nil
	b.engine.buses = without(b.engine.buses, b)
	for _, other := range b.engine.buses {
		delete(other.links, b)
	}
}

// without returns a copy of list without x.
func without[T comparable](list []T, x T) []T {
	return slices.DeleteFunc(slices.Clone(list), func(y T) bool { return y == x })
}
