package stream

import (
	"context"
	"errors"
)

var (
	// ErrUnsupported means that a response cannot be a stream: its connection cannot be hijacked,
	// and it cannot flush, so that no event would leave the server, or takes no write deadline, so
	// that a client that has stopped reading would stay for ever.
	ErrUnsupported = errors.New("stream: the response can neither be hijacked nor flushed with a deadline")

	// ErrFull means that the process has no descriptor left.
	ErrFull = errors.New("stream: no descriptor left")
)

// Conn is one client's connection: an answer to a GET that does not end by itself. Its methods may
// be called at any time by any goroutine, and do nothing after the end.
type Conn struct{ sink sink }

// sink is the way to a client's socket: [direct] if possible, else [writer]. Only serve may block.
type sink interface {
	// inbox returns the inbox of the goroutine that serves its share.
	inbox() *inbox[task]
	// attach and detach are called with the Stream's lock held; detach returns the share.
	attach(sh *share, after uint64)
	detach() *share

	send(events [][]byte, sent func())
	end(End)
	drop(End)
	serve(ctx context.Context, ended func(End))
}

// Send queues events for this client alone. Each argument is a piece of the text of whole events;
// the connection keeps the slices. They are written once Serve or End was called, after the
// response headers and before everything published after [Stream.Attach].
func (c *Conn) Send(events ...[]byte) { c.sink.send(events, nil) }

// SendThen is Send for long input, such as a replay. It calls sent once: when all of it was
// written, or when the connection has ended. sent must not block, nor call this package.
func (c *Conn) SendThen(sent func(), events ...[]byte) { c.sink.send(events, sent) }

// Serve starts the delivery of events. When the connection has ended, by its client, [Conn.End] or
// [Conn.Drop], it calls ended once, with the reason, on a goroutine that holds no lock. Serve is
// called once, by the goroutine of the request. Over HTTP/1 it returns at once; else it returns
// after ended, and the end of ctx ends the connection.
func (c *Conn) Serve(ctx context.Context, ended func(End)) { c.sink.serve(ctx, ended) }

// End ends the connection after its backlog and a goodbye with the reason, within 2 s. It does not
// block. Only the first call counts.
func (c *Conn) End(why End) { c.sink.end(why) }

// Drop ends the connection at once, without a goodbye. It does not block.
func (c *Conn) Drop(why End) { c.sink.drop(why) }
