package hub

import (
	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/internal/stream"
	"example.com/presence/pkg/presence/room"
)

// gap is a part of the log that the subscription may have lost. It must be read from the log.
type gap struct {
	after  uint64 // position of the last message before the gap
	losses uint32 // counter.losses when the gap was found
	anew   bool   // the log was recreated: the clients got reset, and need no other
}

// gapLocked returns the gap to read after an interruption.
func (c *counter) gapLocked() *gap {
	g := &gap{c.position.Seq, c.losses, c.waits.anew}
	c.waits.again, c.waits.anew = false, false
	return g
}

// interrupt notes that the subscription may have lost messages. If the epoch is another one, every
// client gets reset. The next steps are:
//
//  1. interrupt returns the gap. From now on the room holds back messages of the subscription.
//  2. The caller reads the gap from the log.
//  3. The caller calls repair, which publishes the messages of the gap and those held back.
//
// If a gap is being read already, interrupt returns nil, and repair returns the next gap.
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
		c.losses++ // the room has no client yet; open reports the loss
	}
	if !c.opened {
		return nil
	}
	w := c.waitsLocked()
	w.anew = w.anew || anew
	if w.repairing {
		w.held, w.again = nil, true // the next gap includes the held messages
		return nil
	}
	w.repairing = true
	c.shared.running.Add(1)
	return c.gapLocked()
}

// resetLocked sends reset to all clients and joiners: messages are lost to them, and the next ones
// follow the current position.
func (c *counter) resetLocked() {
	reset := resetEvent(c.position.String())
	c.stream.Publish(reset, stream.Every)
	c.losses++
	for number := range c.pending { // their messages may never arrive; if they do, they need no slot
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

// repair publishes the messages of a gap, and then the messages that were held back.
//
//   - If the log lacks messages of the gap, every client gets reset first.
//   - If the log was recreated since, the entries belong to the old log and are dropped.
//   - If there was another interruption, repair returns the next gap to read. The messages held
//     back wait for it.
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
