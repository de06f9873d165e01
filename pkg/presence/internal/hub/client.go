package hub

import (
	"context"
	"time"

	"example.com/presence/pkg/presence/internal/stream"
)

// Client sends events to one client. [stream.Conn] implements it over a socket. Tests have clients
// without sockets. No method waits for the client.
type Client interface {
	// Send sends events to this client only. They come before every event that is published after
	// [SharedStream.Attach]. Send keeps the slices: the caller must not change them.
	Send(events ...[]byte)
	// SendThen is Send with a callback: sent is called once, when the client has taken the events
	// or its connection has ended. sent must not take the lock of a room.
	SendThen(sent func(), events ...[]byte)
	// End sends the backlog and a goodbye with the reason, and then ends the connection. Only the
	// first call counts.
	End(why stream.End)
	// Drop ends the connection at once, without a goodbye.
	Drop(why stream.End)
}

// Streams are the shared streams of all rooms.
type Streams interface {
	// Stream returns a new shared stream for the room of that name.
	Stream(name string) SharedStream
	// Drain returns when all events published before the call are on their way to the clients.
	Drain()
	// Close ends the streams. The caller must have ended all clients before, with End or Drop.
	Close()
}

// SharedStream is the shared stream of one room. Only Reserve waits.
type SharedStream interface {
	// Publish sends the event to every attached client, in the order of the calls.
	Publish(stream.Event, stream.Kind)
	// Attach makes the client receive every event that is published from now on.
	Attach(Client)
	// Detach removes an attached client that has ended.
	Detach(Client)
	// Reserve takes a slot for an event of kind Reserved, and waits for a free one. Once the event
	// is published, the stream frees the slot.
	Reserve(context.Context) error
	// Release gives back a slot whose event is not published.
	Release()
	// FanOutTime returns the duration of the fan-out of the last count or change: the time until it
	// reached the sockets of all clients.
	FanOutTime() time.Duration
}

// Sockets adapts the streams of package stream to Streams. Each client is a [stream.Conn].
func Sockets(s *stream.Streams) Streams { return sockets{s} }

type sockets struct{ *stream.Streams }

func (s sockets) Stream(name string) SharedStream { return socketStream{s.Streams.Stream(name)} }

type socketStream struct{ *stream.Stream }

func (s socketStream) Attach(c Client) { s.Stream.Attach(c.(*stream.Conn)) }
func (s socketStream) Detach(c Client) { s.Stream.Detach(c.(*stream.Conn)) }
