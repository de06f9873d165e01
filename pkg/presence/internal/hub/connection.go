package hub

import (
	"time"

	"example.com/presence/pkg/presence/internal/stream"
	"example.com/presence/pkg/presence/room"
)

// The reasons for which the server ends a connection, as its goodbye says.
const (
	EndExpired   stream.End = "expired"
	EndRemoved   stream.End = "removed"
	EndDraining  stream.End = "draining"
	EndFull      stream.End = "full"
	EndSignedOut stream.End = "signed out"
)

// Lease is the time that a connection may last, and the sign-in to which it belongs.
type Lease struct {
	SID     string    // tells two sign-ins of one user apart; may be empty
	Session string    // the cookie that the token came in; empty if it came in another way
	Expires time.Time // zero: never
}

// Connection is one open stream of one user in one room. There are many: it holds what is needed
// after the request, and no more.
type Connection struct {
	id     room.ConnID
	user   room.UserID
	room   room.Name
	sid    string
	client Client // set by Join

	// Guarded by connections.mu.
	session    string
	expires    int64 // in Unix nanoseconds; 0: never
	timer      Timer // nil if it does not expire
	open       bool  // it has its slot
	counted    bool
	signedOut  bool // before it was counted
	admitted   bool // it has its sync
	warned     uint32
	prev, next *Connection // in the list of its user's
}

// maxExpiryYear is the last year whose nanoseconds fit a Connection. A lease that ends later never
// ends.
const maxExpiryYear = 2261

// expiryOf returns the end of a lease as a Connection has it.
func expiryOf(expires time.Time) int64 {
	switch year := expires.Year(); {
	case expires.IsZero() || year > maxExpiryYear:
		return 0
	case year < 1970:
		return 1
	}
	return max(1, expires.UnixNano())
}

// joiner is a connection that was counted and waits for its sync until the flush interval ends.
type joiner struct {
	*Connection
	position string // from which its live stream follows
	missed   int    // number of the first recent message that it needs
}

// reasonOf returns the reason of a leave for the end of a connection.
func reasonOf(why stream.End) room.Reason {
	switch why {
	case stream.Slow, stream.Timeout, EndExpired:
		return room.Reason(why)
	}
	return room.Closed
}
