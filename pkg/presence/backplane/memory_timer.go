package backplane

import "time"

// setTimerLocked sets the timer for the next row, entry or key that expires. The timer runs only
// while something can expire.
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
		return // a timer that is already set sets itself again
	}
	if m.stop != nil {
		m.stop()
	}
	m.timers++
	number := m.timers
	m.due, m.stop = due, m.afterFunc(due.Sub(now), func() { m.expire(number) })
}

// expire removes the entries, keys and rows that have expired. The timer calls it with its number.
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

// expireRowsLocked removes the rows that have expired. The caller runs the turns without the lock.
func (m *Memory) expireRowsLocked(now time.Time) (turns []turn[Row]) {
	for {
		key, ok := m.table.expired(now)
		if !ok {
			return turns
		}
		turns = m.watchers.add(Row{Key: key, Deleted: true}, turns, &m.active)
	}
}
