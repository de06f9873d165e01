package hub

import (
	"context"
	"time"

	"example.com/presence/pkg/presence/internal/stream"
)

// Client is the way to one client. [stream.Conn] implements it over a socket; a test has clients
// without sockets. No method waits for the client.
type Client interface {
	// Send sends events to this client alone, before every event that is published after
	// [SharedStream.Attach]. It keeps the slices.
	Send(events ...[]byte)
	// SendThen is Send; sent is called once, when the client has taken the events or its connection
	// has ended. Sent takes no lock of a room.
	SendThen(sent func(), events ...[]byte)
	// End sends the events that wait, a goodbye with the reason, and ends the connection. Only the
	// first call counts.
	End(why stream.End)
	// Drop ends the connection at once, without a goodbye.
	Drop(why stream.End)
}

// Streams are the shared streams of all rooms.
type Streams interface {
	// Stream returns a new shared stream for the room of that name.
	Stream(name string) SharedStream
	// Drain returns when all events published before are on their way to the clients.
	Drain()
	// Close ends the streams. All clients must have been asked for their end.
	Close()
}

// SharedStream is the shared stream of one room. No method but Reserve waits.
type SharedStream interface {
	// Publish sends the event to every attached client, in the order of the calls.
	Publish(stream.Event, stream.Kind)
	// Attach has the client receive every event published from now on.
	Attach(Client)
	// Detach removes a client that was attached and has ended.
	Detach(Client)
	// Reserve takes a slot for an event of kind Reserved; publishing it gives the slot back in
	// time.
	Reserve(context.Context) error
	// Release gives back a slot that is not used.
	Release()
	// FanOutTime returns the time that the last count or change took to reach the sockets of all
	// clients.
	FanOutTime() time.Duration
}

// Sockets are the streams of package stream, whose clients are each a [stream.Conn].
func Sockets(s *stream.Streams) Streams { return sockets{s} }

type sockets struct{ *stream.Streams }

func (s sockets) Stream(name string) SharedStream { return socketStream{s.Streams.Stream(name)} }

type socketStream struct{ *stream.Stream }

func (s socketStream) Attach(c Client) { s.Stream.Attach(c.(*stream.Conn)) }
func (s socketStream) Detach(c Client) { s.Stream.Detach(c.(*stream.Conn)) }
