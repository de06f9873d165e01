package presence

import (
	"errors"
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
	conn := &connection{
		id:      room.Conn(s.lastConn.Add(1)),
		user:    room.UserID(user.ID),
		session: user.Session,
		server:  s,
	}
	if s.config.KeepHandler {
		conn.done = make(chan struct{})
	}
	conn.conn, err = s.streams.Conn(w, r)
	switch {
	case errors.Is(err, stream.ErrFull):
		conn.turnAway(endFull, 10*time.Second, 30*time.Second)
	case err != nil:
		return err
	case s.join(name, conn, user, lastEventID(r)):
		conn.expire(user.Expires)
	default:
		conn.turnAway(endDraining, time.Second, 3*time.Second)
	}
	conn.conn.Serve(r.Context(), conn.ended)
	if conn.done != nil {
		select {
		case <-conn.done:
		case <-r.Context().Done():
			conn.conn.Drop(stream.Closed)
			<-conn.done
		}
	}
	return nil
}

// join counts the connection in, and reports false if the server drains. The
// room may be dropped between the look-up and the door, as its last member has
// just left; then there is a new one.
func (s *Server) join(name room.Name, conn *connection, user User, lastID string) bool {
	for {
		c := s.counter(name)
		if c == nil {
			return false
		}
		if c.join(conn, user, lastID) == nil {
			return true
		}
	}
}

// lastEventID returns the id that the client holds: the header, which a
// browser sends by itself, before the query, with which a script begins.
func lastEventID(r *http.Request) string {
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		return id
	}
	return r.URL.Query().Get("last_event_id")
}
