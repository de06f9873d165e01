package presence

import (
	"errors"
	"time"

	"example.com/presence/pkg/presence/internal/stream"
	"example.com/presence/pkg/presence/room"
)

// The ends of a connection that are the server's will, as its goodbye says.
const (
	endExpired   stream.End = "expired"
	endRemoved   stream.End = "removed"
	endDraining  stream.End = "draining"
	endFull      stream.End = "full"
	endSignedOut stream.End = "signed out"
)

// errBanned says that the user was removed from the room, and may not be back
// yet.
var errBanned = errors.New("removed from the room")

// How long who finds no place is to stay away.
const fullLeast, fullMost = 10 * time.Second, 30 * time.Second

// connection is one open GET /events. There are many: it holds what is needed
// after the request, and no more.
type connection struct {
	id   room.Conn
	user room.UserID
	room room.Name
	sid  string        // User.SID
	conn *stream.Conn  // to its client
	done chan struct{} // closed when it has ended; nil without Config.KeepHandler

	// Guarded by connections.mu.
	session    string // User.Session
	expires    time.Time
	timer      *time.Timer // nil if it does not expire
	open       bool        // it has its place
	counted    bool
	signedOut  bool        // before it was counted
	admitted   bool        // it has its sync
	warned     uint32      // the Unix second of the end that it was told of; 0 if of none
	last, next *connection // in the list of its user's
}

// joiner is a connection that was counted in and waits for its sync until the flush interval
// ends.
type joiner struct {
	*connection
	place string // from which its live stream follows
	since int    // where in counter.missed begins what it missed
}

// turnAway ends a connection that was not counted in with a few words. To a
// browser's EventSource any status but 200 would be the end for good.
func (c *connection) turnAway(refused error) {
	why, least, most := endFull, fullLeast, fullMost
	switch {
	case errors.Is(refused, ErrDraining):
		why, least, most = endDraining, time.Second, 3*time.Second
	case errors.Is(refused, errBanned):
		why, least, most = endRemoved, time.Second, 3*time.Second // and then it is 403
	}
	c.conn.Send(appendRetry(nil, least, most))
	c.conn.End(why)
}

// leaveReason says how an end is told to the others.
func leaveReason(why stream.End) room.Reason {
	switch why {
	case stream.Slow, stream.Timeout, endExpired:
		return room.Reason(why)
	}
	return room.Closed
}
