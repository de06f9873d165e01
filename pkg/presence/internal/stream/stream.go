package stream

import (
	"context"
	"slices"
	"sync"
	"time"
)

// maxReserved is the number of slots of one Stream: the events of kind [Reserved] on their way.
const maxReserved = 64

// Stream is one shared stream: an event published into it reaches all its connections. Its methods
// are safe for concurrent use.
type Stream struct {
	encoder *encoder

	mu        sync.Mutex    // guards slots, published, shares, and share.attached
	slots     chan struct{} // holds one item per slot taken; made by the first Reserve
	published uint64        // the publish number of the last event
	shares    []*share      // of its connections
}

// Publish sends the event to all connections of the stream. It does not block, and keeps e.Data.
// Events are delivered in the order of the calls.
func (s *Stream) Publish(e Event, k Kind) {
	f := &frame{kind: k}
	if k == Reserved {
		slots := s.slotsOf()
		f.done = func() { <-slots } // takes no lock, as the caller holds some
	}
	s.publish(e, f)
}

func (s *Stream) publish(e Event, f *frame) {
	f.retain()
	s.mu.Lock()
	s.published++
	f.number = s.published
	s.encoder.add(publication{f, e, s}) // under the lock: the encoder has the order of the numbers
	s.mu.Unlock()
}

// fanOut queues the encoded frame for the shares. Those of connections that attached later may be
// among them: the publish number tells.
func (s *Stream) fanOut(f *frame) {
	s.mu.Lock()
	for _, sh := range s.shares {
		sh.take(f)
	}
	s.mu.Unlock()
	f.release()
}

// Reserve takes one of the stream's 64 slots for an event of kind [Reserved]. It blocks until one
// is free, or returns the error of ctx when that ends first. A slot is returned when the event was
// written to every connection without a backlog. So publishers are held to the speed of the
// fan-out, and never by a slow consumer.
func (s *Stream) Reserve(ctx context.Context) error {
	select {
	case s.slotsOf() <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Release returns a slot that Reserve took and no event used.
func (s *Stream) Release() { <-s.slotsOf() }

// slotsOf returns slots. Many rooms never have a message, and none.
func (s *Stream) slotsOf() chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.slots == nil {
		s.slots = make(chan struct{}, maxReserved)
	}
	return s.slots
}

// FanOutTime returns the duration of the last fan-out of an event of kind [Every] or [Latest]: from
// its start until it was written to every connection without a backlog. If the fan-out in progress
// has taken longer already, FanOutTime returns that. Time spent on other rooms is left out, but a
// room that shares its goroutine with n-1 others counts its own time n times, as long as its events
// really waited that long.
func (s *Stream) FanOutTime() (longest time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sh := range s.shares {
		longest = max(longest, time.Duration(sh.fanOutTime.Load()))
	}
	return longest
}

// Attach adds the connection to the stream: it gets every event published from now on, until it
// ends. A connection is attached once, and detached after its end.
func (s *Stream) Attach(c *Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sh := s.shareLocked(c.sink.inbox())
	sh.attached++
	c.sink.attach(sh, s.published)
}

// Detach removes a connection that was attached and has ended.
func (s *Stream) Detach(c *Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sh := c.sink.detach()
	if sh.attached--; sh.attached == 0 {
		s.shares = slices.DeleteFunc(s.shares, func(other *share) bool { return other == sh })
	}
}

// shareLocked returns the share of the goroutine that the inbox belongs to.
func (s *Stream) shareLocked(inbox *inbox[task]) *share {
	for _, sh := range s.shares {
		if sh.inbox == inbox {
			return sh
		}
	}
	sh := &share{inbox: inbox}
	s.shares = append(s.shares, sh)
	return sh
}
