package hub

import (
	"fmt"
	"iter"
	"sync"
	"time"

	"example.com/presence/pkg/presence/internal/index"
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

	mu       sync.Mutex                            // guards the fields below and the marked fields of Connection
	users    index.Index[room.UserID, *Connection] // head of the list of each user's connections
	open     int                                   // number of all connections
	last     room.ConnID                           // id of the newest connection
	expiries expiries                              // of the counted connections
	timer    Timer                                 // for the first of the expiries; nil if there is none
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
	if conn.next = c.users.Get(conn.user); conn.next != nil {
		conn.next.prev = conn
	}
	c.users.Put(conn)
	return nil
}

// enter marks the connection as counted. admitted reports whether the client was sent its sync.
func (c *connections) enter(conn *Connection, admitted bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	conn.counted, conn.admitted = true, admitted
	if conn.signInOf().ended {
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
		c.users.Put(conn.next)
	default:
		c.users.Delete(conn.user)
	}
	if conn.next != nil {
		conn.next.prev = conn.prev
	}
	if e := conn.expiry; e != nil {
		c.expiries.remove(e)
		c.setTimerLocked()
	}
	return conn.counted
}

// ofLocked iterates over the connections of the user.
func (c *connections) ofLocked(user room.UserID) iter.Seq[*Connection] {
	return func(yield func(*Connection) bool) {
		for conn := c.users.Get(user); conn != nil; conn = conn.next {
			if !yield(conn) {
				return
			}
		}
	}
}

// allLocked iterates over all connections.
func (c *connections) allLocked() iter.Seq[*Connection] {
	return func(yield func(*Connection) bool) {
		for first := range c.users.All() {
			for conn := first; conn != nil; conn = conn.next {
				if !yield(conn) {
					return
				}
			}
		}
	}
}

// scheduleLocked handles the expiry of a connection that may have a new step.
func (c *connections) scheduleLocked(conn *Connection) {
	if conn.expiry != nil {
		c.stepLocked(conn)
		c.setTimerLocked()
	}
}

// stepLocked handles the expiry of a connection, and queues its next step:
//
//	30 s before expiry   expiring event; later if the client was not sent its sync yet
//	expiry               goodbye with reason expired
func (c *connections) stepLocked(conn *Connection) {
	e := conn.expiry
	if e == nil || !conn.counted {
		return
	}
	expires := time.Unix(0, e.expires)
	left := expires.Sub(c.clock.Now())
	if left <= 0 {
		c.expiries.remove(e)
		conn.client.End(EndExpired)
		return
	}
	e.next = e.expires
	// Warn at most once per expiry second, so that repeated short renewals cannot flood a stream.
	if end := uint32(expires.Unix()); conn.admitted && e.warned != end {
		if left > expiryNotice {
			e.next -= int64(expiryNotice)
		} else {
			e.warned = end
			conn.client.Send(expiringEvent(left).Append(nil))
		}
	}
	c.expiries.set(e)
}

// setTimerLocked sets the timer for the first of the expiries. The clock may jump forward, so the
// timer is at most recheckTime away.
func (c *connections) setTimerLocked() {
	if len(c.expiries) == 0 {
		if c.timer != nil {
			c.timer.Stop()
		}
		c.timer, c.expiries = nil, nil
		return
	}
	left := min(time.Unix(0, c.expiries[0].next).Sub(c.clock.Now()), recheckTime)
	if c.timer == nil {
		c.timer = c.clock.AfterFunc(left, c.tick)
	} else {
		c.timer.Reset(left)
	}
}

// maxSteps is the maximum number of steps for which tick holds the lock. Many tokens may expire at
// the same time.
const maxSteps = 256

// tick makes the steps that are due. It leaves the rest to the next call, which follows at once.
func (c *connections) tick() {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.clock.Now().UnixNano()
	for n := 0; n < maxSteps && len(c.expiries) > 0 && c.expiries[0].next <= now; n++ {
		c.stepLocked(c.expiries[0].conn)
	}
	c.setTimerLocked()
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
		old := conn.signInOf()
		moves := from != "" && from != to && old.session == from
		extends := conn.expiry != nil && (expires == 0 || expires > conn.expiry.expires)
		if old.sid != sid || !moves && !extends {
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
			conn.signIn = &signIn{sid, to, old.ended}
		}
		switch {
		case extends && expires == 0:
			c.expiries.remove(conn.expiry)
			conn.expiry = nil
		case extends:
			conn.expiry.expires = expires
			c.stepLocked(conn)
		}
	}
	c.setTimerLocked()
}

// end disconnects all counted connections. The caller makes sure that no other connection is
// counted afterwards.
func (c *connections) end(why stream.End) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.allLocked() {
		if conn.counted {
			conn.client.End(why)
		}
	}
}

// counted returns all counted connections.
func (c *connections) counted() (all []*Connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	all = make([]*Connection, 0, c.open)
	for conn := range c.allLocked() {
		if conn.counted {
			all = append(all, conn)
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
		case conn.signInOf().session != session:
		case conn.counted:
			conn.client.End(EndSignedOut)
		default:
			conn.signOut() // enter disconnects it when it is counted
		}
	}
}

func (c *connections) size() (open, users int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open, c.users.Len()
}
