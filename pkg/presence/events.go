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

// getEvents opens a stream. It authenticates and authorizes the user, reserves a slot and counts
// the client. The client then receives every event of the room until either side ends the stream.
func (s *Server) getEvents(w http.ResponseWriter, r *http.Request) error {
	v, err := s.authorize(r, mayJoin, "last_event_id", "lastEventId")
	if err != nil {
		return err
	}
	if r.ContentLength != 0 {
		return reject(http.StatusBadRequest, "request body not allowed for GET /events")
	}
	user := room.User{ID: room.UserID(v.user.ID), Name: v.user.Name, Info: v.user.Info}
	conn, rejected := s.hub.Connect(r.Context(), v.room, user.ID, leaseOf(v.user))
	if rejected != nil && !errors.Is(rejected, hub.ErrDraining) {
		s.warn.Warn(r.Context(), "stream rejected: "+rejected.Error(), "user", v.user.ID, "room", string(v.room))
		if s.config.FullStatus == http.StatusServiceUnavailable {
			return &problem{status: http.StatusServiceUnavailable, detail: rejected.Error(), retry: fullMin + rand.N(fullMax-fullMin)}
		}
	}
	if a, ok := w.(*guard.Answer); ok {
		w = a.Stream()
	}
	client, err := s.streams.Conn(w, r)
	switch {
	case errors.Is(err, stream.ErrFull):
		s.warn.Warn(r.Context(), "stream rejected: "+err.Error())
		rejected = err // the stream is already open, so it ends with goodbye
	case err != nil:
		s.hub.Leave(conn, stream.Closed)
		return err
	case rejected == nil:
		rejected = s.hub.Join(r.Context(), conn, user, client, lastEventID(r, v.query))
	}
	if rejected != nil {
		sendGoodbye(client, rejected)
	}
	s.serve(r, client, conn)
	return nil
}

// serve delivers events to the client until the stream ends. With Config.KeepHandler, it returns
// only after the stream has ended.
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

// fullMin and fullMax bound the reconnect delay of a client that is rejected at a limit.
const fullMin, fullMax = 10 * time.Second, 30 * time.Second

// sendGoodbye sends goodbye to a client that was not counted, and ends its stream. The status of
// the response is still 200, because a browser's EventSource never reconnects after another status.
func sendGoodbye(client *stream.Conn, cause error) {
	why, least, most := hub.EndFull, fullMin, fullMax
	switch {
	case errors.Is(cause, hub.ErrDraining):
		why, least, most = hub.EndDraining, time.Second, 3*time.Second
	case errors.Is(cause, hub.ErrBanned):
		why, least, most = hub.EndRemoved, time.Second, 3*time.Second // the next request is rejected with 403
	}
	client.Send(hub.AppendRetry(nil, least, most))
	client.End(why)
}

func leaseOf(u User) hub.Lease { return hub.Lease{SID: u.SID, Session: u.Session, Expires: u.Expires} }
