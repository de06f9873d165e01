package stream

import (
	"context"
	"net/http"
	"time"
)

// Conn is one client's connection: an answer to a GET that does not end.
type Conn struct {
	sink sink

	// Guarded by the Stream's lock.
	place uint64 // the number of the last event before it came
	index int    // in the Stream's conns
}

// sink is a client's way to its socket. Of its methods serve alone waits for
// the client; the others may be called while it runs, and do nothing after it.
type sink interface {
	// tell takes what is for this client alone, which goes before all that
	// send takes later.
	tell(private [][]byte)
	// send takes a shared frame.
	send(*frame)
	// end asks for the end: what waits, a goodbye, no more.
	end(End)
	// serve brings everything to the socket until the end, and says which.
	serve(context.Context) End
}

// Conn returns a connection that answers the request. The headers of the
// event stream are set here, beside those that w has already, and are sent with
// the first event.
func (s *Streams) Conn(w http.ResponseWriter, r *http.Request) *Conn {
	SetHeaders(w, r)
	return &Conn{sink: newWriter(w, r, s.config)}
}

// CanServe reports whether w can flush and takes a write deadline, itself or
// the one that it unwraps to, as [http.ResponseController] asks for. Without
// the first no event leaves the server, without the second a client that has
// stopped reading never leaves it.
func CanServe(w http.ResponseWriter) bool {
	if http.NewResponseController(w).SetWriteDeadline(time.Time{}) != nil {
		return false
	}
	for {
		switch t := w.(type) {
		case http.Flusher, interface{ FlushError() error }:
			return true
		case interface{ Unwrap() http.ResponseWriter }:
			w = t.Unwrap()
		default:
			return false
		}
	}
}

// SetHeaders sets the headers of an event stream. The connection of HTTP/1 is
// not used again after the stream, whose deadlines it carries.
func SetHeaders(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store, no-transform")
	h.Set("X-Accel-Buffering", "no")
	if r.ProtoMajor == 1 {
		h.Set("Connection", "close")
	}
}

// Tell sends events to this client alone: whole ones, in as many pieces as the
// caller has them in. They go out, the headers before them, before everything
// that is published after [Stream.Attach].
func (c *Conn) Tell(private ...[]byte) { c.sink.tell(private) }

// Serve brings events to the client until the connection ends, by the client,
// by [Conn.End] or by the end of ctx, and returns why. It is called once, by
// the goroutine of the request.
func (c *Conn) Serve(ctx context.Context) End {
	return c.sink.serve(ctx)
}

// End asks for the end of the connection: it is sent what waits for it and a
// goodbye with the reason, within 2 s. It does not wait. Only the first call
// counts.
func (c *Conn) End(why End) { c.sink.end(why) }
