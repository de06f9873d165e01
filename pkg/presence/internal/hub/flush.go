package hub

import (
	"time"

	"example.com/presence/pkg/presence/internal/stream"
	"example.com/presence/pkg/presence/room"
)

// flushLocked removes the users whose grace period has ended, publishes the changes if the flush
// interval has ended, and sets the timer for the next of either. Every change of a room ends here.
func (c *counter) flushLocked(now time.Time) {
	if c.closed {
		return
	}
	c.room.Expire(now)
	if used := c.room.Users() > 0; used && !c.idle.IsZero() {
		c.setIdleLocked(time.Time{})
	} else if !used && c.idle.IsZero() {
		c.setIdleLocked(now)
	}
	due := c.room.Due(now)
	if c.hasNewsLocked(now) {
		if c.inIntervalLocked(now) && c.room.Exceeds() {
			c.publishLocked(now, false) // from now on no joiner waits for members
		}
		if end := c.flushEndLocked(); !now.Before(end) {
			c.publishLocked(now, true)
			due = c.room.Due(now)
		} else if due.IsZero() || end.Before(due) {
			due = end
		}
	}
	if !c.idle.IsZero() && due.IsZero() {
		due = c.idle.Add(c.shared.config.RoomAge)
	}
	if due.After(now) {
		c.setTimerLocked(due.Sub(now))
	} else { // nothing is due, or the room has expired: its state says so
		c.stopTimerLocked()
	}
}

// offerLocked offers an idle room to eviction and to the timer again: they pass over a room that is
// not unused yet.
func (c *counter) offerLocked(now time.Time) {
	if !c.idle.IsZero() {
		c.setIdleLocked(c.idle)
		c.flushLocked(now)
	}
}

// publishLocked publishes the member changes and sends the waiting joiners a snapshot that includes
// them. With the count it ends the interval.
func (c *counter) publishLocked(now time.Time, count bool) {
	news := c.room.News(now)
	id := c.position.String()
	for _, change := range news.Changes {
		c.changedLocked(change)
		if !news.Sync && !c.room.Counting() {
			c.stream.Publish(changeEvent(id, &c.room, change), stream.Every)
		}
	}
	var snapshot []byte // encoded once for all
	if news.Sync || c.hasJoinersLocked() {
		snapshot = snapshotOf(&c.room, c.shared.config.Heartbeat)
		c.shared.totals.snapshots.Add(1)
	}
	if news.Sync {
		c.stream.Publish(syncEvent(id, snapshot), stream.Free)
	}
	n := c.countLocked()
	if count && (n != c.published || c.ahead) {
		c.published, c.ahead = n, false
		c.stream.Publish(countEvent(id, n), stream.Latest)
		c.shared.totals.counts.Add(1)
	}
	if c.hasJoinersLocked() {
		c.admitLocked(snapshot, n)
		c.ahead = c.ahead || n != c.published
	}
	if count {
		c.flushed = now
	}
}

// changedLocked counts a join or a leave, and has the host's hook called.
func (c *counter) changedLocked(change room.Change) {
	switch change.Event {
	case room.EventJoin:
		c.shared.totals.joins.Add(1)
	case room.EventLeave:
		c.shared.totals.leaves.Add(1)
	}
	c.shared.hooks.memberChanged(c.name, change)
}

// admitLocked sends the joiners of this interval the snapshot, encoded once for all of them, and
// attaches them to the shared stream. Each gets the snapshot at its own position, which is why the
// id lines stand apart, then the messages since, so that no id goes back.
func (c *counter) admitLocked(snapshot []byte, count int) {
	joiners := c.waits.joiners
	sync := syncEvent("", snapshot).Append(nil)
	number := countEvent("", count).Append(nil)
	account, slow := c.shared.snapshots.start(len(sync), joiners)
	for _, conn := range slow {
		conn.client.Drop(stream.Slow) // with a goodbye it would hold the snapshot for as long as that may take
	}
	first := joiners[0].missed
	missed := replayOf(nil, c.position.Epoch, c.waits.recent[first-c.waits.dropped:])
	for _, j := range joiners {
		id := []byte("id: " + j.position + "\n")
		pieces := [][]byte{id, sync, id, number}
		if rest := missed[piecesPerMessage*(j.missed-first):]; len(rest) > 0 {
			pieces = append(pieces, rest...)
		}
		j.client.SendThen(func() { c.shared.snapshots.sent(account, j.Connection) }, pieces...)
		c.stream.Attach(j.client)
		c.shared.conns.admit(j.Connection)
	}
	c.waits.joiners = nil
	c.endWaitsLocked()
}
