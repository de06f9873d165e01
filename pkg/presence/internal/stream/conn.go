package stream

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// Conn is one client's connection: an answer to a GET that does not end.
type Conn struct{ sink sink }

// sink is a client's way to its socket: [direct] where it can be, else
// [writer]. Only serve may wait for the client. The methods may be called
// while it runs, and do nothing after the end.
type sink interface {
	// attach and detach are called with the Stream's lock held.
	attach(*Stream)
	detach(*Stream)
	// tell takes what is for this client alone, which goes before all that
	// is published later. Taken, which may be nil, is called when it has gone.
	tell(private [][]byte, taken func())
	// end asks for the end: what waits, a goodbye, no more.
	end(End)
	// drop ends it at once.
	drop(End)
	// serve has everything brought to the socket until the end, and then ended
	// called.
	serve(ctx context.Context, ended func(End))
}

var (
	// ErrUnsupported says that a response cannot be a stream: its connection
	// cannot be taken over, and it cannot flush, so that no event would leave
	// the server, or takes no write deadline, so that a client that has stopped
	// reading would never leave it.
	ErrUnsupported = errors.New("stream: the response can neither be hijacked nor flushed with a deadline")

	// ErrFull says that the process has no descriptor left.
	ErrFull = errors.New("stream: no descriptor left")
)

// Conn returns a connection that answers the request with an event stream.
// The headers that w has already are sent with it.
//
// A connection of HTTP/1 is taken out of net/http, whose server knows nothing
// of it from then on, and [Conn.Serve] returns at once. Where it is plain TCP,
// on Linux, it costs no goroutine. With [ErrFull] there is a connection that
// does, for a few words and the end.
func (s *Streams) Conn(w http.ResponseWriter, r *http.Request) (*Conn, error) {
	if r.ProtoMajor == 1 {
		h, err := s.hijack(w, r)
		if err == nil {
			h.tune()
			sink, err := s.take(h)
			return &Conn{sink}, err
		}
		if errors.Is(err, http.ErrHijacked) {
			return nil, err
		}
		w.Header().Set("Connection", "close") // its deadlines are no good for another request
	}
	if !canServe(w) {
		return nil, ErrUnsupported
	}
	for _, field := range headers {
		w.Header().Set(field.name, field.value)
	}
	response := struct {
		http.ResponseWriter
		*http.ResponseController
	}{w, http.NewResponseController(w)}
	return &Conn{newWriter(response, s)}, nil
}

// take makes a sink of the connection, direct if it can be. [ErrFull] comes
// with a writer.
func (s *Streams) take(h *http1) (sink, error) {
	s.door.RLock()
	defer s.door.RUnlock()
	if s.shut {
		return newWriter(h, s), nil
	}
	s.ours.Add(1)
	c, err := s.direct(h)
	if c != nil {
		return c, nil
	}
	w := newWriter(h, s)
	w.counted = true
	return w, err
}

// canServe reports whether w can flush and takes a write deadline, itself or
// the one that it unwraps to, as [http.ResponseController] asks for.
func canServe(w http.ResponseWriter) bool {
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

// headers are those of a stream. Those after Content-Type ask proxies to pass every event
// on at once and unchanged; docs/proxies.md lists which proxy obeys which.
//
// RFC 9110, section 8.4.1, says that identity should not be sent in Content-Encoding. Caddy before
// 2.6.3 (Debian 12) and Varnish ignore no-transform, and gzip what has no Content-Encoding
// without ever flushing the encoder. The header must not depend on the request's Accept-Encoding,
// which many configurations remove on the way here.
var headers = []struct{ name, value string }{
	{"Content-Type", "text/event-stream"},
	{"Cache-Control", "no-store, no-transform"},
	{"Content-Encoding", "identity"},
	{"X-Accel-Buffering", "no"},
}

// Send queues events for this client alone. Each argument is a piece of the text of whole events;
// the connection keeps the slices. They are written once Serve or End was called, after the
// response headers and before everything published after [Stream.Attach].
func (c *Conn) Send(events ...[]byte) { c.sink.tell(events, nil) }

// SendThen is Send for long input, such as a replay. It calls sent once: when all of it was written,
// or when the connection has ended. sent must not block, nor call this package.
func (c *Conn) SendThen(sent func(), events ...[]byte) { c.sink.tell(events, sent) }

// Serve has events brought to the client until the connection ends, by the
// client, by [Conn.End] or [Conn.Drop], and then ended called once, with the
// reason, on a goroutine that holds no lock. It is called once, by the goroutine
// of the request. Over HTTP/1 it returns at once; else it returns after ended,
// and the end of ctx is an end, too.
func (c *Conn) Serve(ctx context.Context, ended func(End)) { c.sink.serve(ctx, ended) }

// End asks for the end of the connection: it is sent what waits for it and a
// goodbye with the reason, within 2 s. It does not wait. Only the first call
// counts.
func (c *Conn) End(why End) { c.sink.end(why) }

// Drop ends the connection at once and without a word. It does not wait.
func (c *Conn) Drop(why End) { c.sink.drop(why) }
