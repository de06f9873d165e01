package stream

import (
	"context"
	"slices"
	"sync"
	"time"
)

// maxReserved is the number of slots of one Stream, and so the limit of events of kind [Reserved]
// that are not delivered yet.
const maxReserved = 64

// Stream is one shared stream. An event that is published into it reaches all its connections. Its
// methods are safe for concurrent use.
type Stream struct {
	encoder *encoder

	mu        sync.Mutex    // guards slots, published, shares, and share.attached
	slots     chan struct{} // holds one item per slot in use; made by the first Reserve
	published uint64        // the publish number of the last event
	shares    []*share      // hold its connections
}

// Publish sends the event to all connections of the stream, in the order of the calls. It does not
// block, and keeps e.Data.
func (s *Stream) Publish(e Event, k Kind) {
	f := &frame{kind: k}
	if k == Reserved {
		slots := s.slotsOf()
		f.done = func() { <-slots } // takes no lock, because the caller holds some
	}
	s.publish(e, f)
}

func (s *Stream) publish(e Event, f *frame) {
	f.retain()
	s.mu.Lock()
	s.published++
	f.number = s.published
	s.encoder.add(publication{f, e, s}) // under the lock, to keep the order of the numbers
	s.mu.Unlock()
}

// fanOut queues the encoded frame for the shares. A share may hold connections that attached after
// the event; their attachment.after excludes it.
func (s *Stream) fanOut(f *frame) {
	s.mu.Lock()
	for _, sh := range s.shares {
		sh.add(f)
	}
	s.mu.Unlock()
	f.release()
}

// Reserve takes one of the stream's 64 slots for an event of kind [Reserved]. It blocks until a
// slot is free, or returns the error of ctx if ctx ends first. A slot is free again when its event
// is written to every connection without a backlog. So the speed of the fan-out limits publishers,
// and a slow consumer never does.
func (s *Stream) Reserve(ctx context.Context) error {
	select {
	case s.slotsOf() <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Release frees a slot that Reserve took and that no event used.
func (s *Stream) Release() { <-s.slotsOf() }

// slotsOf returns slots, and makes them on the first call. Many rooms never have a message, and so
// need no slots.
func (s *Stream) slotsOf() chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.slots == nil {
		s.slots = make(chan struct{}, maxReserved)
	}
	return s.slots
}

// FanOutTime returns the duration of the last fan-out of an event of kind [Every] or [Latest]. A
// fan-out lasts from its start until its events are written to every connection without a backlog.
// If the fan-out in progress has already taken longer, FanOutTime returns its duration so far.
//
// The time of other rooms' fan-outs is not included. A room that shares its goroutine with n-1
// rooms counts its own time n times, but at most the time for which its events really waited.
func (s *Stream) FanOutTime() (longest time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sh := range s.shares {
		longest = max(longest, time.Duration(sh.fanOutTime.Load()))
	}
	return longest
}

// Attach adds the connection to the stream. The connection receives every event that is published
// from now on, until it ends. Attach a connection once, and [Stream.Detach] it after its end.
func (s *Stream) Attach(c *Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sh := s.shareLocked(c.sink.inbox())
	sh.attached++
	c.sink.attach(sh, s.published)
}

// Detach removes an attached connection that has ended.
func (s *Stream) Detach(c *Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sh := c.sink.detach()
	if sh.attached--; sh.attached == 0 {
		s.shares = slices.DeleteFunc(s.shares, func(other *share) bool { return other == sh })
	}
}

// shareLocked returns the share of the goroutine that owns the inbox. It makes one if there is
// none.
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
