package hub_test

import (
	"context"
	"time"

	"example.com/presence/pkg/presence/backplane"
)

// simPlan contains the faults of one call.
type simPlan struct {
	before, after time.Duration // in addition to the delays of the request and of the reply
	ignored       bool          // the engine does not carry out the call
	failed        bool          // the call returns ErrUnavailable
	stale         time.Duration // the result is as old as this
}

type simReply[T any] struct {
	value T
	err   error
}

// simAnswer makes a call of a node: it travels to the engine, is carried out there by f, and the
// reply travels back. plan draws the faults of the call; it may be nil. plan and f are called with
// the lock held.
func simAnswer[T any](ctx context.Context, b *simBus, plan func() simPlan, f func(p simPlan) T) (value T, err error) {
	if err := b.enter(ctx); err != nil {
		return value, err
	}
	e, replies := b.engine, make(chan simReply[T], 1)
	fail := func() { b.failLocked(func() { replies <- simReply[T]{err: backplane.ErrUnavailable} }) }
	var p simPlan
	if plan != nil {
		p = plan()
	}
	request := func() {
		if b.cutOff {
			fail()
			return
		}
		var r simReply[T]
		if !p.ignored {
			r.value = f(p)
		}
		if p.failed {
			r = simReply[T]{err: backplane.ErrUnavailable}
		}
		at := time.Now().Add(e.delayLocked(e.dice) + p.after)
		if at.Before(b.statusAt) {
			at = b.statusAt
		}
		e.atLocked(at, &simEvent{bus: b, run: func() { replies <- r }, lost: fail})
	}
	if b.cutOff {
		fail()
	} else {
		e.inLocked(e.delayLocked(b.dice)+p.before, request)
	}
	e.mu.Unlock()
	select {
	case r := <-replies:
		return r.value, r.err
	case <-b.done:
		return value, backplane.ErrClosed
	case <-ctx.Done():
		return value, b.leave(ctx)
	}
}

// failLocked calls f, because the node is cut off: at once or after a while.
func (b *simBus) failLocked(f func()) {
	e, wait := b.engine, time.Duration(0)
	e.stats.refusedByCut++
	if chance(b.dice, 0.5) {
		wait = between(b.dice, 0, 2*time.Second)
	}
	b.toNodeLocked(wait, &simEvent{local: true, run: f})
}
