package hub

import (
	"context"
	"errors"
	"time"

	"example.com/presence/pkg/presence/backplane"
)

// readTime is the maximum time that a joiner waits for the log. After that, it is sent reset.
const readTime = 2 * time.Second

// lastTime is the timeout of one call of Bus.Last for joiners. A call that is lost is repeated
// within readTime.
const lastTime = 800 * time.Millisecond

// after returns the entries above a position. ok is false if entries may be missing.
func (s *sharedRead) after(position uint64) (entries []backplane.Entry, ok bool) {
	if !s.ok || position < s.from {
		return nil, false
	}
	for i, e := range s.entries {
		if e.Position > position {
			return s.entries[i:len(s.entries):len(s.entries)], true
		}
	}
	return nil, true
}

// shareReadLocked returns a read that starts at the position or before it. The caller waits for
// done. The room must not be closed.
func (c *counter) shareReadLocked(position uint64) *sharedRead {
	l := c.log
	if l.reading == nil {
		l.reading = &sharedRead{from: position, done: make(chan struct{})}
		c.shared.running.Add(1)
		go c.readForClients(l.reading) // ends after readTime at the latest
		return l.reading
	}
	if l.reading.from <= position && !l.reading.stored {
		return l.reading
	}
	if l.next == nil {
		l.next = &sharedRead{from: position, done: make(chan struct{})}
	}
	l.next.from = min(l.next.from, position)
	return l.next
}

// shareLastLocked returns a call of Bus.Last that has not returned yet. The caller waits for done.
// The room must not be closed.
func (c *counter) shareLastLocked() *sharedLast {
	l := c.log
	if l.asking == nil {
		l.asking = &sharedLast{done: make(chan struct{})}
		c.shared.running.Add(1)
		go c.askForClients(l.asking, c.position.Epoch) // ends after readTime at the latest
	}
	return l.asking
}

// askForClients asks for the last position of the log, and stores the answer.
func (c *counter) askForClients(s *sharedLast, epoch string) {
	defer c.shared.running.Done()
	ctx, cancel := context.WithTimeout(context.Background(), readTime)
	defer cancel()
	clock, bus := c.shared.config.Clock, c.shared.config.Bus
	c.mu.Lock()
	l := c.log
	since := clock.Now().Sub(l.asked)
	c.mu.Unlock()
	if since >= 0 && since < announceDelay {
		pause(ctx, clock, announceDelay-since)
	}
	c.mu.Lock()
	l.questions++
	l.asked, s.number = clock.Now(), l.questions
	c.mu.Unlock()
	last, err := uint64(0), backplane.ErrUnavailable
	connected := bus.Status().Connected
	if connected {
		once, cancel := context.WithTimeout(ctx, lastTime)
		last, err = bus.Last(once, c.name)
		cancel()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s.off = !connected || c.position.Epoch != epoch || c.shared.epoch() != epoch
	if s.failed = err != nil; !s.failed && !s.off {
		l.last = max(l.last, last)
	}
	l.asking = nil
	close(s.done)
}

// readForClients reads the log, and then again for the clients that came meanwhile, until no client
// waits.
func (c *counter) readForClients(s *sharedRead) {
	defer c.shared.running.Done()
	for s != nil {
		s = c.readShared(s)
	}
}

// readShared makes one read, and returns the next one, or nil. A read that is older than the ring
// is repeated, because entries between the two may be missing.
func (c *counter) readShared(s *sharedRead) (next *sharedRead) {
	ctx, cancel := context.WithTimeout(context.Background(), readTime)
	defer cancel()
	bus := c.shared.config.Bus
	for {
		c.mu.Lock()
		from, epoch := s.from, c.position.Epoch
		c.mu.Unlock()
		var entries []backplane.Entry
		var complete bool
		err := backplane.ErrUnavailable
		if bus.Status().Connected {
			entries, complete, err = bus.Read(ctx, c.name, from)
		}
		if err == nil && c.storeRead(s, epoch, entries, complete) {
			break
		}
		if errors.Is(err, backplane.ErrClosed) || !bus.Status().Connected || !pause(ctx, c.shared.config.Clock, announceDelay) {
			c.shared.config.Warn.Warn(ctx, "message log read failed: sending reset events", "room", string(c.name), "err", err)
			break
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	close(s.done)
	c.log.reading, c.log.next = c.log.next, nil
	return c.log.reading
}

// storeRead adds the result of a read to the ring. It returns false if the read must be repeated:
// the result is older than the ring, or may belong to another epoch.
func (c *counter) storeRead(s *sharedRead, epoch string, entries []backplane.Entry, complete bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.position.Epoch != epoch || c.shared.epoch() != epoch {
		return false
	}
	s.stored = true
	after := s.from
	if !complete {
		if len(entries) == 0 {
			return true // s.ok stays false: the log has lost the entries
		}
		// The log has lost older entries, but none after its first one.
		after, entries = entries[0].Position, entries[1:]
	}
	n := len(entries)
	for n > 0 && entries[n-1].Position > c.position.Seq { // it will be delivered
		n--
	}
	all, ok := c.shared.rings.extend(&c.log.ring, after, entries[:n])
	if ok {
		s.from, s.entries, s.ok = after, all, true
	}
	s.stored = ok
	return ok
}
