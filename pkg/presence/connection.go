package presence

import (
	"time"

	"example.com/presence/pkg/presence/room"
	"example.com/presence/pkg/presence/stream"
)

// The ends of a connection that are the server's will, as its goodbye says.
const (
	endExpired   stream.End = "expired"
	endDraining  stream.End = "draining"
	endSignedOut stream.End = "signed out"
)

// connection is one open GET /events.
type connection struct {
	id     room.Conn
	user   User
	conn   *stream.Conn
	lastID string // the id that the client holds; empty if it comes for the first time
	place  string // the id from which its live stream follows; set by greet
	since  int    // the first in counter.missed that it missed
}

// greet answers the client, at once, as it is counted in. Messages are not
// kept: a client that comes back can go on where it was if none has come since, and hears a
// reset if one has.
func (c *connection) greet(here string) {
	c.place = here
	b := retryField(time.Second, 3*time.Second)
	if c.lastID != "" && c.lastID != c.place {
		b = resetEvent(c.place).Append(b)
	}
	c.conn.Tell(b)
}

// leaveReason says how an end is told to the others.
func leaveReason(why stream.End) room.Reason {
	switch why {
	case stream.Slow, stream.Timeout, endExpired:
		return room.Reason(why)
	}
	return room.Closed
}
