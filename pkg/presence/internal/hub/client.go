package hub

import (
	"context"
	"time"

	"example.com/presence/pkg/presence/internal/stream"
)

// Client sends events to one client. [stream.Conn] implements it over a socket. Test clients have
// no socket. No method blocks.
type Client interface {
	// Send sends events to this client only. They arrive before every event that is published after
	// [SharedStream.Attach]. Send keeps the slices, so the caller must not modify them.
	Send(events ...[]byte)
	// SendThen is like Send. It also calls sent once: when all events are written, or when the
	// connection is closed. sent must not lock a room.
	SendThen(sent func(), events ...[]byte)
	// Held returns the data that the client has not taken yet.
	Held() stream.Held
	// End sends the backlog and a goodbye with the reason, and then closes the connection. Only the
	// first call has an effect.
	End(why stream.End)
	// Drop closes the connection immediately, without a goodbye.
	Drop(why stream.End)
}

// Streams creates the shared streams of all rooms.
type Streams interface {
	// Stream returns a new shared stream for the room with this name.
	Stream(name string) SharedStream
	// Excess returns by how many bytes the backlogs of all streams exceed their limit, or 0 or
	// less.
	Excess() int
	// Drain waits until all events published before the call are on their way to the clients.
	Drain()
	// Close closes the streams. Before that, the caller must have ended all clients with End or
	// Drop.
	Close()
}

// SharedStream is the shared stream of one room. Only Reserve blocks.
type SharedStream interface {
	// Publish sends the event to all attached clients, in the order of the calls.
	Publish(stream.Event, stream.Kind)
	// Attach attaches the client. It receives every event that is published from now on.
	Attach(Client)
	// Detach removes an attached client whose connection is closed.
	Detach(Client)
	// Reserve reserves a slot for an event of kind Reserved. If no slot is free, it waits for one.
	// The stream releases the slot when the event has been published.
	Reserve(context.Context) error
	// Release releases a slot whose event will not be published.
	Release()
	// Overloaded reports whether the unsent events of all streams exceed their limit, and those of
	// the account and of this stream their share.
	Overloaded() bool
	// Charge charges the unsent events of the stream to an account.
	Charge(*stream.Account)
	// FanOutTime returns the duration of the fan-out of the last user count or member change: the
	// time until the event was written to the sockets of all clients.
	FanOutTime() time.Duration
}

// Sockets adapts the streams of package stream to the Streams interface. Its clients must be of
// type *[stream.Conn].
func Sockets(s *stream.Streams) Streams { return sockets{s} }

type sockets struct{ *stream.Streams }

func (s sockets) Stream(name string) SharedStream { return socketStream{s.Streams.Stream(name)} }

type socketStream struct{ *stream.Stream }

func (s socketStream) Attach(c Client) { s.Stream.Attach(c.(*stream.Conn)) }
func (s socketStream) Detach(c Client) { s.Stream.Detach(c.(*stream.Conn)) }
