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
	endFull      stream.End = "full"
	endSignedOut stream.End = "signed out"
)

// connection is one open GET /events. There are many: it holds what is needed
// after the request, and no more.
type connection struct {
	id      room.Conn
	user    room.UserID
	session string // User.Session
	server  *Server
	counter *counter      // where it is counted
	conn    *stream.Conn  // to its client
	expiry  *time.Timer   // ends it with its token; nil if that does not end
	done    chan struct{} // closed by ended; nil without Config.KeepHandler
}

// joiner is a connection that was counted in and waits for the sync of this
// window.
type joiner struct {
	*connection
	place string // from which its live stream follows
	since int    // the first in counter.missed that it missed
}

// greet answers the client, at once, as it is counted in. Messages are not
// kept: a client that comes back, with the id that it holds, can go on where it
// was if none has come since, and hears a reset if one has.
func (c *connection) greet(lastID, here string) {
	b := retryField(time.Second, 3*time.Second)
	if lastID != "" && lastID != here {
		b = resetEvent(here).Append(b)
	}
	c.conn.Tell(b)
}

// expire has the connection end with its token. It may have ended already.
func (c *connection) expire(at time.Time) {
	if !at.IsZero() {
		c.expiry = time.AfterFunc(time.Until(at), func() { c.conn.End(endExpired) })
	}
}

// turnAway ends a connection that was not counted in with a few words. To a
// browser's EventSource any status but 200 would be the end for good.
func (c *connection) turnAway(why stream.End, least, most time.Duration) {
	c.conn.Tell(retryField(least, most))
	c.conn.End(why)
}

// ended is called once, when the connection has ended.
func (c *connection) ended(why stream.End) {
	if c.expiry != nil {
		c.expiry.Stop()
	}
	c.server.conns.remove(c)
	if c.counter != nil {
		c.server.log.Debug("stream ended", "room", string(c.counter.name), "user", string(c.user), "why", string(why))
		c.counter.leave(c, leaveReason(why))
	}
	if c.done != nil {
		close(c.done)
	}
}

// leaveReason says how an end is told to the others.
func leaveReason(why stream.End) room.Reason {
	switch why {
	case stream.Slow, stream.Timeout, endExpired:
		return room.Reason(why)
	}
	return room.Closed
}
