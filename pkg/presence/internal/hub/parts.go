package hub

import (
	"maps"
	"slices"
	"time"

	"example.com/presence/pkg/presence/room"
)

// announce schedules the announcements of a message that the log has accepted: at once, and once
// more after announceTime. A peer that lacks the message reads the log.
func (c *counter) announce(p room.Position) {
	if c.exchange == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if x, now := c.exchange, c.shared.config.Clock.Now(); !c.closed {
		x.addAck(p, now)
		c.shared.outbox.add(c.name, later(now, x.sentAt.Add(batchTime)))
	}
}

// repeatSoon schedules a repeat of the totals, because a peer may have missed frames.
func (c *counter) repeatSoon(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if x := c.exchange; x != nil && !c.closed && (c.room.OwnUsers() > 0 || !x.changedAt.IsZero()) {
		c.shared.outbox.add(c.name, later(now, x.sentAt.Add(hurryTime)))
	}
}

// hasFrames reports whether the peers lack a change of this node's part, or an announcement.
func (c *counter) hasFrames() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.room.HasDelta() || !c.exchange.isAnnounced()
}

// endPublication reports that the publication of frames has taken from start to now. It returns
// when the next announcement is due; see ownPart.endPublication.
func (c *counter) endPublication(failed []partFrame, start, now time.Time) (due time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.exchange.endPublication(failed, start, now)
}

// frames returns the frames of this node's part that are due, and schedules the next. A room that
// is closed still reports the connections that close. pull reports whether the room must pull
// parts. See takeAcks for many.
func (c *counter) frames(now time.Time, many int) (frames []partFrame, pull bool, s state) {
	c.mu.Lock()
	defer c.mu.Unlock()
	x, before := c.exchange, c.changes
	if c.room.HasDelta() {
		x.changedAt, x.repeats = now, 0
		for c.room.HasDelta() {
			x.number++
			f := c.frameLocked()
			f.Changed, f.More = entriesOf(c.room.Delta(c.shared.config.entries, now), now), c.room.HasDelta()
			f.Whole = len(frames) == 0 && !f.More && len(presentOf(f.Changed)) == c.room.OwnUsers()
			frames = append(frames, f)
		}
	} else {
		f := c.frameLocked()
		f.Whole = c.room.OwnUsers() == 0
		frames = append(frames, f)
		for due, ok := c.nextRepeatLocked(); ok && !due.After(now); due, ok = c.nextRepeatLocked() {
			x.repeats++
		}
	}
	frames, again := x.announce(frames, c.position.Epoch, many, now)
	c.shared.outbox.add(c.name, again)
	if x.suspectAt.After(now) {
		c.shared.outbox.add(c.name, x.suspectAt)
	}
	x.sentAt = now
	if due, ok := c.nextRepeatLocked(); ok {
		c.shared.outbox.add(c.name, due)
	}
	if (len(frames[0].Changed) > 0 || x.isSettled()) && !c.closed {
		c.offerLocked(now)
	}
	return frames, c.checkSilentLocked(now), c.stateSinceLocked(before, now)
}

// suspectParts makes the copies of a node's part, or of all parts, stale after suspectTime if they
// have users, except those whose node sends a frame until then.
func (c *counter) suspectParts(from room.NodeID, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	x := c.exchange
	if x == nil || c.closed {
		return
	}
	found := false
	for node, p := range x.peers {
		if users, _ := c.room.Totals(node); users == 0 || from != allNodes && from != node {
			continue
		}
		found = true
		if latest := now.Add(suspectTime - silentTime); latest.Before(p.seen) {
			p.seen = latest
		}
	}
	if !found {
		return
	}
	x.suspectAt = now.Add(suspectTime + time.Millisecond)
	c.shared.outbox.add(c.name, x.suspectAt)
}

// checkSilentLocked makes the copy of a part stale whose node has not repeated it for a long time:
// the node may have dropped the room, and its last frames may be lost. It reports whether the room
// must pull parts.
func (c *counter) checkSilentLocked(now time.Time) (pull bool) {
	for node, p := range c.exchange.peers {
		if users, _ := c.room.Totals(node); users > 0 && now.Sub(p.seen) > silentTime {
			p.stale, p.seen, pull = true, now, true
		}
	}
	return pull && !c.closed && c.startPullLocked()
}

func (c *counter) nextRepeatLocked() (time.Time, bool) {
	return c.exchange.nextRepeat(c.name, c.shared.node, c.room.OwnUsers() == 0)
}

func (c *counter) frameLocked() partFrame {
	users, connections := c.room.Totals(c.shared.node)
	return partFrame{V: frameVersion, From: c.shared.node, Number: c.exchange.number, Users: users, Connections: connections,
		Position: c.position.String()}
}

// receiveFrame handles a frame of a live peer. It reports whether the room must pull parts.
func (c *counter) receiveFrame(f partFrame) (s state, pull bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, before := c.shared.config.Clock.Now(), c.changes
	if c.closed || c.exchange == nil || !c.shared.peers.isLive(f.From) { // its lease may just have ended
		return state{}, false
	}
	p := c.exchange.peer(f.From)
	p.seen = now
	if c.exchange.opening || p.held != nil {
		c.holdFrameLocked(p, heldFrame{f, now})
		return state{}, false
	}
	c.applyLocked(p, heldFrame{f, now}, now)
	c.completeLocked()
	c.flushLocked(now)
	return c.stateSinceLocked(before, now), p.stale && c.startPullLocked()
}

// holdFrameLocked keeps a frame until the pull has ended. A frame is bounded by the engine, and the
// number of frames by maxHeld.
func (c *counter) holdFrameLocked(p *peerPart, f heldFrame) {
	if len(p.held) >= maxHeld {
		p.held, p.lost = p.held[:0], true
	}
	p.held = append(p.held, f)
}

// applyLocked applies a frame to the copy of the peer's part:
//
//	number         with changes              without changes
//	the next       applied                   the copy is stale
//	the same       ignored, as a duplicate   the totals are compared
//	lower          ignored, as it is late    ignored; see below
//	any other      the copy is stale         the copy is stale
//
// A frame without changes and with a lower number makes the copy stale if no frame has fitted for
// lowerTime: the numbers of the peer may have gone back, and then no frame would ever fit. After a
// pull, other such frames are ignored for lowerTime again. So late frames cause one pull at most.
//
// If the copy would be stale, but the frame contains the whole part, the frame replaces the copy.
//
// The totals are also compared after the changes. A part that is not known needs a pull, unless it
// never had a user: its totals do not include the users in their grace period.
func (c *counter) applyLocked(p *peerPart, f heldFrame, now time.Time) {
	changed, err := presences(f.Changed, f.at)
	skips := !p.known || f.Number > p.number+1 || f.Number == p.number+1 && len(changed) == 0
	switch {
	case err != nil:
		p.stale = true
		return
	case skips && f.Whole:
		whole, _ := presences(presentOf(f.Changed), f.at)
		p.known, p.stale, p.number, p.mixed = true, false, f.Number, 0
		c.room.Replace(f.From, whole, now)
		delete(c.exchange.missing, f.From)
	case !p.known && f.Number == 0:
		p.known = true
	case skips:
		p.stale = true
		return
	case f.Number < p.number && len(changed) == 0 && f.at.Sub(p.fitted) > lowerTime:
		p.stale = true
		return
	case f.Number < p.number || f.Number == p.number && len(changed) > 0:
		return
	case f.Number == p.number+1:
		p.number = f.Number
		c.room.Apply(f.From, changed, now)
	}
	p.fitted = f.at
	if users, connections := c.room.Totals(f.From); !f.More && f.Number >= p.mixed && (users != f.Users || connections != f.Connections) {
		p.stale = true
	}
}

// startPullLocked reports whether the caller must start a pull.
func (c *counter) startPullLocked() bool {
	x := c.exchange
	if x.pulling || x.opening {
		return false
	}
	x.pulling = true
	c.shared.running.Add(1)
	return true
}

// toPull returns the live peers whose parts must be pulled. From now on their frames are held. If
// there is none, or if stop is set, the pull has ended.
func (c *counter) toPull(stop bool) (nodes []room.NodeID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	x := c.exchange
	for _, node := range slices.Sorted(maps.Keys(x.peers)) {
		if p := x.peers[node]; p.stale && !c.closed && !stop && c.shared.peers.isLive(node) {
			p.held, p.lost = []heldFrame{}, false
			nodes = append(nodes, node)
		}
	}
	x.pulling = len(nodes) > 0
	return nodes
}

// pulled handles the result of a pull. A part of a peer that has not answered stays stale.
func (c *counter) pulled(asked []room.NodeID, answers map[room.NodeID]*pulledPart) state {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, before := c.shared.config.Clock.Now(), c.changes
	for _, node := range asked {
		if p := c.exchange.peers[node]; p != nil {
			c.pulledLocked(node, p, answers[node], now)
		}
	}
	c.completeLocked()
	c.flushLocked(now)
	return c.stateSinceLocked(before, now)
}

// pulledLocked replaces the copy of a part by the answer of its node, and applies the held frames.
func (c *counter) pulledLocked(node room.NodeID, p *peerPart, a *pulledPart, now time.Time) {
	if a == nil {
		p.held, p.lost, p.stale = nil, false, true
		return
	}
	p.known, p.stale, p.number, p.mixed, p.seen, p.fitted = true, false, a.number, a.last, now, now
	c.room.Replace(node, a.presences(now), now)
	delete(c.exchange.missing, node)
	c.applyHeldLocked(p, now)
}

// applyHeldLocked applies the frames that were held.
func (c *counter) applyHeldLocked(p *peerPart, now time.Time) {
	held := p.held
	p.stale, p.held, p.lost = p.stale || p.lost, nil, false
	for _, f := range held {
		if !p.stale {
			c.applyLocked(p, f, now)
		}
	}
}

// completeLocked ends the time in which the room is partial, when no part is missing any more.
func (c *counter) completeLocked() {
	if x := c.exchange; x.missing != nil && len(x.missing) == 0 {
		x.missing = nil
		c.room.SetPartial(false)
	}
}

// partnersLocked returns the peers that have a part of the room with users, or may have one.
func (c *counter) partnersLocked() (nodes []room.NodeID) {
	for _, node := range slices.Sorted(maps.Keys(c.exchange.peers)) {
		if c.room.PartUsers(node) > 0 || c.exchange.peers[node].stale {
			nodes = append(nodes, node)
		}
	}
	return nodes
}

// openParts sets the parts of a room that has no client yet. missing lists the live peers that may
// have a part and have not answered. The room is partial until their parts arrive, or until their
// leases end. It reports whether the room must pull parts.
func (c *counter) openParts(answers map[room.NodeID]*pulledPart, missing []room.NodeID) (s state, pull bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	x, now, before := c.exchange, c.shared.config.Clock.Now(), c.changes
	if x.opening = false; c.closed {
		return state{}, false
	}
	for user, until := range c.shared.bans.of(c.name) {
		c.room.Ban(user, until, now)
	}
	for node := range answers {
		x.peer(node)
	}
	maps.DeleteFunc(x.peers, func(node room.NodeID, _ *peerPart) bool { return !c.shared.peers.isLive(node) })
	missing = slices.DeleteFunc(missing, func(node room.NodeID) bool { return !c.shared.peers.isLive(node) })
	for _, node := range missing {
		x.peer(node).stale = true
	}
	for _, node := range slices.Sorted(maps.Keys(x.peers)) {
		p := x.peers[node]
		if answers[node] != nil || p.stale {
			c.pulledLocked(node, p, answers[node], now)
		} else { // the node has opened the room meanwhile
			c.applyHeldLocked(p, now)
		}
		pull = pull || p.stale
	}
	if len(missing) > 0 {
		x.missing = map[room.NodeID]struct{}{}
		for _, node := range missing {
			x.missing[node] = struct{}{}
		}
		c.room.SetPartial(true)
	}
	c.room.Expire(now)
	for _, change := range c.room.News(now).Changes { // no client needs the events
		c.changedLocked(change)
	}
	c.published = c.countLocked()
	c.flushLocked(now) // sets the timer
	c.offerLocked(now)
	return c.stateSinceLocked(before, now), pull && c.startPullLocked()
}

// dropPeer ends the connections of a peer that has died or has shut down. Its users are in their
// grace period until the given time.
func (c *counter) dropPeer(node room.NodeID, until time.Time, why room.Reason) state {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, before := c.shared.config.Clock.Now(), c.changes
	if c.closed || c.exchange == nil {
		return state{}
	}
	delete(c.exchange.peers, node)
	delete(c.exchange.missing, node)
	c.room.Drop(node, until, why, now)
	c.completeLocked()
	c.flushLocked(now)
	return c.stateSinceLocked(before, now)
}

// piece returns a piece of this node's part, for a pull.
func (c *counter) piece(after room.UserID) partPiece {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.shared.config.Clock.Now()
	own, more := c.room.Own(after, c.shared.config.pieceEntries, now)
	first := firstOf(entriesOf(own, now), maxPieceSize)
	piece := partPiece{Number: c.exchange.number, Entries: first, More: more || len(first) < len(own)}
	if after == "" {
		piece.Peers = c.partnersLocked()
		if c.opened && (c.log == nil || !c.log.blind) {
			piece.Position = c.position.String()
		}
	}
	return piece
}
