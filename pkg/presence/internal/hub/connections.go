package hub

import (
	"fmt"
	"iter"
	"sync"
	"time"

	"example.com/presence/pkg/presence/internal/stream"
	"example.com/presence/pkg/presence/room"
)

// expiryNotice is the time between the expiring event and the end of the lease.
const expiryNotice = 30 * time.Second

// connections holds the open streams of all rooms, and those about to open. A connection ends with
// its lease, unless the lease is renewed.
type connections struct {
	limit, userLimit int // maximum of all, and per user; 0: no limit
	clock            Clock

	mu    sync.Mutex                  // guards the fields below, and the marked fields of Connection
	users map[room.UserID]*Connection // first of the list of each user's connections
	open  int                         // number of all connections
	last  room.ConnID                 // id of the newest connection
}

// add takes a slot for the connection. remove gives it back. The error is [ErrFull] or
// [ErrUserFull].
func (c *connections) add(conn *Connection) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.limit > 0 && c.open >= c.limit {
		return fmt.Errorf("%w (%d)", ErrFull, c.limit)
	}
	if c.userLimit > 0 {
		n := 0
		for range c.ofLocked(conn.user) {
			n++
		}
		if n >= c.userLimit {
			return fmt.Errorf("%w (%d)", ErrUserFull, c.userLimit)
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

// admit notes that the connection has its sync. Events for this connection alone may follow.
func (c *connections) admit(conn *Connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	conn.admitted = true
	if conn.open {
		c.scheduleLocked(conn)
	}
}

// remove gives back the slot of a connection that has ended or was refused. It reports whether a
// room counts the connection. A second call does nothing.
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

// scheduleLocked handles the lease of a connection, and sets the timer for the next step:
//
//	30 s before the end   expiring event; later if the connection has no sync yet
//	end of the lease      goodbye with reason expired
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

// tick is called by the timer of a connection.
func (c *connections) tick(conn *Connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if conn.open {
		c.scheduleLocked(conn)
	}
}

// renewal is the command that extends the connections of a user to the expiry of a new token.
type renewal struct {
	User    room.UserID   `json:"user"`
	SID     []byte        `json:"sid,omitempty"`    // any bytes, as From and To
	Expires time.Time     `json:"expires,omitzero"` // zero: never
	Join    room.Patterns `json:"join"`
	From    []byte        `json:"from,omitempty"` // connections of this session move to the session To
	To      []byte        `json:"to,omitempty"`
}

// renew applies a renewal to the user's connections that have its SID, in rooms that match Join:
//
//   - The lease ends at Expires, if that is later. renew never shortens a lease.
//   - A connection of the session From now belongs to the session To.
func (c *connections) renew(r renewal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	expires, sid, from, to := expiryOf(r.Expires), string(r.SID), string(r.From), string(r.To)
	may := map[room.Name]bool{} // a cache: a token may have many patterns, and a user many streams
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

// end ends all counted connections. The caller makes sure that no other is about to be counted.
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

// endIn ends the counted connections of the user in the room. The room refuses one that is about to
// be counted.
func (c *connections) endIn(name room.Name, user room.UserID, why stream.End) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.ofLocked(user) {
		if conn.counted && conn.room == name {
			conn.client.End(why)
		}
	}
}

// signOut ends the user's connections that belong to the session.
func (c *connections) signOut(user room.UserID, session string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.ofLocked(user) {
		switch {
		case conn.session != session:
		case conn.counted:
			conn.client.End(EndSignedOut)
		default:
			conn.signedOut = true // enter ends it as soon as it is counted
		}
	}
}

// size returns the number of connections, and the number of users with a connection.
func (c *connections) size() (open, users int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open, len(c.users)
}
