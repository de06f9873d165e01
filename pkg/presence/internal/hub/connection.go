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
// keeps only the fields that are needed after the request.
type Connection struct {
	id     room.ConnID
	user   room.UserID
	room   room.Name
	sid    string
	client Client // set by Join

	exempt bool   // Lease.Exempt
	paid   uint32 // part of the snapshot that the user was charged for before the join, in bytes

	// The fields below are guarded by connections.mu.
	session    string
	expires    int64       // in Unix nanoseconds; 0: never
	timer      Timer       // nil if the connection does not expire
	open       bool        // the connection holds a slot
	counted    bool        // the room counts the connection
	signedOut  bool        // the session was signed out before the room counted the connection
	admitted   bool        // the client was sent its sync
	warned     uint32      // expiry in the last expiring event, in Unix seconds
	prev, next *Connection // in the list of the user's connections
}

// maxExpiryYear is the last year that Connection.expires can represent in nanoseconds. A later
// lease is treated as one that never expires.
const maxExpiryYear = 2261

// expiryOf converts the expiry of a lease to the format of Connection.expires.
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
