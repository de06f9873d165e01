package hub

import (
	"time"

	"example.com/presence/pkg/presence/internal/stream"
	"example.com/presence/pkg/presence/room"
)

// The reasons for which the hub closes a connection. The goodbye event contains the reason.
const (
	EndExpired   stream.End = "expired"
	EndRemoved   stream.End = "removed"
	EndDraining  stream.End = "draining"
	EndFull      stream.End = "full"
	EndSignedOut stream.End = "signed out"
)

// Lease is the expiry time of a connection, and the sign-in that the connection belongs to.
type Lease struct {
	SID     string    // distinguishes the sign-ins of one user; may be empty
	Session string    // the cookie that contained the token; empty if the token was not in a cookie
	Expires time.Time // zero: never
	Exempt  bool      // the cost rate does not apply
}

// Connection is one open stream of one user in one room. A node may have many connections, so it
// keeps only the fields that are needed after the request. Those of a token in a cookie, and of one
// that expires, have a struct of their own.
type Connection struct {
	id     room.ConnID
	user   room.UserID
	room   room.Name
	client Client // set by Join
	exempt bool   // Lease.Exempt
	paid   uint32 // part of the snapshot that the user was charged for before the join, in bytes

	// The fields below are guarded by connections.mu.
	signIn     *signIn     // nil if the connection has neither an SID nor a session
	expiry     *expiry     // nil if the connection never expires
	prev, next *Connection // in the list of the user's connections
	open       bool        // the connection holds a slot
	counted    bool        // the room counts the connection
	admitted   bool        // the client was sent its sync
}

// expiry is the end of the lease of a connection. The expiries of all connections share one timer,
// because a timer per connection would take more memory than a [Connection].
type expiry struct {
	conn    *Connection
	expires int64  // in Unix nanoseconds
	next    int64  // time of the next step, see connections.stepLocked; in Unix nanoseconds
	warned  uint32 // expiry in the last expiring event, in Unix seconds
	index   int32  // in the queue; -1: not in it
}

// signIn is the sign-in that a connection belongs to.
type signIn struct {
	sid, session string // of Lease
	ended        bool   // the session was signed out before the room counted the connection
}

func newConnection(name room.Name, user room.UserID, l Lease) *Connection {
	c := &Connection{room: name, user: user, exempt: l.Exempt}
	if l.SID != "" || l.Session != "" {
		c.signIn = &signIn{sid: l.SID, session: l.Session}
	}
	if expires := expiryOf(l.Expires); expires != 0 {
		c.expiry = &expiry{conn: c, expires: expires, index: -1}
	}
	return c
}

// signInOf returns the sign-in of the connection. It is empty if there is none.
func (c *Connection) signInOf() signIn {
	if c.signIn == nil {
		return signIn{}
	}
	return *c.signIn
}

// signOut records that the session of the connection was signed out.
func (c *Connection) signOut() {
	signIn := c.signInOf()
	signIn.ended = true
	c.signIn = &signIn
}

// Key returns the user, for the index of the users' first connections.
func (c *Connection) Key() room.UserID { return c.user }

// maxExpiryYear is the last year that expiry.expires can represent in nanoseconds. A later
// lease is treated as one that never expires.
const maxExpiryYear = 2261

// expiryOf converts the expiry of a lease to the format of expiry.expires.
func expiryOf(expires time.Time) int64 {
	switch year := expires.Year(); {
	case expires.IsZero() || year > maxExpiryYear:
		return 0
	case year < 1970:
		return 1
	}
	return max(1, expires.UnixNano())
}

// joiner is a counted connection that waits for its sync until the flush interval ends.
type joiner struct {
	*Connection
	position string // live events after this position follow the sync
	missed   int    // number of the first recent message that the client needs
}

// reasonOf converts the reason for which a connection closed to the reason of a leave.
func reasonOf(why stream.End) room.Reason {
	switch why {
	case stream.Slow, stream.Timeout, EndExpired:
		return room.Reason(why)
	}
	return room.Closed
}
