package stream

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// maxReserved is the number of slots of one Stream. It limits the events of kind [Reserved] that
// are not delivered yet.
const maxReserved = 64

// Stream is one shared stream. An event that is published to it is delivered to all its
// connections. Its methods are safe for concurrent use.
type Stream struct {
	encoder *encoder
	unsent  *unsent

	pending atomic.Int64 // size of the events that are on their way to the sockets

	mu        sync.Mutex    // guards the fields below, share.attached and share.behind
	slots     chan struct{} // holds one item per slot in use; made by the first Reserve
	published uint64        // the publish number of the last event
	size      uint64        // size of all events so far, starting from 1
	held      uint64        // size of the events in the backlogs of its connections
	account   *Account      // that held is charged to
	shares    []*share      // hold the connections of the stream
}

// Publish sends the event to all connections of the stream. The connections receive events in the
// order of the Publish calls. Publish does not block. The caller must not modify e.Data afterwards.
func (s *Stream) Publish(e Event, k Kind) {
	f := &frame{kind: k, since: e.Since, of: s, pending: e.size() + frameCost}
	s.pending.Add(int64(f.pending))
	s.unsent.total.Add(int64(f.pending))
	if k == Reserved {
		slots := s.slotsOf()
		f.done = func() { <-slots } // acquires no lock, because the caller of release may hold one
	}
	s.publish(e, f)
}

func (s *Stream) publish(e Event, f *frame) {
	f.retain()
	s.mu.Lock()
	s.published++
	f.number = s.published
	// The lock keeps the inbox of the encoder in the order of the numbers.
	s.encoder.add(publication{f, e, s})
	s.mu.Unlock()
}

// fanOut queues the encoded frame for the shares. A share may hold connections that attached after
// the event was published. Their attachment.after excludes the event.
func (s *Stream) fanOut(f *frame) {
	s.mu.Lock()
	s.countLocked(f)
	for _, sh := range s.shares {
		sh.add(f)
	}
	s.mu.Unlock()
	f.release()
}

// Reserve reserves one of the stream's 64 slots for an event of kind [Reserved]. It blocks until a
// slot is free, or returns the error of ctx if ctx ends first. The slot is released when the event
// is written to every connection without a backlog. Therefore, the speed of the fan-out limits
// publishers, but a slow consumer does not.
func (s *Stream) Reserve(ctx context.Context) error {
	select {
	case s.slotsOf() <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Release releases a slot that was reserved by Reserve and used by no event.
func (s *Stream) Release() { <-s.slotsOf() }

// slotsOf returns the channel of slots, and makes it on the first call. Many rooms never have a
// message, and so need no slots.
func (s *Stream) slotsOf() chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.slots == nil {
		s.slots = make(chan struct{}, maxReserved)
	}
	return s.slots
}

// FanOutTime returns the duration of the last fan-out of an event of kind [Every] or [Latest]. A
// fan-out ends when its events are written to every connection without a backlog. If the fan-out in
// progress has already taken longer than the last one, FanOutTime returns its duration so far.
//
// The time of other rooms' fan-outs is not included. Instead, a room that shares its goroutine with
// n-1 rooms counts its own time n times, but at most the time for which its events really waited.
func (s *Stream) FanOutTime() (longest time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sh := range s.shares {
		longest = max(longest, time.Duration(sh.fanOutTime.Load()))
	}
	return longest
}

// Attach adds the connection to the stream. The connection receives every event that is published
// after the call, until the connection ends. Attach a connection only once, and call
// [Stream.Detach] after it has ended.
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
		s.measureLocked()
	}
}

// shareLocked returns the share of the goroutine that owns the inbox. If there is no such share,
// shareLocked makes one.
func (s *Stream) shareLocked(inbox *inbox[task]) *share {
	for _, sh := range s.shares {
		if sh.inbox == inbox {
			return sh
		}
	}
	sh := &share{of: s, inbox: inbox}
	s.shares = append(s.shares, sh)
	return sh
}

// delivered implements publisher.
func (s *Stream) delivered(pending int) {
	s.pending.Add(-int64(pending))
	s.unsent.total.Add(-int64(pending))
}

// Charge charges the unsent events of the stream to the account. Before the first call, the account
// of the server has them.
func (s *Stream) Charge(a *Account) {
	s.mu.Lock()
	defer s.mu.Unlock()
	held := s.held
	s.holdLocked(0)
	s.account = a
	s.holdLocked(held)
}

// Overloaded reports whether events should not be published, because too many are unsent: those of
// all streams exceed Config.MaxUnsentTotal, those of the account exceed its equal part of that, and
// those of this stream its equal part of the account's, and Config.MinShare.
func (s *Stream) Overloaded() bool {
	s.mu.Lock()
	held, account := s.held, s.account
	s.mu.Unlock()
	if held == 0 { // the slots limit the events that are on their way
		return false
	}
	return s.unsent.exceeds(account, held+uint64(max(0, s.pending.Load())))
}

// countLocked assigns the end of a frame, and adds the frame to the size of the backlogs.
func (s *Stream) countLocked(f *frame) {
	s.size += uint64(f.cost())
	f.end = s.size
	if s.held > 0 {
		s.holdLocked(s.held + uint64(f.cost()))
	}
}

// update records the oldest frame of a share.
func (s *Stream) update(sh *share) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sh.behind = sh.oldest
	s.measureLocked()
}

// measureLocked computes the size of the backlogs from the oldest frames of the shares.
func (s *Stream) measureLocked() {
	held := uint64(0)
	for _, sh := range s.shares {
		if sh.behind > 0 {
			held = max(held, s.size-sh.behind)
		}
	}
	s.holdLocked(held)
}

func (s *Stream) holdLocked(held uint64) {
	s.unsent.add(s.account, s.held, held)
	s.held = held
}
