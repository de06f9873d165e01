package presence

import (
	"errors"
	"net/http"
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

// getEvents is the way of a client: who is it, may it come in, it is counted,
// everybody hears of it, and it hears everything until one side ends it.
func (s *Server) getEvents(w http.ResponseWriter, r *http.Request) error {
	user, name, err := s.visitor(r, mayJoin)
	if err != nil {
		return err
	}
	if r.ContentLength != 0 {
		return refuse(http.StatusBadRequest, "a GET of the stream has no body")
	}
	if !stream.CanServe(w) {
		return errNoFlush
	}
	conn := &connection{
		id:     room.Conn(s.lastConn.Add(1)),
		user:   user,
		conn:   s.streams.Conn(w, r),
		lastID: lastEventID(r),
	}
	counter, err := s.join(name, conn)
	if errors.Is(err, ErrDraining) {
		return sendAway(w, r, endDraining, time.Second, 3*time.Second)
	}
	if err != nil {
		return err
	}
	why := stream.Closed
	defer func() { counter.leave(conn, leaveReason(why)) }()
	defer s.sessions.add(user.Session, conn)()
	defer expire(user.Expires, conn)()
	why = conn.conn.Serve(r.Context())
	s.log.Debug("stream ended", "room", string(name), "user", user.ID, "why", string(why))
	return nil
}

// join counts the connection in. The room may be dropped between the look-up
// and the door, as its last member has just left; then there is a new one.
func (s *Server) join(name room.Name, conn *connection) (*counter, error) {
	for !s.draining.Load() {
		c := s.counter(name)
		if c.join(conn) == nil {
			return c, nil
		}
	}
	return nil, ErrDraining
}

// sendAway answers with a stream that says goodbye at once: to a browser's
// EventSource any other status but 200 would be the end for good.
func sendAway(w http.ResponseWriter, r *http.Request, why stream.End, least, most time.Duration) error {
	stream.SetHeaders(w, r)
	w.Write(stream.Goodbye(why).Append(retryField(least, most))) // if it fails, the client has gone
	return nil
}

// expire ends the connection when its token does. The function returned ends
// the wait for it.
func expire(at time.Time, conn *connection) (stop func()) {
	if at.IsZero() {
		return func() {}
	}
	timer := time.AfterFunc(time.Until(at), func() { conn.conn.End(endExpired) })
	return func() { timer.Stop() }
}

// leaveReason says how an end is told to the others.
func leaveReason(why stream.End) room.Reason {
	switch why {
	case stream.Slow, stream.Timeout, endExpired:
		return room.Reason(why)
	}
	return room.Closed
}

// lastEventID returns the id that the client holds: the header, which a
// browser sends by itself, before the query, with which a script begins.
func lastEventID(r *http.Request) string {
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		return id
	}
	return r.URL.Query().Get("last_event_id")
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
