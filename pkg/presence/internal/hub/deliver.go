package hub

import (
	"context"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/internal/stream"
	"example.com/presence/pkg/presence/room"
)

// expect records a message that is about to be appended to the log. number identifies the stream
// slot that the message holds. The error is errClosed, or [ErrBanned] if the sender was banned
// after its request had been authorized.
func (c *counter) expect(number uint64, sender room.UserID) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.settled != nil {
		return errClosed
	}
	if sender != "" {
		if err := c.shared.bans.check(c.name, sender, c.shared.config.Clock.Now()); err != nil {
			return err
		}
	}
	if c.pending == nil {
		c.pending = map[uint64]struct{}{}
	}
	c.pending[number] = struct{}{}
	if c.exchange != nil {
		c.exchange.appending++
	}
	return nil
}

// appended reports that the log has answered, or that Send has given up. Until then, the room must
// not be dropped: it may have received the message already, but must still announce it. Other nodes
// must use the log too.
func (c *counter) appended() state {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, before := c.shared.config.Clock.Now(), c.changes
	if c.exchange.appending--; c.exchange.appending == 0 {
		c.checkSettledLocked()
	}
	c.offerLocked(now)
	return c.stateSinceLocked(before, now)
}

// abandon releases the slot of a message that was not appended, or whose append may have failed. If
// the log delivers the message anyway, the message needs no slot.
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

// accepted reports a message that the log has accepted at a position. If the room has published a
// later message instead, because the engine has lost the entry, accepted releases the slot and
// calls the hook: the entry is not published any more. Other nodes must use the log too.
func (c *counter) accepted(number uint64, p room.Position, record []byte) state {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, before := c.shared.config.Clock.Now(), c.changes
	if p.Epoch != c.position.Epoch || p.Seq > c.position.Seq || !c.takePendingLocked(number) {
		return state{}
	}
	c.stream.Release()
	if r, err := parseRecord(record); err == nil {
		c.sentLocked(r, p.String(), now)
	}
	c.offerLocked(now)
	return c.stateSinceLocked(before, now)
}

// sentLocked counts a message that this node has accepted, and calls OnMessage for it.
func (c *counter) sentLocked(r record, id string, at time.Time) {
	c.shared.totals.accepted.Add(1)
	if c.shared.hooks.message == nil {
		return
	}
	if m, err := r.message(c.name, id, at); err == nil {
		c.shared.hooks.messageSent(m)
	}
}

// takePendingLocked removes the message from pending. It reports whether the message held a slot.
// If so, the slot must be released, by the caller or by the stream.
func (c *counter) takePendingLocked(number uint64) bool {
	_, held := c.pending[number]
	delete(c.pending, number)
	if held && len(c.pending) == 0 {
		c.pending = nil
		c.checkSettledLocked()
	}
	return held
}

// releasePendingLocked releases the slots of all pending messages. They may never arrive; if they
// do, they need no slot.
func (c *counter) releasePendingLocked() {
	for number := range c.pending {
		if c.takePendingLocked(number) {
			c.stream.Release()
		}
	}
}

// checkSettledLocked closes settled after the last message in flight.
func (c *counter) checkSettledLocked() {
	if c.settled != nil && !c.sendsLocked() {
		close(c.settled)
	}
}

// deliverLocked publishes a message. Only this function assigns publish numbers to messages, so the
// shared stream is in log order.
func (c *counter) deliverLocked(e backplane.Entry, now time.Time) {
	if c.closed || e.Position <= c.position.Seq { // the entry was delivered before
		return
	}
	c.position.Seq = e.Position
	if c.log != nil {
		c.shared.rings.add(&c.log.ring, e)
		c.log.moveLocked()
	}
	r, err := parseRecord(e.Data)
	if err != nil {
		c.shared.config.Warn.Warn(context.Background(), "message log entry malformed", "room", string(c.name), "position", e.Position, "err", err)
		return
	}
	kind, own := stream.Every, string(r.node) == string(c.shared.node)
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
	if own {
		c.sentLocked(r, id, e.At)
	}
}

// open sets the room's position to the last message in the log. The subscription started earlier,
// so the room may already have a later position or a newer epoch. open reports whether the
// subscription may have lost messages since it started. If so, the caller must call interrupt.
func (c *counter) open(last room.Position) (lost bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.position.Epoch == last.Epoch:
		c.position.Seq = max(c.position.Seq, last.Seq)
	case c.losses == 0: // the log was recreated before the subscription started
		c.position = last
	}
	c.opened = true
	if c.log != nil {
		c.openLogLocked()
	}
	return c.losses > 0
}

// openBlind opens the room without its position, because the log cannot be asked. The caller must
// call interrupt next: the repair then asks for the position, and sends reset to all clients.
func (c *counter) openBlind() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.opened, c.log.blind = true, true
}

// settle makes the room reject new messages. It returns a channel that is closed when no message is
// in flight.
func (c *counter) settle() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.settled == nil {
		c.settled = make(chan struct{})
		c.checkSettledLocked()
	}
	return c.settled
}

// close publishes the pending changes, admits the joiners, and closes the room. Nothing is
// published afterwards.
func (c *counter) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closeLocked()
}

// closeUnused closes the room if it is unused, and reports whether it did. If expired is set, the
// room must also have been unused for Config.RoomAge.
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
		c.serveLocked(now)
	}
	c.closed = true
	c.releasePendingLocked()
	c.stopTimerLocked()
	if c.exchange != nil {
		c.shared.floor.raise(c.exchange.number)
		if c.room.OwnUsers() == 0 && c.settled == nil { // evicted, or not opened
			c.shared.evicted.add(c.name, c.exchange.ownPart, c.position)
		}
	}
	if c.log != nil {
		c.closeLogLocked()
	}
}
