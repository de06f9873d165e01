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

	// Only for a log that other nodes use too:
	epoch    string
	compares bool          // the read begins before the room's position, and is compared with the ring
	suspect  uint64        // logCopy.suspect if compares is set; 0: the read is only a precaution
	ranged   bool          // logCopy.ranged if compares is set
	blind    bool          // only the position is needed
	found    room.Position // result of readGap if blind is set
	renewed  bool          // the subscription was interrupted since the last attempt
	last     uint64        // result of Bus.Last if the log has no entry of the gap; 0: not known
}

// gapLocked returns the gap that must be read after an interruption.
func (c *counter) gapLocked() *gap {
	g := &gap{after: c.position.Seq, losses: c.losses, recreated: c.waits.recreated, epoch: c.position.Epoch}
	c.waits.again, c.waits.recreated = false, false
	g.blind = c.log != nil && c.log.blind
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
		c.recreatedLocked(epoch)
	case !c.opened:
		c.losses++ // the room has no client yet, and open reports the loss
	}
	if !c.opened {
		return nil
	}
	w := c.waitsLocked()
	w.recreated = w.recreated || recreated
	if w.repairing {
		c.interruptedLocked(recreated)
		w.held, w.again = nil, true // the next gap includes the held messages
		return nil
	}
	return c.startRepairLocked()
}

func (c *counter) startRepairLocked() *gap {
	c.waitsLocked().repairing = true
	c.shared.running.Add(1)
	return c.gapLocked()
}

// recreatedLocked sends reset to all clients, because the log was recreated. If the room does not
// know its position yet, they are sent reset once it does; until then its events keep their epoch.
func (c *counter) recreatedLocked(epoch string) {
	if c.log != nil {
		c.log.restartLocked()
		if c.log.blind {
			return
		}
	}
	c.position = room.Position{Epoch: epoch}
	c.resetLocked()
}

// interruptedLocked makes the current repair start again.
func (c *counter) interruptedLocked(recreated bool) {
	if c.log == nil {
		return
	}
	c.log.overflow = false
	if held := c.waits.held; len(held) > 0 && !recreated {
		c.log.must = max(c.log.must, held[len(held)-1].Position)
	}
	c.log.wakeLocked()
}

// behind returns the gap between the room and its announced position, or the part of the log that
// must be compared with the ring. It returns nil if a repair is running: that repair ends with the
// same check.
func (c *counter) behind() *gap {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || !c.opened || c.waits != nil && c.waits.repairing || !c.lagsLocked() {
		return nil
	}
	g := c.startRepairLocked()
	if l := c.log; l.doubtful {
		g.compares, g.suspect, g.after = true, l.suspect, min(l.doubt, g.after)
		g.ranged, l.ranged = l.ranged, false
	}
	return g
}

// receive handles a log entry. The subscription calls it in log order. During a repair, receive
// keeps the entry until the gap is published. If an announced entry before this one is missing,
// receive returns the gap that must be read.
func (c *counter) receive(e backplane.Entry) (s state, g *gap) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, before := c.shared.config.Clock.Now(), c.changes
	repairing := c.waits != nil && c.waits.repairing
	if !repairing && !c.closed && c.opened && c.overtakesLocked(e) {
		g, repairing = c.startRepairLocked(), true
	}
	if repairing {
		c.holdLocked(e)
	} else {
		c.deliverLocked(e, now)
	}
	return c.stateSinceLocked(before, now), g
}

// holdLocked keeps an entry until the gap is published. If other nodes use the log, a repair may
// take long, so the number of entries is limited.
func (c *counter) holdLocked(e backplane.Entry) {
	w := c.waits
	w.held = append(w.held, e)
	if c.log != nil && len(w.held) > c.shared.config.RingMessages {
		c.log.overflow = true
		c.log.wakeLocked()
	}
}

// resetLocked sends reset to all clients and joiners, because they have lost messages. The next
// messages follow the current position.
func (c *counter) resetLocked() {
	reset := resetEvent(c.position.String())
	c.stream.Publish(reset, stream.Every)
	c.losses++
	c.releasePendingLocked()
	if c.log != nil {
		c.shared.rings.restart(&c.log.ring, c.position.Seq)
		c.log.moveLocked()
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
	case c.closed:
	case g.blind:
		c.locateLocked(g, complete)
	case !complete:
		c.skipLocked(g, entries)
		if !g.recreated || c.log != nil { // with other nodes, the first reset may be 6 s old
			c.resetLocked()
		}
	case c.log != nil && c.lacksLocked(entries):
		c.resetLocked()
	}
	for _, e := range entries {
		c.deliverLocked(e, now)
	}
	c.readLocked(g, entries, complete)
	w := c.waits
	if w.again && !c.closed {
		return c.stateSinceLocked(before, now), c.gapLocked()
	}
	for i, e := range w.held {
		if !c.closed && c.overtakesLocked(e) {
			w.held = w.held[i:]
			return c.stateSinceLocked(before, now), c.gapLocked()
		}
		c.deliverLocked(e, now)
	}
	w.repairing, w.held = false, nil
	c.endRepairLocked()
	c.endWaitsLocked()
	c.offerLocked(now)
	c.shared.running.Done()
	return c.stateSinceLocked(before, now), nil
}

// lacksLocked reports whether the room lacks an entry that the log has before the room's position.
// The room cannot publish that entry any more, because it has published later ones.
func (c *counter) lacksLocked(entries []backplane.Entry) bool {
	for _, e := range entries {
		if e.Position > c.position.Seq {
			return false
		}
		if _, missing := c.shared.rings.before(&c.log.ring, e.Position); missing {
			return true
		}
	}
	return false
}

// skipLocked moves the room behind the messages that the log does not have any more, so that no
// client takes them for messages that it has. If the log has no entry of the gap, it moves the room
// to the announced position. Otherwise, the room would stay behind, and would read the log again.
// It skips neither the messages that were held back, nor positions that the log has not reached:
// the room would drop every later entry up to such a position.
func (c *counter) skipLocked(g gap, entries []backplane.Entry) {
	if len(entries) > 0 {
		c.position.Seq = max(c.position.Seq, entries[0].Position-1)
		return
	}
	if c.log == nil {
		return
	}
	end := g.last
	if held := c.waits.held; len(held) > 0 {
		end = held[0].Position - 1
	}
	c.position.Seq = max(c.position.Seq, min(end, c.log.announced))
}

// readLocked records that a gap was read and its entries published. If entries are missing, the
// ring is complete only from now on.
func (c *counter) readLocked(g gap, entries []backplane.Entry, complete bool) {
	l := c.log
	if l == nil || c.closed || g.epoch != c.position.Epoch {
		return
	}
	if !complete {
		c.shared.rings.restart(&l.ring, c.position.Seq)
	}
	end := g.after
	if len(entries) > 0 {
		end = entries[len(entries)-1].Position
	}
	if complete && g.losses == c.losses {
		l.comparedLocked(g.after, end)
	}
	if g.compares && g.suspect > end {
		l.unread.add(g.suspect, c.position.Seq)
	}
	if g.ranged {
		l.ranges.add(0, c.position.Seq)
	}
	if g.compares && g.suspect == l.suspect && !l.ranged { // nothing else was announced meanwhile
		l.suspect, l.doubtful = 0, false
	}
}

// locateLocked sets the position of a room that was opened without it. All clients are sent reset,
// because messages may have passed before. If the position is still not known, but messages arrive,
// the room begins with them.
func (c *counter) locateLocked(g gap, found bool) {
	held, p := c.waits.held, g.found
	if c.waits.again || !found && len(held) == 0 {
		return // the next gap is blind, too
	}
	if !found {
		p = room.Position{Epoch: c.shared.epoch()}
	}
	if len(held) > 0 {
		p.Seq = max(p.Seq, held[0].Position-1)
	}
	if p.Epoch == c.position.Epoch { // a message may have arrived while the room was opened
		p.Seq = max(p.Seq, c.position.Seq)
	}
	c.position, c.log.blind = p, false
	c.resetLocked()
	c.openLogLocked()
}

// endRepairLocked prepares the next repair. If the room is still behind, the read was not recent
// enough, and the timer starts another one.
func (c *counter) endRepairLocked() {
	l := c.log
	if l == nil {
		return
	}
	l.overflow, l.must, l.wake = false, 0, nil
	if l.announced <= c.position.Seq {
		l.reads = 0
	} else {
		l.absent.add(l.announced, c.position.Seq)
		if l.reads++; l.reads >= maxReads {
			l.announced, l.awaited, l.reads = 0, nil, 0
		}
	}
	c.watchPositionLocked()
}
