package hub

import (
	"context"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/room"
)

// maxReads is the number of reads in a row after which a room stops to read for an announced
// position, because the log does not have it. If the position is announced again, the room reads
// once more as often. Then it ignores the position, until an entry arrives.
const maxReads = 8

// An engine may start a subscription late, or answer as of an earlier moment. Therefore, a room
// compares itself with the log after these times since its opening.
const (
	firstCheck  = 250 * time.Millisecond
	secondCheck = 2 * time.Second
)

// openLogLocked starts the ring at the position of the room, and sets the timer of the checks.
func (c *counter) openLogLocked() {
	l, start := c.log, c.position
	c.shared.rings.restart(&l.ring, start.Seq)
	l.opening = c.shared.config.Clock.AfterFunc(firstCheck, func() {
		c.checkOpening(start)
		c.mu.Lock()
		defer c.mu.Unlock()
		if !c.closed {
			l.opening = c.shared.config.Clock.AfterFunc(secondCheck-firstCheck, func() { c.checkOpening(start) })
		}
	})
}

// checkOpening compares the ring with the log above the position at which the room was opened. A
// room without clients empties its ring instead, which needs no read.
func (c *counter) checkOpening(start room.Position) {
	c.mu.Lock()
	l := c.log
	used := c.streams > 0 || c.waits != nil
	switch {
	case c.closed || l.blind || c.position.Epoch != start.Epoch || c.shared.rings.start(&l.ring) > start.Seq:
		used = false
	case !used:
		c.shared.rings.restart(&l.ring, c.position.Seq)
	default:
		l.doubtLocked(start.Seq)
	}
	c.mu.Unlock()
	if used {
		l.catchUp()
	}
}

// closeLogLocked stops the timers, and wakes the clients and the repair that wait.
func (c *counter) closeLogLocked() {
	l := c.log
	c.shared.rings.restart(&l.ring, c.position.Seq)
	for _, t := range []Timer{l.timer, l.opening} {
		if t != nil {
			t.Stop()
		}
	}
	l.moveLocked()
	l.wakeLocked()
}

// announced reports a position of the room's log that another node knows. The room needs a repair
//
//   - if it is behind that position: the latest entries were lost, or are on their way, or
//   - if it is beyond that position, but its ring lacks it: an entry was lost before later ones.
//
// The repair starts after announceDelay, unless the entry arrives first. It starts at once if a
// later entry arrives first.
func (c *counter) announced(p room.Position) {
	if c.log == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.log
	if c.closed || !c.opened || l.blind || p.Epoch != c.position.Epoch {
		return
	}
	if p.Seq > c.position.Seq {
		if !l.absent.excludes(p.Seq, c.position.Seq, 2*maxReads) {
			l.awaitLocked(p.Seq, c.position.Seq)
		}
	} else if before, missing := c.shared.rings.before(&l.ring, p.Seq); missing && !l.isCompared(p.Seq) &&
		!l.unread.excludes(p.Seq, c.position.Seq, maxReads) {
		l.doubtLocked(before)
		l.suspect = p.Seq
	}
	c.watchPositionLocked()
}

// announcedFrom reports that the log has messages from this position on that are not announced one
// by one. The next repair compares the ring with the log from there on. After maxReads comparisons
// at the same position of the room, announcedFrom does nothing, until an entry arrives.
func (c *counter) announcedFrom(p room.Position) {
	if c.log == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.log
	if c.closed || !c.opened || l.blind || p.Epoch != c.position.Epoch {
		return
	}
	if l.ranges.excludes(0, c.position.Seq, maxReads) {
		return
	}
	l.doubtLocked(l.uncompared(c.shared.rings.below(&l.ring, p.Seq)))
	l.suspect, l.ranged = p.Seq, true
	c.watchPositionLocked()
}

// belowStart returns the highest position of the peers if the room has another one, and the start
// of its ring. The engine may not know the last position of a room whose entries have all expired.
// The peers do: a client that moves here has a position of theirs.
func (c *counter) belowStart(answers map[room.NodeID]*pulledPart) (after, start uint64, ok bool) {
	if c.log == nil {
		return 0, 0, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range answers {
		if a.position.Epoch == c.position.Epoch {
			after, ok = max(after, a.position.Seq), true
		}
	}
	start = c.shared.rings.start(&c.log.ring)
	return after, start, ok && c.opened && !c.closed && !c.log.blind && after < start
}

// startAt records that the log has no entry between a position of the peers and the start of the
// ring.
func (c *counter) startAt(after, start uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.shared.rings.lower(&c.log.ring, after, start)
	}
}

// watchPositionLocked sets the timer if the room needs a repair. The delay doubles with each read
// that has not reached the announced position, up to 2 s.
func (c *counter) watchPositionLocked() {
	l := c.log
	if l.timer == nil && !c.closed && c.lagsLocked() {
		l.timer = c.shared.config.Clock.AfterFunc(min(announceDelay<<l.reads, maxPause), c.checkPosition)
	}
}

// overtakesLocked reports whether an entry was delivered before an announced one that is earlier in
// the log. The announced entry was lost.
func (c *counter) overtakesLocked(e backplane.Entry) bool {
	if c.log == nil {
		return false
	}
	c.log.forgetLocked(c.position.Seq)
	return len(c.log.awaited) > 0 && e.Position > c.log.awaited[0]
}

func (c *counter) lagsLocked() bool {
	return c.log.announced > c.position.Seq || c.log.doubtful
}

// checkPosition is called by the timer. The entries may have arrived since it was set.
func (c *counter) checkPosition() {
	c.mu.Lock()
	c.log.timer = nil
	lags := !c.closed && c.lagsLocked()
	c.mu.Unlock()
	if lags {
		c.log.catchUp()
	}
}

// reach waits until the room has the position, which a resuming client has from another node. It
// returns false if the log does not have the position, or if the room cannot read it in time. A log
// that is read from a copy may be behind the node that sent the position. Therefore reach calls
// Bus.Last twice, after the client came, before it decides that the log does not have the position.
// A call that fails is repeated, unless the node has no contact.
func (c *counter) reach(ctx context.Context, p room.Position, losses uint32) bool {
	c.mu.Lock()
	first := c.log.questions
	c.mu.Unlock()
	var asked *sharedLast
	var answered <-chan struct{}
	for known, denied, started := false, false, false; ; {
		c.mu.Lock()
		here := c.position.Seq >= p.Seq
		known = known || max(c.log.announced, c.log.last) >= p.Seq
		lost := c.closed || c.losses != losses || denied && !known && !here
		if !lost && !here && !known && answered == nil {
			asked = c.shareLastLocked()
			answered = asked.done
		}
		moved := c.log.movedLocked()
		c.mu.Unlock()
		switch {
		case lost:
			return false
		case here:
			return true
		case known && !started:
			c.announced(p)
			c.log.catchUp()
			started = true
		}
		select {
		case <-moved:
		case <-answered:
			answered, denied = nil, asked.off || !asked.failed && asked.number >= first+2
		case <-ctx.Done():
			return false
		}
	}
}
