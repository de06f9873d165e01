package hub_test

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/room"
)

// simLink is the way of the publications of one node to another, or to itself. The mutex of the
// engine guards it.
type simLink struct {
	last time.Time // when the last publication arrives
	// How many publications, requests and answers were lost in a row, per topic.
	lost, asksLost, answersLost map[room.Name]int
	lostAt                      time.Time // when the last request or answer was lost
}

func (b *simBus) linkLocked(to *simBus) *simLink {
	l := b.links[to]
	if l == nil {
		l = &simLink{lost: map[room.Name]int{}, asksLost: map[room.Name]int{}, answersLost: map[room.Name]int{}}
		b.links[to] = l
	}
	return l
}

// loseLocked decides whether something is lost, and counts it.
func (e *simEngine) loseLocked(b *simBus, inRow map[room.Name]int, topic room.Name, total *int) bool {
	if inRow[topic] < cmp.Or(e.faults.inRow, simLossesInRow) && chance(b.dice, e.faults.loss) {
		inRow[topic]++
		*total++
		return true
	}
	delete(inRow, topic)
	return false
}

// loseAskLocked decides whether a request of b, or the answer to it, is lost on its way to the node
// to or back. If at most one is lost in a row, both count: a second request within simAskGap is
// answered.
func (e *simEngine) loseAskLocked(b, to *simBus, inRow map[room.Name]int, topic room.Name, total *int) bool {
	link := b.linkLocked(to)
	if e.faults.inRow == 1 && time.Since(link.lostAt) < simAskGap || !e.loseLocked(b, inRow, topic, total) {
		return false
	}
	link.lostAt = time.Now()
	return true
}

func (b *simBus) Publish(ctx context.Context, topic room.Name, data []byte) error {
	if err := b.enterPublish(ctx); err != nil {
		return err
	}
	e := b.engine
	defer e.mu.Unlock()
	if b.cutOff {
		e.stats.refusedByCut++
		if !b.status.Connected {
			return backplane.ErrUnavailable
		}
		return nil // the node does not know yet that it is cut off
	}
	e.order++
	for _, to := range e.buses {
		if len(to.subs[topic]) > 0 && !to.cutOff {
			b.sendLocked(to, topic, data)
		}
	}
	return nil
}

// sendLocked sends a publication to one node, which may be the publisher.
func (b *simBus) sendLocked(to *simBus, topic room.Name, data []byte) {
	e, link, order := b.engine, b.linkLocked(to), b.engine.order
	if e.loseLocked(b, link.lost, topic, &e.stats.lost) {
		e.trace("%s: a frame to %s on %q is lost (%d in a row)", b.name, to.name, topic, link.lost[topic])
		return
	}
	frame := func() { to.receiveLocked(topic, data, order) }
	at := time.Now().Add(e.delayLocked(b.dice))
	if at.Before(link.last) {
		at = link.last
	}
	link.last = e.atLocked(at, b.frame(to, topic, order, frame))
	if chance(b.dice, e.faults.duplicates) {
		e.stats.duplicated++
		e.trace("%s: a frame to %s on %q arrives twice", b.name, to.name, topic)
		late := e.delayLocked(b.dice) + between(b.dice, 0, 500*time.Millisecond)
		to.toNodeLocked(late, &simEvent{run: frame})
	}
}

// frame returns the event of a publication that arrives. If the publisher or the receiver is cut
// off meanwhile, the frame may arrive after the end of the cut.
func (b *simBus) frame(to *simBus, topic room.Name, order uint64, run func()) *simEvent {
	e := b.engine
	hold := func(cut *simBus) {
		if order <= cut.cutAt && len(cut.held) < cut.mayHold {
			e.stats.held++
			e.trace("%s: a frame to %s on %q waits for the end of the cut", b.name, to.name, topic)
			cut.held = append(cut.held, func() { e.happenLocked(&simEvent{bus: to, run: run}) })
		}
	}
	return &simEvent{bus: to, lost: func() { hold(to) }, run: func() {
		if b.cutOff && b != to && chance(e.dice, 0.5) {
			hold(b)
			return
		}
		run()
	}}
}

// receiveLocked delivers a publication to the subscriptions that existed when it was sent.
func (b *simBus) receiveLocked(topic room.Name, data []byte, order uint64) {
	for _, s := range b.subs[topic] {
		if s.Message != nil && s.order < order {
			b.engine.callLocked(&s.simReceiver, func() { s.Message(data) })
		}
	}
}

// simAsk is a running call of Ask. The mutex of the engine guards answers and failed.
type simAsk struct {
	answers [][]byte
	failed  bool
	signal  chan struct{} // receives a value after each change; has a buffer of one
}

func (a *simAsk) notify() {
	select {
	case a.signal <- struct{}{}:
	default:
	}
}

// Ask returns when ctx ends or when answer returns false, because the engine does not know whether
// an answer is still on its way.
func (b *simBus) Ask(ctx context.Context, topic room.Name, request []byte, answer func([]byte) bool) error {
	if err := b.enter(ctx); errors.Is(err, backplane.ErrClosed) {
		return err
	} else if err != nil { // ctx has ended
		return nil
	}
	e, a := b.engine, &simAsk{signal: make(chan struct{}, 1)}
	switch {
	case !b.cutOff && !e.hasAskLocked(topic):
		e.mu.Unlock()
		return backplane.ErrNoSubscription
	case !b.cutOff:
		for _, to := range e.buses {
			if !to.cutOff {
				b.askLocked(to, topic, request, a)
			}
		}
	case !b.status.Connected || chance(b.dice, 0.5):
		b.failLocked(func() {
			a.failed = true
			a.notify()
		})
	}
	e.mu.Unlock()
	return b.awaitAnswers(ctx, a, answer)
}

// hasAskLocked reports whether a node answers for the topic. Like a NATS server, the engine knows
// the subscriptions of a node that was cut off for a while.
func (e *simEngine) hasAskLocked(topic room.Name) bool {
	for _, b := range e.buses {
		for _, s := range b.subs[topic] {
			if s.Handler.Ask != nil && (!b.cutOff || chance(b.dice, 0.5)) {
				return true
			}
		}
	}
	return false
}

func (b *simBus) awaitAnswers(ctx context.Context, a *simAsk, answer func([]byte) bool) error {
	for {
		select {
		case <-a.signal:
		case <-b.done:
			return backplane.ErrClosed
		case <-ctx.Done():
			if errors.Is(b.leave(ctx), backplane.ErrClosed) {
				return backplane.ErrClosed
			}
			return nil
		}
		b.engine.mu.Lock()
		answers, failed := a.answers, a.failed
		a.answers = nil
		b.engine.mu.Unlock()
		if failed {
			return backplane.ErrUnavailable
		}
		for _, data := range answers {
			if !answer(data) {
				return nil
			}
		}
	}
}

// askLocked sends a request to one node.
func (b *simBus) askLocked(to *simBus, topic room.Name, request []byte, a *simAsk) {
	e := b.engine
	if e.loseAskLocked(b, to, b.linkLocked(to).asksLost, topic, &e.stats.asksLost) {
		e.trace("%s: a request to %s on %q is lost", b.name, to.name, topic)
		return
	}
	to.toNodeLocked(e.delayLocked(b.dice), &simEvent{run: func() {
		for _, s := range to.subs[topic] {
			if s.Handler.Ask != nil {
				e.callLocked(&s.simReceiver, func() { to.answer(b, topic, s.Handler.Ask(request), a) })
			}
		}
	}})
}

// answer sends an answer to the node that has asked.
func (b *simBus) answer(to *simBus, topic room.Name, data []byte, a *simAsk) {
	e := b.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	if data == nil || b.cutOff || b.closed || to.closed {
		return
	}
	if e.loseAskLocked(to, b, b.linkLocked(to).answersLost, topic, &e.stats.answersLost) {
		e.trace("%s: an answer to %s on %q is lost", b.name, to.name, topic)
		return
	}
	to.toNodeLocked(e.delayLocked(b.dice), &simEvent{run: func() {
		a.answers = append(a.answers, data)
		a.notify()
	}})
}

// sortedKeys returns the keys of a map in order.
func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
