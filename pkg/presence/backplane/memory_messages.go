package backplane

import (
	"context"
	"fmt"

	"example.com/presence/pkg/presence/room"
)

// Append implements [Bus]. It is AppendFrom with an empty sender.
func (m *Memory) Append(ctx context.Context, name room.Name, key string, data []byte) (position uint64, duplicate bool, err error) {
	return m.AppendFrom(ctx, name, "", key, data)
}

// AppendFrom implements [SenderLog]. If it returns an error, the message was not accepted.
func (m *Memory) AppendFrom(ctx context.Context, name room.Name, sender room.UserID, key string, data []byte) (position uint64, duplicate bool, err error) {
	var hash keyHash
	if key != "" {
		hash = hashKey(name, key)
	}
	err = m.lockWithSpace(ctx, func() <-chan struct{} { return m.topics.full(name, kindEntry) })
	if err != nil {
		return 0, false, err
	}
	now := m.now()
	m.topics.logs.expire(now)
	if key != "" {
		position, duplicate = m.keys.find(hash, now)
		full := !duplicate && m.keys.full()
		if duplicate || full {
			m.mu.Unlock()
		}
		switch {
		case duplicate:
			return position, true, nil
		case full:
			return 0, false, fmt.Errorf("%w (%d)", ErrKeysFull, m.keys.limit)
		}
	}
	evictions := m.topics.logs.evictions
	e := m.topics.add(name, sender, data, now)
	isFull := m.topics.logs.evictions > evictions
	if key != "" {
		m.keys.add(hash, e.Position, now)
	}
	m.setTimerLocked(now)
	m.sendAndUnlock(name, delivery{kind: kindEntry, Entry: e})
	if isFull && m.full != nil {
		m.full()
	}
	return e.Position, false, nil
}

// Read implements [Bus].
func (m *Memory) Read(ctx context.Context, name room.Name, after uint64) (entries []Entry, complete bool, err error) {
	if err := m.lock(ctx); err != nil {
		return nil, false, err
	}
	defer m.mu.Unlock()
	m.topics.logs.expire(m.now())
	entries, complete = m.topics.log(name).after(after)
	return entries, complete, nil
}

// Last implements [Bus].
func (m *Memory) Last(ctx context.Context, name room.Name) (position uint64, err error) {
	if err := m.lock(ctx); err != nil {
		return 0, err
	}
	defer m.mu.Unlock()
	m.topics.logs.expire(m.now())
	return m.topics.log(name).last, nil
}

// Clear implements [Bus].
func (m *Memory) Clear(ctx context.Context, name room.Name) error {
	if err := m.lock(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	m.topics.logs.clear(m.topics.log(name))
	return nil
}
