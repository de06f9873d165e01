package hub

import (
	"time"

	"example.com/presence/pkg/presence/internal/stream"
	"example.com/presence/pkg/presence/room"
)

// flushLocked does the work that is due, and sets the timer for the next. Every change of a room
// ends with this call. Its steps:
//
//  1. Remove the users whose grace period has ended.
//  2. Note whether the room is in use.
//  3. Publish the changes if the flush interval has ended.
//  4. Set the timer: end of the flush interval, of a grace period, or of the age of the room.
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
			c.publishLocked(now, false) // counts only from now on: no joiner waits for members
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
	} else { // nothing is due, or the room has expired, which its state reports
		c.stopTimerLocked()
	}
}

// offerLocked makes an idle room a candidate for eviction again, and sets its timer again. Both
// skip a room that is idle but not unused yet, for example while its log is read.
func (c *counter) offerLocked(now time.Time) {
	if !c.idle.IsZero() {
		c.setIdleLocked(c.idle)
		c.flushLocked(now)
	}
}

// publishLocked publishes the pending changes, in this order:
//
//  1. join, update and leave, unless the room sends counts only
//  2. sync to all clients, if the member limit was crossed
//  3. user count, if count is set and the number has changed
//  4. snapshot, count and later messages to the joiners, which are then attached
//
// With count set, it also starts the next flush interval.
func (c *counter) publishLocked(now time.Time, count bool) {
	news := c.room.News(now)
	id := c.position.String()
	for _, change := range news.Changes {
		c.changedLocked(change)
		if !news.Sync && !c.room.Counting() {
			c.stream.Publish(changeEvent(id, &c.room, change), stream.Every)
		}
	}
	var snapshot []byte // encoded once for all joiners
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

// changedLocked adds a join or a leave to the totals, and queues the call of the host's hook.
func (c *counter) changedLocked(change room.Change) {
	switch change.Event {
	case room.EventJoin:
		c.shared.totals.joins.Add(1)
	case room.EventLeave:
		c.shared.totals.leaves.Add(1)
	}
	c.shared.hooks.memberChanged(c.name, change)
}

// admitLocked sends the snapshot to the joiners of this interval, and attaches them to the shared
// stream. The snapshot is encoded once for all joiners. Only the id line differs, as each joiner
// gets the snapshot at its own position:
//
//	id: position of the joiner     own
//	sync                           shared
//	id: position of the joiner     own
//	user count                     shared
//	messages since that position   shared
//
// So the ids of a client never decrease.
func (c *counter) admitLocked(snapshot []byte, count int) {
	joiners := c.waits.joiners
	sync := syncEvent("", snapshot).Append(nil)
	number := countEvent("", count).Append(nil)
	account, slow := c.shared.snapshots.start(len(sync), joiners)
	for _, conn := range slow {
		conn.client.Drop(stream.Slow) // a goodbye could hold the snapshot in memory for seconds
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
