package presence

import (
	"net/http"
	"time"

	"example.com/presence/pkg/presence/room"
	"example.com/presence/pkg/presence/stream"
)

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
		return errNoStream
	}
	conn := &connection{
		id:     room.Conn(s.lastConn.Add(1)),
		user:   user,
		conn:   s.streams.Conn(w, r),
		lastID: lastEventID(r),
	}
	defer s.sessions.add(user.Session, conn)()
	counter := s.join(name, conn)
	if counter == nil {
		return sendAway(w, r, endDraining, time.Second, 3*time.Second)
	}
	why := stream.Closed
	defer func() { counter.leave(conn, leaveReason(why)) }()
	defer expire(user.Expires, conn)()
	why = conn.conn.Serve(r.Context())
	s.log.Debug("stream ended", "room", string(name), "user", user.ID, "why", string(why))
	return nil
}

// join counts the connection in; nil says that the server drains. The room may
// be dropped between the look-up and the door, as its last member has just
// left; then there is a new one.
func (s *Server) join(name room.Name, conn *connection) *counter {
	for {
		c := s.counter(name)
		if c == nil || c.join(conn) == nil {
			return c
		}
	}
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

// lastEventID returns the id that the client holds: the header, which a
// browser sends by itself, before the query, with which a script begins.
func lastEventID(r *http.Request) string {
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		return id
	}
	return r.URL.Query().Get("last_event_id")
}
