package hub

import (
	"context"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/internal/stream"
	"example.com/presence/pkg/presence/room"
)

// expect notes a message that is about to be appended to the log. It holds a slot of the stream,
// under this number. The error is errClosed, or [ErrBanned]: the sender may have been removed since
// its request was authorized.
func (c *counter) expect(number uint64, sender room.UserID) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.settled != nil {
		return errClosed
	}
	if sender != "" && !c.shared.bans.end(c.name, sender, c.shared.config.Clock.Now()).IsZero() {
		return ErrBanned
	}
	if c.pending == nil {
		c.pending = map[uint64]struct{}{}
	}
	c.pending[number] = struct{}{}
	return nil
}

// abandon gives back the slot of a message that was not appended, or whose append is uncertain. If
// the log delivers the message nevertheless, it needs no slot.
func (c *counter) abandon(number uint64) state {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, before := c.shared.config.Clock.Now(), c.changes
	if c.takePendingLocked(number) {
		c.stream.Release()
	}
	c.offerLocked(now)
	return c.stateSinceLocked(before, now)
}

// takePendingLocked removes the message from pending. It reports whether the message held a slot,
// which the caller must give back.
func (c *counter) takePendingLocked(number uint64) bool {
	_, held := c.pending[number]
	delete(c.pending, number)
	if len(c.pending) == 0 {
		c.pending = nil
		if c.settled != nil && held {
			close(c.settled)
		}
	}
	return held
}

// receive handles a message of the log. The subscription calls it in the order of the log. During a
// repair, receive holds the message back.
func (c *counter) receive(e backplane.Entry) state {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, before := c.shared.config.Clock.Now(), c.changes
	if w := c.waits; w != nil && w.repairing {
		w.held = append(w.held, e)
	} else {
		c.deliverLocked(e, now)
	}
	return c.stateSinceLocked(before, now)
}

// deliverLocked publishes a message. Only here does a message get its publish number, so the shared
// stream has the order of the log.
func (c *counter) deliverLocked(e backplane.Entry, now time.Time) {
	if c.closed || e.Position <= c.position.Seq { // delivered twice
		return
	}
	c.position.Seq = e.Position
	r, err := parseRecord(e.Data)
	if err != nil {
		c.shared.config.Warn.Warn(context.Background(), "message of the log malformed", "err", err)
		return
	}
	kind, own := stream.Every, string(r.node) == c.shared.node
	if own && c.takePendingLocked(r.number) {
		kind = stream.Reserved
	}
	id := c.position.String()
	c.stream.Publish(messageEvent(id, r, e.At), kind)
	c.shared.totals.messages.Add(1)
	if w := c.waits; w != nil && (len(w.joiners) > 0 || len(w.readers) > 0) {
		w.recent = append(w.recent, e)
	}
	if !c.idle.IsZero() {
		c.setIdleLocked(now)
		c.flushLocked(now) // sets the timer
	}
	if own && c.shared.hooks.message != nil {
		if m, err := r.message(c.name, id, e.At); err == nil {
			c.shared.hooks.messageSent(m)
		}
	}
}

// open sets the position of the room to the last message of the log. The subscription is older, so
// it may already be at a later position or in a newer epoch. open reports whether the subscription
// may have lost messages meanwhile. If so, the caller must call interrupt.
func (c *counter) open(last room.Position) (lost bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.position.Epoch == last.Epoch:
		c.position.Seq = max(c.position.Seq, last.Seq)
	case c.losses == 0: // the log was recreated before the subscription, which did not notice it
		c.position = last
	}
	c.opened = true
	return c.losses > 0
}

// settle rejects new messages. It returns a channel that is closed when the log has delivered the
// pending ones.
func (c *counter) settle() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.settled == nil {
		c.settled = make(chan struct{})
		if len(c.pending) == 0 {
			close(c.settled)
		}
	}
	return c.settled
}

// close publishes the changes of this flush interval, admits its joiners, and closes the room.
// Nothing is published after it.
func (c *counter) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closeLocked()
}

// closeUnused closes the room if it is unused. With expired, it must have been unused for
// Config.RoomAge. closeUnused reports whether it closed the room.
func (c *counter) closeUnused(expired bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.shared.config.Clock.Now()
	if !c.unusedLocked() || expired && !c.expiredLocked(now) {
		c.flushLocked(now) // sets the timer again
		return false
	}
	c.closeLocked()
	return true
}

func (c *counter) closeLocked() {
	if c.closed {
		return
	}
	if now := c.shared.config.Clock.Now(); c.hasNewsLocked(now) {
		c.publishLocked(now, true)
	}
	c.closed = true
	c.stopTimerLocked()
}
