package hub

import (
	"fmt"
	"iter"
	"sync"
	"time"

	"example.com/presence/pkg/presence/internal/stream"
	"example.com/presence/pkg/presence/room"
)

// expiryNotice is the time between the expiring event and the expiry of the lease.
const expiryNotice = 30 * time.Second

// recheckTime is the maximum time between two checks of a lease. Its end is a time of the wall
// clock, which may jump, but a timer does not follow it.
const recheckTime = time.Minute

// connections holds all connections that have a slot, including those that have not joined their
// room yet. It closes a connection when the lease expires, unless the lease is renewed.
type connections struct {
	limit, userLimit int // maximum in total and per user; 0: no limit
	clock            Clock

	mu    sync.Mutex                  // guards the fields below and the marked fields of Connection
	users map[room.UserID]*Connection // head of the list of each user's connections
	open  int                         // number of all connections
	last  room.ConnID                 // id of the newest connection
}

// add reserves a slot for the connection. The error is [ErrFull] or [ErrUserFull].
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

// enter marks the connection as counted. admitted reports whether the client was sent its sync.
func (c *connections) enter(conn *Connection, admitted bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	conn.counted, conn.admitted = true, admitted
	if conn.signedOut {
		conn.client.End(EndSignedOut)
	}
	c.scheduleLocked(conn)
}

// admit records that the client was sent its sync. From now on the hub may send events to this
// client alone.
func (c *connections) admit(conn *Connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	conn.admitted = true
	if conn.open {
		c.scheduleLocked(conn)
	}
}

// remove releases the slot of a connection. It reports whether the connection was counted in its
// room. A second call does nothing and returns false.
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

func (c *connections) ofLocked(user room.UserID) iter.Seq[*Connection] {
	return func(yield func(*Connection) bool) {
		for conn := c.users[user]; conn != nil; conn = conn.next {
			if !yield(conn) {
				return
			}
		}
	}
}

// scheduleLocked handles the expiry of a connection, and sets the timer for the next step:
//
//	30 s before expiry   expiring event; later if the client was not sent its sync yet
//	expiry               goodbye with reason expired
//
// The clock may jump forward, so the next step is at most recheckTime away.
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
	if left = min(left, recheckTime); conn.timer == nil {
		conn.timer = c.clock.AfterFunc(left, func() { c.tick(conn) })
	} else {
		conn.timer.Reset(left)
	}
}

func (c *connections) tick(conn *Connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if conn.open {
		c.scheduleLocked(conn)
	}
}

// renewal is the command that extends the leases of a user to the expiry of a new token.
type renewal struct {
	User    room.UserID   `json:"user"`
	SID     []byte        `json:"sid,omitempty"`    // may contain any bytes, like From and To
	Expires time.Time     `json:"expires,omitzero"` // zero: never
	Join    room.Patterns `json:"join"`
	From    []byte        `json:"from,omitempty"` // connections of this session move to session To
	To      []byte        `json:"to,omitempty"`
}

// renew applies a renewal to the user's connections that have its SID and are in a room that Join
// matches:
//
//   - A lease is extended to Expires, but never shortened.
//   - A connection of the session From moves to the session To.
func (c *connections) renew(r renewal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	expires, sid, from, to := expiryOf(r.Expires), string(r.SID), string(r.From), string(r.To)
	may := map[room.Name]bool{} // cached, because a token may have many patterns, and a user many streams
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

// end disconnects all counted connections. The caller makes sure that no other connection is
// counted afterwards.
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

// counted returns all counted connections.
func (c *connections) counted() (all []*Connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	all = make([]*Connection, 0, c.open)
	for user := range c.users {
		for conn := range c.ofLocked(user) {
			if conn.counted {
				all = append(all, conn)
			}
		}
	}
	return all
}

// endEach disconnects those of the connections that are open.
func (c *connections) endEach(some []*Connection, why stream.End) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range some {
		if conn.open {
			conn.client.End(why)
		}
	}
}

// endIn disconnects the user's counted connections in the room. The room must reject those that are
// not counted yet.
func (c *connections) endIn(name room.Name, user room.UserID, why stream.End) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.ofLocked(user) {
		if conn.counted && conn.room == name {
			conn.client.End(why)
		}
	}
}

func (c *connections) signOut(user room.UserID, session string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.ofLocked(user) {
		switch {
		case conn.session != session:
		case conn.counted:
			conn.client.End(EndSignedOut)
		default:
			conn.signedOut = true // enter disconnects it when it is counted
		}
	}
}

func (c *connections) size() (open, users int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open, len(c.users)
}
