package hub

import (
	"slices"
	"time"

	"example.com/presence/pkg/presence/internal/stream"
	"example.com/presence/pkg/presence/room"
)

// join counts the connection and has the new number published. The client gets the replay at once.
// Its snapshot and count follow at once where the snapshot is small and no member change waits,
// which its own arrival may be; else at the end of the flush interval, with the messages since.
func (c *counter) join(conn *Connection, u room.User, r resumption) (state, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, before := c.shared.config.Clock.Now(), c.changes
	c.endReadingLocked(&r)
	if c.closed {
		return state{}, errClosed
	}
	if !c.shared.bans.end(c.name, conn.user, now).IsZero() {
		c.offerLocked(now)
		return c.stateSinceLocked(before, now), ErrBanned
	}
	c.streams++
	c.room.Join(conn.id, u, now)
	greeting := c.greetLocked(conn, r)
	c.shared.running.Add(1)
	if c.inIntervalLocked(now) && c.admitAtOnceLocked(conn, greeting, now) {
		c.shared.conns.enter(conn, true)
	} else {
		if greeting != nil {
			conn.client.Send(greeting)
		}
		c.shared.conns.enter(conn, false) // under the lock: a kick or Close ends the connections of the room
		w := c.waitsLocked()
		w.joiners = append(w.joiners, joiner{conn, c.position.String(), w.next()})
	}
	c.flushLocked(now)
	return c.stateSinceLocked(before, now), nil
}

// greetLocked returns the first events of a client: the time to wait before it reconnects, and a
// reset if messages are lost to it. With a replay it sends both itself, and returns nil.
func (c *counter) greetLocked(conn *Connection, r resumption) (greeting []byte) {
	greeting = AppendRetry(make([]byte, 0, 256), time.Second, 3*time.Second)
	switch {
	case r.reset:
		c.shared.totals.resets.Add(1)
		greeting = resetEvent(c.position.String()).Append(greeting)
	case len(r.entries) > 0:
		account := c.shared.replays.start(conn, r.entries)
		conn.client.Send(greeting)
		conn.client.SendThen(func() { c.shared.replays.sent(account) }, r.pieces...)
		return nil
	}
	return greeting
}

// admitAtOnceLocked sends the joiner its own snapshot, after the greeting, and attaches it to the
// shared stream, between two counts. It reports false, having sent nothing, where the snapshot is
// large, or where a member change waits: the joiner would receive that change a second time.
//
// The joiner may now hold a count that the other clients do not, and that may be wrong before the
// next count: ahead has the next count published even if it equals the last one.
func (c *counter) admitAtOnceLocked(conn *Connection, greeting []byte, now time.Time) bool {
	c.room.Expire(now)
	if !c.room.Counting() && (c.room.HasNews(now) || c.room.MembersExceed(maxSnapshot)) {
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

// leave takes the connection out of the count.
func (c *counter) leave(conn *Connection, why room.Reason) state {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, before := c.shared.config.Clock.Now(), c.changes
	c.room.Leave(conn.id, why, now)
	if !c.dropJoinerLocked(conn) {
		c.stream.Detach(conn.client)
	}
	c.streams--
	c.flushLocked(now)
	c.offerLocked(now)
	return c.stateSinceLocked(before, now)
}

// dropJoinerLocked removes a joiner, and reports whether the connection was one.
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

// remove removes the user with all its connections, which end.
func (c *counter) remove(user room.UserID, why stream.End) state {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, before := c.shared.config.Clock.Now(), c.changes
	c.room.Remove(user)
	c.shared.conns.endIn(c.name, user, why)
	c.flushLocked(now)
	return c.stateSinceLocked(before, now)
}

// has reports whether the user is a member.
func (c *counter) has(user room.UserID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.room.Has(user)
}

// update replaces the info of a member, and reports whether it is here.
func (c *counter) update(user room.UserID, info []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	here := c.room.Update(user, info)
	if here {
		c.flushLocked(c.shared.config.Clock.Now())
	}
	return here
}

// wake is called by the timer: a flush interval has ended, or a grace period, or the time of an
// unused room.
func (c *counter) wake() state {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, before := c.shared.config.Clock.Now(), c.changes
	c.flushLocked(now)
	return c.stateSinceLocked(before, now)
}

// members returns a page of the members, with the sizes of the sets at that moment.
func (c *counter) members(after room.UserID, limit int) (p Page) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p.Connections, p.Users = c.room.Connections(), c.room.Users()
	p.Members, p.More = c.room.Members(after, limit)
	return p
}

// Page is a page of the members of a room.
type Page struct {
	Connections, Users int           // of the whole room
	Members            []room.Member // sorted by id; the caller's own, never nil
	More               bool          // members follow
}

// sizes returns the numbers of connections and users.
func (c *counter) sizes() (connections, users int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.room.Connections(), c.room.Users()
}
