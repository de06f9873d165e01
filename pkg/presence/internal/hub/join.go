package hub

import (
	"slices"
	"time"

	"example.com/presence/pkg/presence/internal/stream"
	"example.com/presence/pkg/presence/room"
)

// join counts the connection and publishes the new count. The client receives its events in this
// order:
//
//  1. retry, and reset or the replay: immediately
//  2. snapshot and count: immediately if no flush interval is running, if the room sends only
//     counts, or if the snapshot is small and no member change is pending; otherwise at the end of
//     the flush interval
//  3. the messages since step 1
//
// The pending member change may be the join of the same user.
func (c *counter) join(conn *Connection, u room.User, r resumption) (state, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, before := c.shared.config.Clock.Now(), c.changes
	c.endReadingLocked(&r)
	if c.closed {
		return state{}, errClosed
	}
	if err := c.shared.bans.check(c.name, conn.user, now); err != nil {
		c.offerLocked(now)
		return c.stateSinceLocked(before, now), err
	}
	if err := c.reserveLocked(conn.user, r); err != nil {
		c.offerLocked(now)
		return c.stateSinceLocked(before, now), err
	}
	c.streams++
	if c.room.InGrace(u.ID) {
		c.shared.totals.absorbed.Add(1)
	}
	c.room.Join(conn.id, u, now)
	if c.joined == 0 {
		c.joined = max(1, now.Sub(c.shared.opened))
	}
	greeting := c.greetLocked(conn, r)
	c.shared.running.Add(1)
	if c.inIntervalLocked(now) && c.admitNowLocked(conn, greeting, now) {
		c.shared.conns.enter(conn, true)
	} else {
		if greeting != nil {
			conn.client.Send(greeting)
		}
		c.shared.conns.enter(conn, false) // under the room's lock, so that neither Kick nor Close can miss it
		w := c.waitsLocked()
		w.joiners = append(w.joiners, joiner{conn, c.position.String(), w.next()})
	}
	c.flushLocked(now)
	return c.stateSinceLocked(before, now), nil
}

// reserveLocked checks that the budgets of replays and snapshots have space for a joiner. The
// caller must join it, or call endWaitsLocked: the snapshot is reserved. The error is [ErrReplays]
// or [ErrSnapshots].
func (c *counter) reserveLocked(user room.UserID, r resumption) error {
	if len(r.entries) > 0 {
		stalled, err := c.shared.replays.fits(user, r.entries)
		drop(stalled)
		if err != nil {
			return err
		}
	}
	if !c.isLargeLocked() {
		return nil
	}
	w := c.waitsLocked()
	reserved, stalled, err := c.shared.snapshots.reserve(w.snapshot, user, c.snapshotSizeLocked())
	drop(stalled)
	w.snapshot = reserved
	if err != nil {
		c.endWaitsLocked()
	}
	return err
}

// isLargeLocked reports whether the snapshot of the room is certainly larger than maxSnapshot.
func (c *counter) isLargeLocked() bool {
	return !c.room.Counting() && c.room.MembersExceed(maxSnapshot)
}

// snapshotSizeLocked estimates the size of a large snapshot: that of the last one, or that of its
// members.
func (c *counter) snapshotSizeLocked() int {
	if c.encoded > 0 {
		return int(c.encoded)
	}
	return c.room.MembersSize()
}

// charge charges the user for a large snapshot, before the connection joins. The error is
// [ErrSnapshots] or a [*RateError]. Unlike join, charge reserves nothing. It charges now, so that
// many clients that join in the same flush interval cannot all pass.
func (c *counter) charge(conn *Connection) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.isLargeLocked() {
		return nil
	}
	size := c.snapshotSizeLocked()
	more := size
	if c.waits != nil && c.waits.snapshot != nil {
		more = 0
	}
	stalled, err := c.shared.snapshots.fits(conn.user, more)
	drop(stalled)
	if err != nil || conn.exempt {
		return err
	}
	if wait := c.shared.config.Costs.Take(string(conn.user), size, c.shared.config.Clock.Now()); wait > 0 {
		return &RateError{wait}
	}
	conn.paid = uint32(size)
	return nil
}

// greetLocked returns the first events of a client: retry (the delay before the client reconnects),
// and reset if the client has lost messages. If there is a replay, greetLocked sends retry and the
// replay, and returns nil.
func (c *counter) greetLocked(conn *Connection, r resumption) (greeting []byte) {
	greeting = AppendRetry(make([]byte, 0, 256), time.Second, 3*time.Second)
	switch {
	case r.reset:
		if !r.gone {
			c.shared.totals.resets.Add(1)
		}
		greeting = resetEvent(c.position.String()).Append(greeting)
	case len(r.entries) > 0:
		account := c.shared.replays.start(conn, r.entries)
		c.shared.totals.replays.Add(1)
		c.shared.totals.replayed.Add(uint64(len(r.entries)))
		conn.client.Send(greeting)
		if account == nil {
			conn.client.Send(r.pieces...)
		} else {
			conn.client.SendThen(func() { c.shared.replays.sent(account) }, r.pieces...)
		}
		return nil
	}
	return greeting
}

// admitNowLocked admits a joiner before the flush interval ends. It sends the greeting and a
// snapshot encoded for this joiner, and attaches the joiner to the shared stream. It sends nothing
// and returns false
//
//   - if the snapshot is large, or
//   - if a member change is pending, because the joiner would receive that change twice.
//
// The joiner may then have a count that no other client has. If the room returns to the published
// count before the next flush, the flag ahead ensures that this count is published again:
//
//	time          shared stream       joiner
//	0 ms          count 4
//	10 ms                             count 5, as the fifth connection
//	20 ms         another leaves
//	50 ms         count 4 (ahead)     count 4
func (c *counter) admitNowLocked(conn *Connection, greeting []byte, now time.Time) bool {
	c.room.Expire(now)
	if c.isLargeLocked() || !c.room.Counting() && c.room.HasNews(now) {
		return false
	}
	snapshot := snapshotOf(&c.room, c.shared.config.Heartbeat)
	if len(snapshot) > maxSnapshot {
		return false
	}
	c.shared.totals.snapshots.Add(1)
	n, id := c.countLocked(), c.position.String()
	first := syncEvent(id, snapshot).Append(greeting)
	conn.client.Send(countEvent(id, n).Append(first)) // in one write
	c.stream.Attach(conn.client)
	c.ahead = c.ahead || n != c.published
	return true
}

func (c *counter) leave(conn *Connection, why room.Reason) state {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, before := c.shared.config.Clock.Now(), c.changes
	c.room.Leave(conn.id, conn.user, why, now)
	if !c.dropJoinerLocked(conn) {
		c.stream.Detach(conn.client)
	}
	c.streams--
	c.flushLocked(now)
	c.offerLocked(now)
	return c.stateSinceLocked(before, now)
}

// dropJoinerLocked removes the connection from the joiners. It reports whether it was a joiner.
func (c *counter) dropJoinerLocked(conn *Connection) bool {
	w := c.waits
	if w == nil {
		return false
	}
	i := slices.IndexFunc(w.joiners, func(j joiner) bool { return j.Connection == conn })
	if i < 0 {
		return false
	}
	w.joiners = slices.Delete(w.joiners, i, i+1)
	c.endWaitsLocked()
	return true
}

// remove removes a banned user until its ban ends.
func (c *counter) remove(user room.UserID, until time.Time, why stream.End) state {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, before := c.shared.config.Clock.Now(), c.changes
	c.room.Ban(user, until, now)
	c.shared.conns.endIn(c.name, user, why)
	c.flushLocked(now)
	return c.stateSinceLocked(before, now)
}

// lift ends the ban of a user.
func (c *counter) lift(user room.UserID) state {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, before := c.shared.config.Clock.Now(), c.changes
	if c.exchange != nil {
		c.room.Lift(user, now)
		c.flushLocked(now)
	}
	return c.stateSinceLocked(before, now)
}

// heir returns a user with a connection, unless the given user has one.
func (c *counter) heir(owner room.UserID) (heir room.UserID, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.room.Heir(owner)
}

func (c *counter) has(user room.UserID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.room.Has(user)
}

// hasOwn reports whether the room has a user on this node.
func (c *counter) hasOwn() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.room.OwnUsers() > 0
}

// update replaces the info of a member, unless its record has a higher version than the stamp. It
// returns the version of the record after that. here is false if the user is not a member on this
// node, or if the room must not change any more.
func (c *counter) update(user room.UserID, info []byte, stamp room.Version) (record room.Version, here bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.exchange != nil && c.closed {
		return room.Version{}, false
	}
	now := c.shared.config.Clock.Now()
	record, here = c.room.Update(user, info, stamp, now)
	if here {
		c.flushLocked(now)
	}
	return record, here
}

// wake is called by the timer at the end of a flush interval, at the end of a grace period, or when
// an unused room expires.
func (c *counter) wake() state {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, before := c.shared.config.Clock.Now(), c.changes
	c.flushLocked(now)
	return c.stateSinceLocked(before, now)
}

// members returns a page of the members, and the counts at that moment.
func (c *counter) members(after room.UserID, limit int) (p Page) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p.Connections, p.Users = c.room.Connections(), c.room.Users()
	p.Members, p.More = c.room.Members(after, limit)
	p.partial = c.exchange != nil && c.exchange.lacksPart()
	p.Interval = c.flushEndLocked().Sub(c.flushed)
	return p
}

// Page is a page of the members of a room.
type Page struct {
	Connections, Users int           // of the whole room
	Members            []room.Member // sorted by id, owned by the caller, never nil
	More               bool          // further members follow
	Interval           time.Duration // the flush interval of the room; 0 if it is not on this node
	partial            bool          // the room lacks the part of a peer
}

// sizes returns the connections and users of the room, on all nodes.
func (c *counter) sizes() (connections, users int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.room.Connections(), c.room.Users()
}
