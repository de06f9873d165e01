package presence

import (
	"errors"
	"iter"
	"sync"
	"time"

	"example.com/presence/pkg/presence/internal/stream"
	"example.com/presence/pkg/presence/room"
)

// Why a stream is refused for want of room.
var (
	errFull     = errors.New("as many streams are open as may be")
	errUserFull = errors.New("the user has as many streams open as it may")
)

// notice is how long before its token ends a client is told.
const notice = 30 * time.Second

// connections are the open streams of all rooms, and those that are about to
// be. They end with their tokens, unless those are renewed.
type connections struct {
	most, each int // bounds of all, and of a user's; 0 is none

	mu    sync.Mutex                  // guards what follows, and what a connection says it does
	users map[room.UserID]*connection // the first of a list of the user's own
	open  int                         // how many there are in all
}

func newConnections(most, each int) connections {
	return connections{most: most, each: each, users: map[room.UserID]*connection{}}
}

// add keeps a place for the connection until remove, if there is one.
func (c *connections) add(conn *connection) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.most > 0 && c.open >= c.most {
		return errFull
	}
	if c.each > 0 {
		n := 0
		for range c.ofLocked(conn.user) {
			n++
		}
		if n >= c.each {
			return errUserFull
		}
	}
	c.open++
	conn.open = true
	if conn.next = c.users[conn.user]; conn.next != nil {
		conn.next.last = conn
	}
	c.users[conn.user] = conn
	return nil
}

// enter says that the connection is counted now, and whether it has its sync.
func (c *connections) enter(conn *connection, admitted bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	conn.counted, conn.admitted = true, admitted
	if conn.signedOut {
		conn.conn.End(endSignedOut)
	}
	c.scheduleLocked(conn)
}

// admit says that the connection has its sync: events for it alone may follow.
func (c *connections) admit(conn *connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	conn.admitted = true
	if conn.open {
		c.scheduleLocked(conn)
	}
}

// remove forgets the connection, which has ended or was not to be.
func (c *connections) remove(conn *connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !conn.open {
		return
	}
	c.open--
	conn.open = false
	switch {
	case conn.last != nil:
		conn.last.next = conn.next
	case conn.next != nil:
		c.users[conn.user] = conn.next
	default:
		delete(c.users, conn.user)
	}
	if conn.next != nil {
		conn.next.last = conn.last
	}
	if conn.timer != nil {
		conn.timer.Stop()
	}
}

// ofLocked are the user's connections.
func (c *connections) ofLocked(user room.UserID) iter.Seq[*connection] {
	return func(yield func(*connection) bool) {
		for conn := c.users[user]; conn != nil; conn = conn.next {
			if !yield(conn) {
				return
			}
		}
	}
}

// scheduleLocked has the client told that its token ends, and then the
// connection ended, each in its time, which may be now.
func (c *connections) scheduleLocked(conn *connection) {
	if conn.expires.IsZero() || !conn.counted {
		return
	}
	left := time.Until(conn.expires)
	if left <= 0 {
		conn.conn.End(endExpired)
		return
	}
	// Of an end in the same second it was told already: who renews its token again
	// and again, each time for a moment, has each of its streams told so once a
	// second at most.
	if end := uint32(conn.expires.Unix()); conn.admitted && conn.warned != end {
		if left > notice {
			left -= notice
		} else {
			conn.warned = end
			conn.conn.Send(expiringEvent(left).Append(nil))
		}
	}
	if conn.timer == nil {
		conn.timer = time.AfterFunc(left, func() { c.tick(conn) })
	} else {
		conn.timer.Reset(left)
	}
}

// tick is a connection's timer's.
func (c *connections) tick(conn *connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if conn.open {
		c.scheduleLocked(conn)
	}
}

// renew has the user's connections go on to the end of the new token, those
// with its sid and in rooms that it may join, unless theirs ends later. Those
// that were opened with the cookie from are from now on of the cookie to.
func (c *connections) renew(u User, from, to string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	may := map[room.Name]bool{} // a token has many patterns, a user many streams
	for conn := range c.ofLocked(room.UserID(u.ID)) {
		moves := from != "" && from != to && conn.session == from
		extends := !conn.expires.IsZero() && (u.Expires.IsZero() || u.Expires.After(conn.expires))
		if conn.sid != u.SID || !moves && !extends {
			continue
		}
		allowed, known := may[conn.room]
		if !known {
			allowed = u.Join.Match(string(conn.room))
			may[conn.room] = allowed
		}
		if !allowed {
			continue
		}
		if moves {
			conn.session = to
		}
		if extends {
			conn.expires = u.Expires
			if conn.timer != nil {
				conn.timer.Stop()
			}
			c.scheduleLocked(conn)
		}
	}
}

// end asks all connections for their end. None is on its way to be counted.
func (c *connections) end(why stream.End) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for user := range c.users {
		for conn := range c.ofLocked(user) {
			if conn.counted {
				conn.conn.End(why)
			}
		}
	}
}

// endIn asks the user's connections in the room for their end. One that is on
// its way to be counted is refused there.
func (c *connections) endIn(name room.Name, user room.UserID, why stream.End) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.ofLocked(user) {
		if conn.counted && conn.room == name {
			conn.conn.End(why)
		}
	}
}

// signOut asks those of the user's connections for their end that were opened
// with that cookie.
func (c *connections) signOut(user room.UserID, session string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.ofLocked(user) {
		switch {
		case conn.session != session:
		case conn.counted:
			conn.conn.End(endSignedOut)
		default:
			conn.signedOut = true // it ends as soon as it is
		}
	}
}
