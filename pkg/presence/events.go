package presence

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"time"

	"example.com/presence/pkg/presence/internal/guard"
	"example.com/presence/pkg/presence/internal/hub"
	"example.com/presence/pkg/presence/internal/stream"
	"example.com/presence/pkg/presence/room"
)

// getEvents opens a stream. It authenticates and authorizes the user, takes a slot and counts the
// client. The client then receives every event of the room until one side ends the stream.
func (s *Server) getEvents(w http.ResponseWriter, r *http.Request) error {
	v, err := s.authorize(r, mayJoin, "last_event_id", "lastEventId")
	if err != nil {
		return err
	}
	if r.ContentLength != 0 {
		return refuse(http.StatusBadRequest, "GET /events must have no body")
	}
	user := room.User{ID: room.UserID(v.user.ID), Name: v.user.Name, Info: v.user.Info}
	conn, refused := s.hub.Connect(r.Context(), v.room, user.ID, leaseOf(v.user))
	if refused != nil && !errors.Is(refused, hub.ErrDraining) {
		s.warn.Warn(r.Context(), refused.Error(), "user", v.user.ID, "room", string(v.room))
		if s.config.FullStatus == http.StatusServiceUnavailable {
			return &refusal{status: http.StatusServiceUnavailable, detail: refused.Error(), retry: fullMin + rand.N(fullMax-fullMin)}
		}
	}
	if a, ok := w.(*guard.Answer); ok {
		w = a.Stream()
	}
	client, err := s.streams.Conn(w, r)
	switch {
	case errors.Is(err, stream.ErrFull):
		s.warn.Warn(r.Context(), err.Error())
		refused = err // the stream is open: it gets a goodbye
	case err != nil:
		s.hub.Leave(conn, stream.Closed)
		return err
	case refused == nil:
		refused = s.hub.Join(r.Context(), conn, user, client, lastEventID(r, v.query))
	}
	if refused != nil {
		turnAway(client, refused)
	}
	s.serve(r, client, conn)
	return nil
}

// serve serves the client until its stream ends. With Config.KeepHandler it waits for that end.
func (s *Server) serve(r *http.Request, client *stream.Conn, conn *hub.Connection) {
	if !s.config.KeepHandler {
		client.Serve(r.Context(), func(why stream.End) { s.hub.Leave(conn, why) })
		return
	}
	done := make(chan struct{})
	client.Serve(r.Context(), func(why stream.End) { s.hub.Leave(conn, why); close(done) })
	select {
	case <-done:
	case <-r.Context().Done():
		client.Drop(stream.Closed)
		<-done
	}
}

// fullMin and fullMax bound the time after which a client that was refused at a limit reconnects.
const fullMin, fullMax = 10 * time.Second, 30 * time.Second

// turnAway sends goodbye to a client that was not counted, and ends its stream. A browser's
// EventSource never reconnects after a status other than 200.
func turnAway(client *stream.Conn, refused error) {
	why, least, most := hub.EndFull, fullMin, fullMax
	switch {
	case errors.Is(refused, hub.ErrDraining):
		why, least, most = hub.EndDraining, time.Second, 3*time.Second
	case errors.Is(refused, hub.ErrBanned):
		why, least, most = hub.EndRemoved, time.Second, 3*time.Second // the next request gets 403
	}
	client.Send(hub.AppendRetry(nil, least, most))
	client.End(why)
}

func leaseOf(u User) hub.Lease { return hub.Lease{SID: u.SID, Session: u.Session, Expires: u.Expires} }
