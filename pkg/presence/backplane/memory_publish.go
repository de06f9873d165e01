package backplane

import (
	"context"
	"errors"

	"example.com/presence/pkg/presence/room"
)

// Subscribe implements [Bus].
func (m *Memory) Subscribe(topic room.Name, h Handler) (cancel func(), err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, ErrClosed
	}
	s := m.topics.subscribe(topic, h)
	return func() { m.unsubscribe(s) }, nil
}

func (m *Memory) unsubscribe(s *subscription) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed { // Close has ended it
		return
	}
	m.topics.unsubscribe(s)
	s.end(s)
}

// Publish implements [Bus]. It never waits: if the backlog of a subscription is full, the message
// is dropped for that subscription.
func (m *Memory) Publish(ctx context.Context, topic room.Name, data []byte) error {
	if err := m.lock(ctx); err != nil {
		return err
	}
	m.sendAndUnlock(topic, delivery{kind: kindMessage, Entry: Entry{Data: data}})
	return nil
}

// Ask implements [Bus]. Without a subscription, it returns ErrNoSubscription. It returns as soon as
// every subscription has answered, even if ctx has not ended.
func (m *Memory) Ask(ctx context.Context, topic room.Name, request []byte, answer func(data []byte) (more bool)) error {
	err := m.lockWithSpace(ctx, func() <-chan struct{} { return m.topics.full(topic, kindAsk) })
	if errors.Is(err, ErrClosed) {
		return err
	}
	if err != nil { // ctx has ended
		return nil
	}
	asked := 0
	for s := m.topics.subscriptions(topic); s != nil; s = s.next {
		if s.wants(kindAsk) && m.losing == 0 {
			asked++
		}
	}
	if asked == 0 && m.losing == 0 {
		m.mu.Unlock()
		return ErrNoSubscription
	}
	answers := make(chan []byte, asked)
	m.sendAndUnlock(topic, delivery{kind: kindAsk, Entry: Entry{Data: request}, answers: answers})
	for range asked {
		select {
		case data := <-answers:
			if data != nil && !answer(data) {
				return nil
			}
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

// sendAndUnlock queues d for the subscriptions of the topic and releases the lock. It then delivers
// to the idle subscriptions on the calling goroutine.
func (m *Memory) sendAndUnlock(topic room.Name, d delivery) {
	var space [4]*subscription
	mine := space[:0]
	for s := m.topics.subscriptions(topic); s != nil && m.losing == 0; s = s.next {
		if s.wants(d.kind) && m.sendLocked(s, d) {
			mine = append(mine, s)
		}
	}
	m.mu.Unlock()
	for _, s := range mine {
		s.run(s, d, &m.active)
	}
}

// sendLocked queues d for one subscription. mine reports whether the caller must deliver it.
func (m *Memory) sendLocked(s *subscription, d delivery) (mine bool) {
	if d.kind == kindMessage && s.full() != nil {
		if s.lossy || s.Lost == nil { // lossy: the backlog is full, so it still contains Lost
			return false
		}
		d = delivery{kind: kindLost}
	}
	s.lossy = d.kind == kindLost
	if s.add(d) {
		m.active.Add(1)
		return true
	}
	return false
}

// loseAndUnlock queues Lost at the end of every subscription's backlog and releases the lock. It
// then delivers to the idle subscriptions on the calling goroutine.
func (m *Memory) loseAndUnlock() {
	var mine []*subscription
	for tp := range m.topics.byName.All() {
		for s := tp.first; s != nil; s = s.next {
			if s.wants(kindLost) && m.sendLocked(s, delivery{kind: kindLost}) {
				mine = append(mine, s)
			}
		}
	}
	m.mu.Unlock()
	for _, s := range mine {
		s.run(s, delivery{kind: kindLost}, &m.active)
	}
}

// Lose simulates a lost connection to an engine, for tests. Messages that are published or appended
// while during runs do not reach any subscription. Afterwards, Lose calls Lost for every
// subscription.
func (m *Memory) Lose(during func()) {
	m.mu.Lock()
	m.losing++
	m.mu.Unlock()
	during()
	m.mu.Lock()
	m.losing--
	m.loseAndUnlock()
}

// Recreate simulates an engine that has lost its disk, for tests: it recreates the log under a new
// epoch. It removes all entries and all keys and restarts the positions, but keeps the table.
// Status returns the new epoch before Lost is called for any subscription.
func (m *Memory) Recreate() {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return
	}
	m.epoch = newEpoch()
	m.topics.recreate()
	m.keys.clear()
	turns := m.notifiers.add(m.statusLocked(), nil, &m.active)
	m.loseAndUnlock()
	run(turns, &m.active)
}
