package backplane

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Put implements [Bus]. If it returns an error, the row was not stored.
func (m *Memory) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	if ttl <= 0 {
		return fmt.Errorf("backplane: put %q: time to live not positive (%v)", key, ttl)
	}
	if err := m.lockWithSpace(ctx, func() <-chan struct{} { return m.watchers.full() }); err != nil {
		return err
	}
	now := m.now()
	turns := m.expireRowsLocked(now)
	r := Row{Key: key, Value: value, Expires: now.Add(ttl)}
	stored := m.table.put(r)
	if stored {
		turns = m.watchers.add(r, turns, &m.active)
		m.setTimerLocked(now)
	}
	m.mu.Unlock()
	run(turns, &m.active)
	if !stored {
		return &TableFullError{m.table.limit}
	}
	return nil
}

// Delete implements [Bus].
func (m *Memory) Delete(ctx context.Context, key string) error {
	if err := m.lockWithSpace(ctx, func() <-chan struct{} { return m.watchers.full() }); err != nil {
		return err
	}
	var turns []turn[Row]
	if m.table.remove(key) {
		turns = m.watchers.add(Row{Key: key, Deleted: true}, nil, &m.active)
	}
	m.mu.Unlock()
	run(turns, &m.active)
	return nil
}

// Watch implements [Bus].
func (m *Memory) Watch(f func(Row)) (cancel func(), err error) {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return nil, ErrClosed
	}
	w := &listener[Row]{call: f}
	w.busy = true // queues changes until f has received the existing rows
	m.watchers = append(m.watchers, w)
	m.active.Add(1)
	rows := m.table.all()
	m.mu.Unlock()
	for _, r := range rows {
		if w.isEnded() {
			break
		}
		f(r)
	}
	w.drain(w, &m.active)
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if i := slices.Index(m.watchers, w); i >= 0 {
			m.watchers = slices.Delete(m.watchers, i, i+1)
			w.end(w)
		}
	}, nil
}

// Notify implements [Bus].
func (m *Memory) Notify(f func(Status)) (cancel func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return func() {}
	}
	n := &listener[Status]{call: f}
	m.notifiers = append(m.notifiers, n)
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if i := slices.Index(m.notifiers, n); i >= 0 {
			m.notifiers = slices.Delete(m.notifiers, i, i+1)
			n.end(n)
		}
	}
}
