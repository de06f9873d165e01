package stream

import (
	"context"
	"slices"
	"sync"
	"time"
)

// slots is how many reserved events of one Stream may be on their way.
const slots = 64

// Stream is one shared stream: what is published into it reaches all its
// connections. Its methods are safe for concurrent use.
type Stream struct {
	lane *lane

	mu        sync.Mutex    // guards what follows
	slots     chan struct{} // see reserved; many rooms never have a message
	published uint64        // the number of the last event
	shares    []*share      // its connections
}

// Kind says how an event is treated that waits for a connection.
type Kind int

const (
	// Every event of this kind is delivered.
	Every Kind = iota
	// Latest is delivered unless a later event of this kind waits too.
	Latest
	// Free is delivered, and does not count as unsent.
	Free
	// Reserved is delivered, and gives back a slot that Reserve took.
	Reserved
)

// Publish tells all connections of the event. It does not wait, and keeps
// e.Data. Events are numbered in the order of the calls.
func (s *Stream) Publish(e Event, k Kind) {
	f := &frame{event: e, kind: k}
	if k == Reserved {
		taken := s.reserved()
		f.taken = func() { <-taken } // takes no lock: some are held
	}
	s.publish(f)
}

func (s *Stream) publish(f *frame) {
	f.stream = s
	f.hold()
	s.mu.Lock()
	s.published++
	f.number = s.published
	s.lane.add(f) // under the lock: the lane has the order of the numbers
	s.mu.Unlock()
}

// hand has the frame delivered to the connections that were attached before it was published.
// Called by the encoder's goroutine alone.
func (s *Stream) hand(f *frame) {
	s.mu.Lock()
	for _, sh := range s.shares {
		sh.take(f)
	}
	s.mu.Unlock()
	f.release()
}

// Reserve takes one of the slots of this stream for an event of kind
// [Reserved]; it waits until one is free, or ctx ends. A slot comes back when
// every connection that was waiting for events has taken the event, so that
// those who publish go no faster than the connections are served.
func (s *Stream) Reserve(ctx context.Context) error {
	select {
	case s.reserved() <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Release returns a slot that Reserve took and no event used.
func (s *Stream) Release() { <-s.reserved() }

// reserved are the slots that are taken.
func (s *Stream) reserved() chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.slots == nil {
		s.slots = make(chan struct{}, slots)
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
		longest = max(longest, time.Duration(sh.took.Load()))
	}
	return longest
}

// shareLocked returns the share of the stream's connections that the goroutine of the inbox
// serves.
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

// leaveLocked removes the share if it has no connection left.
func (s *Stream) leaveLocked(sh *share) {
	if sh.attached--; sh.attached == 0 {
		s.shares = slices.DeleteFunc(s.shares, func(other *share) bool { return other == sh })
	}
}

// Attach makes the connection one of this stream's: it gets every event
// published from now on, until it ends. A connection is attached once, and
// detached after its end.
func (s *Stream) Attach(c *Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.sink.attach(s)
}

// Detach forgets a connection that was attached and has ended.
func (s *Stream) Detach(c *Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.sink.detach(s)
}
