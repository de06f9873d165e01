package hub

import (
	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/internal/stream"
	"example.com/presence/pkg/presence/room"
)

// gap is the part of the log that must be read, as the subscription may have lost it.
type gap struct {
	after  uint64 // the position of the last message before it
	losses uint32 // counter.losses then
	anew   bool   // the log was made anew: the clients have got reset, and need no other
}

// gapLocked returns what must be read after an interruption.
func (c *counter) gapLocked() *gap {
	g := &gap{c.position.Seq, c.losses, c.waits.anew}
	c.waits.again, c.waits.anew = false, false
	return g
}

// interrupt notes that messages may have been lost. With another epoch every client gets reset. The
// caller must read the gap that interrupt returns and call repair: messages that come meanwhile are
// held. It returns nil while a gap is being read: then repair returns the next one.
func (c *counter) interrupt(epoch string) *gap {
	c.mu.Lock()
	defer c.mu.Unlock()
	anew := c.position.Epoch != epoch
	switch {
	case c.closed:
		return nil
	case anew:
		c.position = room.Position{Epoch: epoch}
		c.resetLocked()
	case !c.opened:
		c.losses++ // no client is here, and open has the gap read from the position
	}
	if !c.opened {
		return nil
	}
	w := c.waitsLocked()
	w.anew = w.anew || anew
	if w.repairing {
		w.held, w.again = nil, true // the log has them, too
		return nil
	}
	w.repairing = true
	c.shared.running.Add(1)
	return c.gapLocked()
}

// resetLocked tells all clients that messages are lost to them, and from where they follow.
func (c *counter) resetLocked() {
	reset := resetEvent(c.position.String())
	c.stream.Publish(reset, stream.Every)
	c.losses++
	for number := range c.pending { // their messages may never come; if they do they need no slot
		if c.takePendingLocked(number) {
			c.stream.Release()
		}
	}
	w := c.waits
	if w == nil {
		return
	}
	w.recent, w.dropped = nil, w.next()
	for i := range w.joiners {
		j := &w.joiners[i]
		j.position, j.missed = c.position.String(), w.dropped
		j.client.Send(reset.Append(nil))
	}
}

// repair publishes the messages that the log has of a gap, and those that were held. If the log
// does not have all of them, every client gets reset first. If the log was made anew since, the
// entries are of the old one, and dropped. After another interruption repair returns the next gap
// to read.
func (c *counter) repair(g gap, entries []backplane.Entry, complete bool) (state, *gap) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, before := c.shared.config.Clock.Now(), c.changes
	switch {
	case g.losses != c.losses:
		entries = nil
	case !complete && !g.anew && !c.closed:
		c.resetLocked()
	}
	for _, e := range entries {
		c.deliverLocked(e, now)
	}
	w := c.waits
	if w.again && !c.closed {
		return c.stateSinceLocked(before, now), c.gapLocked()
	}
	for _, e := range w.held {
		c.deliverLocked(e, now)
	}
	w.repairing, w.held = false, nil
	c.endWaitsLocked()
	c.offerLocked(now)
	c.shared.running.Done()
	return c.stateSinceLocked(before, now), nil
}
