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

// getEvents is the way of a client: it is authenticated and allowed in the room, takes a slot, is
// counted, and receives every event of the room until one side ends the stream.
func (s *Server) getEvents(w http.ResponseWriter, r *http.Request) error {
	v, err := s.authorize(r, mayJoin, "last_event_id", "lastEventId")
	if err != nil {
		return err
	}
	if r.ContentLength != 0 {
		return refuse(http.StatusBadRequest, "a GET of the stream has no body")
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
		refused = err // the client is there, for a few words
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

// serve has the client served until its stream ends. With Config.KeepHandler it waits for that.
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

// fullMin and fullMax bound the time after which a client that was refused at capacity reconnects.
const fullMin, fullMax = 10 * time.Second, 30 * time.Second

// turnAway ends the stream of a client that was not counted with a goodbye. To a browser's
// EventSource any status but 200 would be the end for good.
func turnAway(client *stream.Conn, refused error) {
	why, least, most := hub.EndFull, fullMin, fullMax
	switch {
	case errors.Is(refused, hub.ErrDraining):
		why, least, most = hub.EndDraining, time.Second, 3*time.Second
	case errors.Is(refused, hub.ErrBanned):
		why, least, most = hub.EndRemoved, time.Second, 3*time.Second // and then it is 403
	}
	client.Send(hub.AppendRetry(nil, least, most))
	client.End(why)
}

func leaseOf(u User) hub.Lease { return hub.Lease{SID: u.SID, Session: u.Session, Expires: u.Expires} }
