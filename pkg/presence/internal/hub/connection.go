package hub

import (
	"time"

	"example.com/presence/pkg/presence/internal/stream"
	"example.com/presence/pkg/presence/room"
)

// The reasons for which the hub ends a connection. The goodbye event carries the reason.
const (
	EndExpired   stream.End = "expired"
	EndRemoved   stream.End = "removed"
	EndDraining  stream.End = "draining"
	EndFull      stream.End = "full"
	EndSignedOut stream.End = "signed out"
)

// Lease is the time at which a connection ends, and the sign-in that it belongs to.
type Lease struct {
	SID     string    // distinguishes sign-ins of one user; may be empty
	Session string    // the cookie that carried the token; empty if no cookie did
	Expires time.Time // zero: never
}

// Connection is one open stream of one user in one room. A node has many of them, so it holds only
// the fields that are needed after the request.
type Connection struct {
	id     room.ConnID
	user   room.UserID
	room   room.Name
	sid    string
	client Client // set by Join

	// The fields below are guarded by connections.mu.
	session    string
	expires    int64       // in Unix nanoseconds; 0: never
	timer      Timer       // nil if it does not expire
	open       bool        // it holds a slot
	counted    bool        // its room counts it
	signedOut  bool        // its session was signed out before it was counted
	admitted   bool        // it has its sync
	warned     uint32      // expiry announced last, in Unix seconds
	prev, next *Connection // in the list of its user
}

// maxExpiryYear is the last year that fits Connection.expires, which counts nanoseconds. A lease
// that ends later never ends.
const maxExpiryYear = 2261

// expiryOf returns the end of a lease in the form of Connection.expires.
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
	position string // position after which its live events follow
	missed   int    // number of the first recent message that it needs
}

// reasonOf converts the end of a connection to the reason of a leave.
func reasonOf(why stream.End) room.Reason {
	switch why {
	case stream.Slow, stream.Timeout, EndExpired:
		return room.Reason(why)
	}
	return room.Closed
}
