package hub

import (
	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/internal/stream"
	"example.com/presence/pkg/presence/room"
)

// gap is a part of the log that the subscription may have missed.
type gap struct {
	after     uint64 // position of the last message before the gap
	losses    uint32 // counter.losses when the gap was found
	recreated bool   // the log was recreated, so the clients were already sent reset
}

// gapLocked returns the gap that must be read after an interruption.
func (c *counter) gapLocked() *gap {
	g := &gap{c.position.Seq, c.losses, c.waits.recreated}
	c.waits.again, c.waits.recreated = false, false
	return g
}

// interrupt records that the subscription may have lost messages. If the epoch has changed, every
// client is sent reset. The next steps are:
//
//  1. interrupt returns the gap. From now on, receive holds back new messages.
//  2. The caller reads the gap from the log.
//  3. The caller calls repair, which publishes the messages of the gap, and then the held messages.
//
// If another gap is already being read, interrupt returns nil, and the pending call of repair
// returns the next gap.
func (c *counter) interrupt(epoch string) *gap {
	c.mu.Lock()
	defer c.mu.Unlock()
	recreated := c.position.Epoch != epoch
	switch {
	case c.closed:
		return nil
	case recreated:
		c.position = room.Position{Epoch: epoch}
		c.resetLocked()
	case !c.opened:
		c.losses++ // the room has no client yet, and open reports the loss
	}
	if !c.opened {
		return nil
	}
	w := c.waitsLocked()
	w.recreated = w.recreated || recreated
	if w.repairing {
		w.held, w.again = nil, true // the next gap includes the held messages
		return nil
	}
	w.repairing = true
	c.shared.running.Add(1)
	return c.gapLocked()
}

// resetLocked sends reset to all clients and joiners, because they have lost messages. The next
// messages follow the current position.
func (c *counter) resetLocked() {
	reset := resetEvent(c.position.String())
	c.stream.Publish(reset, stream.Every)
	c.losses++
	for number := range c.pending { // the message may never arrive; if it does, it needs no slot
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

// repair publishes the messages of a gap, and then the messages held back since.
//
//   - If the log does not have all messages of the gap, every client is sent reset first.
//   - If the log was recreated after the gap was found, the entries belong to the old log and are
//     dropped.
//   - If the subscription was interrupted again, repair returns the next gap. The held messages are
//     published after that gap.
func (c *counter) repair(g gap, entries []backplane.Entry, complete bool) (state, *gap) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, before := c.shared.config.Clock.Now(), c.changes
	switch {
	case g.losses != c.losses:
		entries = nil
	case !complete && !g.recreated && !c.closed:
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
