package hub

import (
	"iter"
	"sync"
	"time"

	"example.com/presence/pkg/presence/internal/stream"
	"example.com/presence/pkg/presence/room"
)

// expiryNotice is how long before its token expires a client gets expiring.
const expiryNotice = 30 * time.Second

// connections are the open streams of all rooms, and those about to open. They end with their
// leases, unless those are renewed.
type connections struct {
	limit, userLimit int // of all, and of each user's; 0 is no limit
	clock            Clock

	mu    sync.Mutex                  // guards what follows, and the fields of a Connection that say so
	users map[room.UserID]*Connection // the first of a list of the user's own
	open  int                         // all of them
	last  room.ConnID
}

// add takes a slot for the connection until remove. The error is [ErrFull] or [ErrUserFull].
func (c *connections) add(conn *Connection) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.limit > 0 && c.open >= c.limit {
		return ErrFull
	}
	if c.userLimit > 0 {
		n := 0
		for range c.ofLocked(conn.user) {
			n++
		}
		if n >= c.userLimit {
			return ErrUserFull
		}
	}
	c.last++
	conn.id = c.last
	c.open++
	conn.open = true
	if conn.next = c.users[conn.user]; conn.next != nil {
		conn.next.prev = conn
	}
	c.users[conn.user] = conn
	return nil
}

// enter notes that the connection is counted, and whether it has its sync.
func (c *connections) enter(conn *Connection, admitted bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	conn.counted, conn.admitted = true, admitted
	if conn.signedOut {
		conn.client.End(EndSignedOut)
	}
	c.scheduleLocked(conn)
}

// admit notes that the connection has its sync: events for it alone may follow.
func (c *connections) admit(conn *Connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	conn.admitted = true
	if conn.open {
		c.scheduleLocked(conn)
	}
}

// remove gives back the slot of a connection that has ended or was refused, and reports whether a
// room counts it. A second call does nothing.
func (c *connections) remove(conn *Connection) (counted bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !conn.open {
		return false
	}
	c.open--
	conn.open = false
	switch {
	case conn.prev != nil:
		conn.prev.next = conn.next
	case conn.next != nil:
		c.users[conn.user] = conn.next
	default:
		delete(c.users, conn.user)
	}
	if conn.next != nil {
		conn.next.prev = conn.prev
	}
	if conn.timer != nil {
		conn.timer.Stop()
	}
	return conn.counted
}

// ofLocked yields the user's connections.
func (c *connections) ofLocked(user room.UserID) iter.Seq[*Connection] {
	return func(yield func(*Connection) bool) {
		for conn := c.users[user]; conn != nil; conn = conn.next {
			if !yield(conn) {
				return
			}
		}
	}
}

// scheduleLocked announces the end of the connection's lease, and ends the connection, each in its
// time, which may be now.
func (c *connections) scheduleLocked(conn *Connection) {
	if conn.expires == 0 || !conn.counted {
		return
	}
	expires := time.Unix(0, conn.expires)
	left := expires.Sub(c.clock.Now())
	if left <= 0 {
		conn.client.End(EndExpired)
		return
	}
	// Warn at most once per expiry second, so that repeated short renewals cannot flood a stream.
	if end := uint32(expires.Unix()); conn.admitted && conn.warned != end {
		if left > expiryNotice {
			left -= expiryNotice
		} else {
			conn.warned = end
			conn.client.Send(expiringEvent(left).Append(nil))
		}
	}
	if conn.timer == nil {
		conn.timer = c.clock.AfterFunc(left, func() { c.tick(conn) })
	} else {
		conn.timer.Reset(left)
	}
}

// tick is the call of a connection's timer.
func (c *connections) tick(conn *Connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if conn.open {
		c.scheduleLocked(conn)
	}
}

// renewal extends the connections of a user to the end of a new token.
type renewal struct {
	User    room.UserID   `json:"user"`
	SID     []byte        `json:"sid,omitempty"`    // any bytes, as the sessions
	Expires time.Time     `json:"expires,omitzero"` // zero: never
	Join    room.Patterns `json:"join"`
	From    []byte        `json:"from,omitempty"` // the session that moves to the session To
	To      []byte        `json:"to,omitempty"`
}

// renew extends the user's connections that have the sid of the new token and are in rooms that it
// may join. It never shortens one. Those of the session From belong to the session To from now on.
func (c *connections) renew(r renewal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	expires, sid, from, to := expiryOf(r.Expires), string(r.SID), string(r.From), string(r.To)
	may := map[room.Name]bool{} // a token has many patterns, a user many streams
	for conn := range c.ofLocked(r.User) {
		moves := from != "" && from != to && conn.session == from
		extends := conn.expires != 0 && (expires == 0 || expires > conn.expires)
		if conn.sid != sid || !moves && !extends {
			continue
		}
		allowed, known := may[conn.room]
		if !known {
			allowed = r.Join.Match(conn.room)
			may[conn.room] = allowed
		}
		if !allowed {
			continue
		}
		if moves {
			conn.session = to
		}
		if extends {
			conn.expires = expires
			if conn.timer != nil {
				conn.timer.Stop()
			}
			c.scheduleLocked(conn)
		}
	}
}

// end ends all connections that are counted. None is about to be.
func (c *connections) end(why stream.End) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for user := range c.users {
		for conn := range c.ofLocked(user) {
			if conn.counted {
				conn.client.End(why)
			}
		}
	}
}

// endIn ends the user's connections in the room. One that is about to be counted is refused there.
func (c *connections) endIn(name room.Name, user room.UserID, why stream.End) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.ofLocked(user) {
		if conn.counted && conn.room == name {
			conn.client.End(why)
		}
	}
}

// signOut ends those of the user's connections that were opened with that session.
func (c *connections) signOut(user room.UserID, session string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.ofLocked(user) {
		switch {
		case conn.session != session:
		case conn.counted:
			conn.client.End(EndSignedOut)
		default:
			conn.signedOut = true // it ends as soon as it is counted
		}
	}
}

// size returns the number of connections, and of users that have one.
func (c *connections) size() (open, users int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open, len(c.users)
}
