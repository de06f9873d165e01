package presence

import (
	"context"
	"errors"
	"net/http"

	"example.com/presence/pkg/presence/internal/guard"
	"example.com/presence/pkg/presence/internal/stream"
	"example.com/presence/pkg/presence/room"
)

// getEvents is the way of a client: who is it, may it come in, is there a place
// for it, it is counted, everybody hears of it, and it hears everything until
// one side ends it.
func (s *Server) getEvents(w http.ResponseWriter, r *http.Request) error {
	v, err := s.visitor(r, mayJoin, "last_event_id", "lastEventId")
	if err != nil {
		return err
	}
	user := v.user
	if r.ContentLength != 0 {
		return refuse(http.StatusBadRequest, "a GET of the stream has no body")
	}
	conn := &connection{
		id:      room.Conn(s.lastConn.Add(1)),
		user:    room.UserID(user.ID),
		room:    v.room,
		sid:     user.SID,
		session: user.Session,
		expires: user.Expires,
	}
	if s.config.KeepHandler {
		conn.done = make(chan struct{})
	}
	refused := s.place(r.Context(), conn)
	if refused != nil && !errors.Is(refused, ErrDraining) && s.config.FullStatus == http.StatusServiceUnavailable {
		s.conns.remove(conn)
		return &refusal{status: http.StatusServiceUnavailable, detail: refused.Error(), retry: between(fullLeast, fullMost)}
	}
	if a, ok := w.(*guard.Answer); ok {
		w = a.Stream()
	}
	var c *counter // where it is counted
	conn.conn, err = s.streams.Conn(w, r)
	switch {
	case errors.Is(err, stream.ErrFull):
		s.warn.Warn(r.Context(), err.Error())
		refused = err // there is a connection, for a few words
	case err != nil:
		s.conns.remove(conn)
		return err
	case refused == nil:
		c, refused = s.join(conn, user, lastEventID(r, v.query))
	}
	if refused != nil {
		conn.turnAway(refused)
	}
	conn.conn.Serve(r.Context(), func(why stream.End) { s.ended(conn, c, why) })
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

// place keeps a place for the connection, and sees that the room is there.
func (s *Server) place(ctx context.Context, conn *connection) error {
	if s.draining.Load() {
		return ErrDraining
	}
	err := s.conns.add(conn)
	if err == nil {
		_, err = s.counter(conn.room)
	}
	if err != nil && !errors.Is(err, ErrDraining) {
		s.warn.Warn(ctx, err.Error(), "user", string(conn.user), "room", string(conn.room))
	}
	return err
}

// join counts the connection in. The room may be dropped between the look-up
// and the door; then there is a new one.
func (s *Server) join(conn *connection, user User, lastID string) (*counter, error) {
	for {
		c, err := s.counter(conn.room)
		if err != nil {
			return nil, err
		}
		switch err := c.join(conn, user, lastID); {
		case err == nil:
			return c, nil
		case !errors.Is(err, errClosed):
			return nil, err
		}
	}
}

// ended is called once, when the connection has ended, with where it was
// counted, if it was.
func (s *Server) ended(conn *connection, c *counter, why stream.End) {
	s.conns.remove(conn)
	if c != nil {
		s.log.Debug("stream ended", "room", string(conn.room), "user", string(conn.user), "why", string(why))
		c.leave(conn, leaveReason(why))
	}
	if conn.done != nil {
		close(conn.done)
	}
}
