package hub

import (
	"time"

	"example.com/presence/pkg/presence/internal/stream"
	"example.com/presence/pkg/presence/room"
)

// flushLocked does the work that is due, and sets the timer for the next deadline. Every change of
// a room ends with this call. The steps are:
//
//  1. Remove the users whose grace period has ended.
//  2. Record whether the room is in use.
//  3. Publish the pending changes, if the flush interval has ended.
//  4. Call the hooks for all members, if this node begins or ceases to serve the room.
//  5. Set the timer to the next deadline: the end of the flush interval, the end of a grace period,
//     or the expiry of the unused room.
func (c *counter) flushLocked(now time.Time) {
	c.shareLocked(now)
	if c.closed {
		return
	}
	c.room.Expire(now)
	c.noteCountLocked()
	if used := c.room.OwnUsers() > 0; used && !c.idle.IsZero() {
		c.setIdleLocked(time.Time{})
	} else if !used && c.idle.IsZero() {
		c.setIdleLocked(now)
	}
	due := c.room.Due(now)
	if c.hasNewsLocked(now) {
		if c.inIntervalLocked(now) && c.room.Exceeds() {
			c.publishLocked(now, false) // sends only counts from now on, so no joiner has to wait for the members
		}
		if end := c.flushEndLocked(); !now.Before(end) {
			c.publishLocked(now, true)
			due = c.room.Due(now)
		} else if due.IsZero() || end.Before(due) {
			due = end
		}
	}
	c.serveLocked(now)
	if end := c.idle.Add(c.roomAge()); !c.idle.IsZero() && (due.IsZero() || end.After(now) && end.Before(due)) {
		due = end
	}
	if due.After(now) {
		c.setTimerLocked(due.Sub(now))
	} else { // nothing is due, or the room has expired, as its state reports
		c.stopTimerLocked()
	}
}

// offerLocked makes an idle room a candidate for eviction again, and restarts its timer. Eviction
// and the timer both skip an idle room that cannot be dropped yet, for example because its log is
// being read.
func (c *counter) offerLocked(now time.Time) {
	if !c.idle.IsZero() {
		c.setIdleLocked(c.idle)
		c.flushLocked(now)
	}
}

// publishLocked publishes the pending changes in this order:
//
//  1. join, update and leave, unless the room sends only counts or has crossed the member limit
//  2. sync to all clients, if the room has crossed the member limit
//  3. user count, if count is set, and the user count has changed or a joiner was sent a count that
//     differs from the published one
//  4. snapshot, user count and recent messages to the joiners, which are then attached
//
// If count is set, it also starts the next flush interval.
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
	if count {
		changed := n != c.published || c.ahead
		if changed {
			c.published, c.ahead = n, false
			event := countEvent(id, n)
			if c.joined > 0 {
				event.Since = c.shared.opened.Add(c.joined)
			}
			c.stream.Publish(event, stream.Latest)
			c.shared.totals.counts.Add(1)
		}
		c.countedLocked(changed)
	}
	if c.hasJoinersLocked() {
		c.admitLocked(snapshot, n)
		c.ahead = c.ahead || n != c.published
	}
	if count {
		c.flushed = now
	}
}

// noteCountLocked records a change of the user count since the last call.
func (c *counter) noteCountLocked() {
	if n := c.countLocked(); n != c.seen {
		c.seen = n
		c.unsent++
	}
}

// countedLocked ends the record of the changes since the last flush. All of them but the last are
// coalesced. If no count is published, because they canceled each other out, all are.
func (c *counter) countedLocked(published bool) {
	if published && c.unsent > 0 {
		c.unsent--
	}
	c.shared.totals.coalesced.Add(uint64(c.unsent))
	c.unsent, c.joined = 0, 0
}

// changedLocked counts a change, and calls its hook. A node that does not serve the room calls
// none.
func (c *counter) changedLocked(change room.Change) {
	switch change.Event {
	case room.EventJoin:
		c.shared.totals.joins.Add(1)
	case room.EventLeave:
		c.shared.totals.left(change.Reason)
	}
	if c.exchange == nil || c.exchange.serves {
		c.shared.hooks.memberChanged(c.name, change)
	}
}

// serveLocked updates whether this node serves the room: whether it has a client, or a user in its
// grace period. A node with peers calls the hooks only while it serves the room, so that a room
// that is kept for its log or its subscription causes no calls. It calls OnJoin for each member
// when it begins to serve the room. When it ceases to, it calls OnLeave for each member that other
// nodes still have, so that each OnJoin is followed by an OnLeave. Pending changes are published
// first: the members then are those that News has announced.
func (c *counter) serveLocked(now time.Time) {
	x := c.exchange
	if x == nil {
		return
	}
	serves := c.streams > 0 || c.room.OwnUsers() > 0
	if serves == x.serves || c.room.HasNews(now) {
		return
	}
	x.serves = serves
	if !c.shared.hooks.followMembers() {
		return
	}
	change := room.Change{Event: room.EventJoin}
	if !serves {
		change.Event = room.EventLeave // without a reason, as no connection of the member has closed
	}
	members, _ := c.room.Members("", c.room.Users())
	for _, change.Member = range members {
		c.shared.hooks.memberChanged(c.name, change)
	}
}

// admitLocked sends the snapshot to the joiners of this interval, and attaches them to the shared
// stream. The snapshot is encoded once. Only the id lines differ, because each joiner receives the
// snapshot at its own position:
//
//	id: position of the joiner     own
//	sync                           shared
//	id: position of the joiner     own
//	user count                     shared
//	messages since that position   shared
//
// This guarantees that the ids that a client receives never decrease.
func (c *counter) admitLocked(snapshot []byte, count int) {
	joiners := c.waits.joiners
	sync := syncEvent("", snapshot).Append(nil)
	number := countEvent("", count).Append(nil)
	account := c.chargeLocked(len(sync))
	first := joiners[0].missed
	missed := replayOf(nil, c.position.Epoch, c.waits.recent[first-c.waits.dropped:])
	for _, j := range joiners {
		id := []byte("id: " + j.position + "\n")
		pieces := [][]byte{id, sync, id, number}
		if rest := missed[piecesPerMessage*(j.missed-first):]; len(rest) > 0 {
			pieces = append(pieces, rest...)
		}
		if account == nil {
			j.client.Send(pieces...)
		} else {
			j.client.SendThen(func() { c.shared.snapshots.sent(account, j.Connection) }, pieces...)
		}
		c.stream.Attach(j.client)
		c.shared.conns.admit(j.Connection)
	}
	c.waits.joiners = nil
	c.endWaitsLocked()
}

// chargeLocked charges the joiners for the rest of a snapshot of this size, and tracks it until all
// of them have it. It returns nil for a small snapshot.
func (c *counter) chargeLocked(size int) *snapshot {
	w := c.waits
	if size <= maxSnapshot {
		return nil // endWaitsLocked releases the reservation
	}
	c.encoded = uint32(size)
	now := c.shared.config.Clock.Now()
	for _, j := range w.joiners {
		if rest := size - int(j.paid); rest > 0 && !j.exempt {
			c.shared.config.Costs.Charge(string(j.user), rest, now)
		}
	}
	account := c.shared.snapshots.start(w.snapshot, size, w.joiners)
	w.snapshot = nil
	return account
}

// shareLocked schedules a frame if this node's part has changed.
func (c *counter) shareLocked(now time.Time) {
	if c.exchange != nil && c.room.HasDelta() {
		c.shared.outbox.add(c.name, later(now, c.exchange.sentAt.Add(batchTime)))
	}
}
