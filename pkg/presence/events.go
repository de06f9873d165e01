package presence

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"example.com/presence/pkg/presence/internal/guard"
	"example.com/presence/pkg/presence/internal/hub"
	"example.com/presence/pkg/presence/internal/refusal"
	"example.com/presence/pkg/presence/internal/stream"
	"example.com/presence/pkg/presence/room"
)

// getEvents opens a stream. It authenticates and authorizes the user, reserves a slot and counts
// the client. The client then receives every event of the room until either side ends the stream.
func (s *Server) getEvents(w http.ResponseWriter, r *http.Request) error {
	v, err := s.authorize(r, toJoin, "last_event_id", "lastEventId")
	if err != nil {
		return err
	}
	if v.user.Session != "" {
		if err := checkStream(r); err != nil {
			return err
		}
	}
	if r.ContentLength != 0 {
		return reject(http.StatusBadRequest, "request body not allowed for GET /events")
	}
	user := room.User{ID: room.UserID(v.user.ID), Name: v.user.Name, Info: v.user.Info}
	conn, rejected := s.hub.Connect(r.Context(), v.room, user.ID, leaseOf(v.user))
	if rejected != nil && !errors.Is(rejected, hub.ErrDraining) && s.config.FullStatus == http.StatusServiceUnavailable {
		p := *problemOf(rejected)
		if p.status != http.StatusTooManyRequests { // of the cost rate
			p.status = http.StatusServiceUnavailable
		}
		p.detail, p.retry = rejected.Error(), max(p.retry, fullMin+rand.N(fullMax-fullMin))
		return &p
	}
	if rejected != nil {
		w.Header().Set("X-Request-Id", factsOf(r).requestID(r)) // the one of its log line
	}
	if a, ok := w.(*guard.Answer); ok {
		w = a.Stream()
	}
	client, err := s.streams.Conn(w, r)
	switch {
	case errors.Is(err, stream.ErrFull):
		rejected = err // the stream is already open, so it ends with goodbye
	case err != nil:
		s.hub.Leave(conn, stream.Closed)
		return err
	case rejected == nil:
		rejected = s.hub.Join(r.Context(), conn, user, client, lastEventID(r, v.query))
	}
	if rejected != nil {
		p := *problemOf(rejected)
		p.status = http.StatusOK
		s.record(r, &p, rejected)
		s.config.Logger.DebugContext(r.Context(), "stream refused", append([]any{"cause", string(p.cause), "detail", p.logged()}, s.lineOf(r)...)...)
		sendGoodbye(client, rejected)
	}
	s.serve(r, client, s.ending(r, conn, rejected))
	return nil
}

// checkStream rejects a stream with the cookie if an element of a page, such as an image, may have
// caused the request:
//
//	Sec-Fetch-Site, -Mode, -Dest or Origin   allowed: check has compared them
//	TLS, or a local host                     allowed: browsers send Sec-Fetch-Site there
//	Accept has text/event-stream             allowed: EventSource sends it, an element cannot, but a script can
//	otherwise                                403
//
// Over plain HTTP to any other host, browsers send neither Sec-Fetch-Site nor Origin with the
// request of an image (W3C Fetch Metadata section 3, Fetch section 3.2). A host of the same site
// could open streams as a visitor of its pages.
func checkStream(r *http.Request) error {
	for _, header := range []string{"Sec-Fetch-Site", "Sec-Fetch-Mode", "Sec-Fetch-Dest", "Origin"} {
		if r.Header.Get(header) != "" {
			return nil
		}
	}
	accept := strings.ToLower(strings.Join(r.Header["Accept"], ","))
	if r.TLS != nil || isLocal(hostOf(r.Host)) || strings.Contains(accept, "text/event-stream") {
		return nil
	}
	return forbid(refusal.Origin, "stream with the session cookie requires the header Accept: text/event-stream, or the Sec-Fetch-Site of a browser (server host %.300q)", r.Host)
}

// ending returns the function to call when the stream ends. At level debug, it logs the end, and
// ending logs the beginning of a stream that was not rejected.
func (s *Server) ending(r *http.Request, conn *hub.Connection, rejected error) func(stream.End) {
	log := s.config.Logger
	if rejected != nil || !log.Enabled(r.Context(), slog.LevelDebug) {
		return func(why stream.End) { s.hub.Leave(conn, why) }
	}
	ctx, f := context.WithoutCancel(r.Context()), factsOf(r)
	origin := s.originOf(r, f)
	log.DebugContext(ctx, "stream opened", append(origin, "protocol", r.Proto)...)
	return func(why stream.End) {
		s.hub.Leave(conn, why)
		log.DebugContext(ctx, "stream ended", append(origin, "reason", string(why), "duration", time.Since(f.began))...)
	}
}

// serve delivers events to the client until the stream ends, and then calls ended. With
// Config.KeepHandler, it returns only after that.
func (s *Server) serve(r *http.Request, client *stream.Conn, ended func(stream.End)) {
	if !s.config.KeepHandler {
		client.Serve(r.Context(), ended)
		return
	}
	done := make(chan struct{})
	client.Serve(r.Context(), func(why stream.End) { ended(why); close(done) })
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
	var limited *hub.RateError
	switch {
	case errors.As(cause, &limited):
		least, most = max(least, limited.Wait), max(least, limited.Wait)+fullMax-fullMin
	case errors.Is(cause, hub.ErrDraining):
		why, least, most = hub.EndDraining, time.Second, 3*time.Second
	case errors.Is(cause, hub.ErrBanned):
		why, least, most = hub.EndRemoved, time.Second, 3*time.Second // the next request is rejected with 403
	}
	client.Send(hub.AppendRetry(nil, least, most))
	client.End(why)
}

func leaseOf(u User) hub.Lease {
	return hub.Lease{SID: u.SID, Session: u.Session, Expires: u.Expires, Exempt: u.Admin}
}
