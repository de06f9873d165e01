package backplane

import "time"

// setTimerLocked sets the timer to the time when the next row, entry or key must be removed. The
// timer runs only while there is something that can expire.
func (m *Memory) setTimerLocked(now time.Time) {
	due := m.table.due()
	for _, sweep := range [...]time.Time{m.topics.logs.due(), m.keys.due()} {
		if !sweep.IsZero() {
			if sweep = sweep.Add(sweepDelay); due.IsZero() || sweep.Before(due) {
				due = sweep
			}
		}
	}
	if due.IsZero() || !m.due.IsZero() && !due.Before(m.due) {
		return // nothing can expire, or the current timer fires first and then sets the next one
	}
	if m.stop != nil {
		m.stop()
	}
	m.timers++
	number := m.timers
	m.due, m.stop = due, m.afterFunc(due.Sub(now), func() { m.expire(number) })
}

// expire removes expired entries, keys and rows. The timer passes its number, so that expire can
// ignore a timer that was replaced.
func (m *Memory) expire(number uint64) {
	m.mu.Lock()
	if m.closed || number != m.timers {
		m.mu.Unlock()
		return
	}
	m.due, m.stop = time.Time{}, nil
	now := m.now()
	m.topics.logs.expire(now)
	m.keys.expire(now)
	turns := m.expireRowsLocked(now)
	m.setTimerLocked(now)
	m.mu.Unlock()
	run(turns, &m.active)
}

// expireRowsLocked removes expired rows. It returns the deliveries to watchers that the caller must
// run after releasing the lock.
func (m *Memory) expireRowsLocked(now time.Time) (turns []turn[Row]) {
	for {
		key, ok := m.table.expired(now)
		if !ok {
			return turns
		}
		turns = m.watchers.add(Row{Key: key, Deleted: true}, turns, &m.active)
	}
}
