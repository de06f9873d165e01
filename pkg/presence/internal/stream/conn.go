package stream

import (
	"context"
	"errors"
)

var (
	// ErrUnsupported means that a response cannot be a stream. Its connection cannot be hijacked,
	// and one of these conditions holds:
	//
	//   - The response cannot flush, so no event would leave the server.
	//   - The response has no write deadline, so a client that stops reading would stay connected
	//     forever.
	ErrUnsupported = errors.New("stream: response supports neither hijacking nor flushing with a write deadline")

	// ErrFull means that the process has reached its open-file limit.
	ErrFull = errors.New("stream: open-file limit reached")
)

// Conn is the connection of one client: the unending response to a GET request. Its methods are
// safe for concurrent use. They do nothing after the connection has ended.
type Conn struct{ sink sink }

// sink writes events to the socket of a client. It is a [direct] if possible, else a [writer]. Only
// serve may block.
type sink interface {
	// inbox returns the inbox of the loop or waker that serves the sink.
	inbox() *inbox[task]
	// attach and detach are called with the Stream's lock held. detach returns the share of the
	// sink.
	attach(sh *share, after uint64)
	detach() *share

	held() Held
	send(events [][]byte, sent func())
	end(End)
	drop(End)
	serve(ctx context.Context, ended func(End))
}

// Send queues private events, which are events for this client only. The arguments together are the
// text of one or more whole events. The connection keeps the slices. The events are written after
// Serve or End is called. They follow the response headers and precede all events published after
// [Stream.Attach].
func (c *Conn) Send(events ...[]byte) { c.sink.send(events, nil) }

// SendThen is like [Conn.Send], but for long input, such as a replay. It calls sent once, when
// everything is written or when the connection has ended. sent must not block, and must not call
// this package.
func (c *Conn) SendThen(sent func(), events ...[]byte) { c.sink.send(events, sent) }

// Serve starts the delivery of events. Call it once, on the goroutine of the request. After the
// client, [Conn.End] or [Conn.Drop] has ended the connection, Serve calls ended once, with the
// reason, on a goroutine that holds no lock.
//
//	                    Serve returns   the end of ctx
//	HTTP/1, hijacked    immediately     has no effect
//	HTTP/2, other       after ended     ends the connection
func (c *Conn) Serve(ctx context.Context, ended func(End)) { c.sink.serve(ctx, ended) }

// Held returns the data that the client has not taken yet.
func (c *Conn) Held() Held { return c.sink.held() }

// End sends the backlog and a goodbye with the reason, and then ends the connection within 2 s. It
// does not block. Only the first call has an effect.
func (c *Conn) End(why End) { c.sink.end(why) }

// Drop ends the connection immediately, without a goodbye. It does not block.
func (c *Conn) Drop(why End) { c.sink.drop(why) }
