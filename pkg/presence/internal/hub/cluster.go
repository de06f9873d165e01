package hub

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/room"
)

// send publishes the frames that are due for a room. The outbox calls it.
func (h *Hub) send(topic room.Name) {
	now := h.config.Clock.Now()
	l := h.rooms.find(topic)
	if l == nil {
		h.sendEvicted(topic, now)
		return
	}
	frames, pull, s := l.frames(now, maxWaiting(h.config.RingMessages))
	h.note(l, s)
	h.publishFrames(topic, frames, now)
	for _, f := range frames {
		h.compareAcked(l, f)
	}
	if pull {
		h.pull(l)
	}
}

// sendEvicted publishes the frames that are due for a room that was evicted.
func (h *Hub) sendEvicted(name room.Name, now time.Time) {
	frames, next := h.evicted.frames(name, h.node, maxWaiting(h.config.RingMessages), now)
	h.outbox.add(name, next)
	h.publishFrames(name, frames, now)
}

// publishFrames publishes frames that were made at the time start. After a failure it publishes no
// other frame: the numbers of later ones show the loss, and the announcements are made again.
// Meanwhile the room may have been evicted, or opened again.
func (h *Hub) publishFrames(name room.Name, frames []partFrame, start time.Time) {
	for len(frames) > 0 && h.publish(context.Background(), name, encodeFrame(frames[0])) {
		frames = frames[1:]
	}
	var due time.Time
	if now, l := h.config.Clock.Now(), h.rooms.find(name); l != nil {
		due = l.endPublication(frames, start, now)
	} else {
		due = h.evicted.endPublication(name, frames, start, now)
	}
	h.outbox.add(name, due)
}

// beat publishes the heartbeat that is due.
func (h *Hub) beat(topic room.Name) {
	h.peers.announce(h.config.Label, h.config.settings())
	if b, ok := h.peers.beat(h.config.Clock.Now()); ok {
		h.publish(context.Background(), topic, encodeFrame(b))
	}
	h.beats.add(topic, h.peers.beatDue())
}

// checkPeers ends the leases of dead peers, and checks this node's own contact with the backplane.
// It publishes nothing, so the engine does not delay it.
func (h *Hub) checkPeers(topic room.Name) {
	now := h.config.Clock.Now()
	if late := h.peers.checked(now); late > 0 {
		h.config.Warn.Warn(context.Background(), "peers checked late: this process was stopped", "for", late)
		h.peers.refresh(now)
	}
	ended, _ := h.peers.end(now)
	h.reportContact()
	for _, l := range ended {
		h.logPeer(slog.LevelWarn, "peer node dead: no frame received for 5s", l.node, h.peers.labelOf(l.node), now)
	}
	h.dropPeers(ended, h.config.Linger, room.Node)
	h.checks.add(topic, h.peers.checkDue(h.config.Clock.Now()))
}

// reportContact logs a change of the contact with the backplane.
func (h *Hub) reportContact() {
	connected := h.config.Bus.Status().Connected
	switch none, changed := h.peers.contact(connected, h.config.Clock.Now()); {
	case !changed:
	case !none:
		h.config.Log.Info("node connected to backplane")
	case connected:
		h.config.Log.Warn("node cut off from backplane: own heartbeats not received", "for", cutOffTime)
	default:
		h.config.Log.Warn("node cut off from backplane: engine not connected")
	}
}

// receiveStatus handles a change of the engine's status. An own heartbeat ends the time of being
// cut off, so it is due soon.
func (h *Hub) receiveStatus(backplane.Status) {
	now := h.config.Clock.Now()
	h.checks.add(backplane.Nodes, now)
	h.peers.hurry()
	h.beats.add(backplane.Nodes, now)
}

// dropPeers ends the connections of nodes in all rooms, for the reason why. The grace periods of
// their users end after linger, since the end of the lease.
func (h *Hub) dropPeers(ended []lease, linger time.Duration, why room.Reason) {
	if len(ended) == 0 {
		return
	}
	for _, l := range h.rooms.all("") {
		for _, e := range ended {
			h.note(l, l.dropPeer(e.node, e.last.Add(linger), why))
		}
	}
}

// receiveHeartbeat handles a publication on the topic of all nodes.
func (h *Hub) receiveHeartbeat(data []byte) {
	b, err := parseHeartbeat(data)
	if err != nil {
		h.warnFrame(err)
		return
	}
	now := h.config.Clock.Now()
	h.witness(b.Clock)
	switch {
	case b.From == h.peers.self:
		if took, ok := h.peers.roundTrip(b.Number, now); ok && h.config.RoundTrip != nil {
			h.config.RoundTrip(took)
		}
		if h.peers.renewSelf(now) {
			h.checks.add(backplane.Nodes, now) // logs it
			h.recover(now)
		}
		return
	case b.Leaving:
		if h.peers.leave(b.From, now) {
			h.logPeer(slog.LevelInfo, "peer node shut down", b.From, h.peers.labelOf(b.From), now)
			h.dropPeers([]lease{{b.From, now}}, h.config.Linger+graceMargin, room.Closed)
		}
		return
	case !h.renew(b.From, b.Label, now):
		return
	}
	h.reportMeeting(b, now)
	if slices.Contains(b.Hello, h.peers.self) || slices.Contains(b.Hello, allNodes) {
		h.peers.hurry()
		h.beats.add(backplane.Nodes, now)
		h.repeatAll(now)
		h.suspect(b.From, now)
	}
}

// reportMeeting logs the settings that differ between this node and the sender of a heartbeat, and
// that the two have the same label.
func (h *Hub) reportMeeting(b heartbeat, now time.Time) {
	differ, twin := h.peers.meet(b, now)
	for _, d := range differ {
		h.config.Log.Warn("setting differs between two nodes", "setting", d.Name, "label", h.config.Label, "value", d.Value,
			"other_label", h.peers.labelOf(b.From), "other_value", d.other)
	}
	if twin {
		h.config.Log.Warn("two nodes have the same label", "label", h.config.Label, "node", string(h.node), "other_node", string(b.From))
	}
}

// recover asks all nodes to repeat their parts, and repeats those of this node, because frames may
// have been lost in both directions.
func (h *Hub) recover(now time.Time) {
	h.greet(allNodes, now)
	h.repeatAll(now)
	h.suspect(allNodes, now)
}

// suspect makes sure that the parts of a node, or of all nodes, are repeated or pulled: their
// frames may have been lost, and the node may have dropped rooms since.
func (h *Hub) suspect(from room.NodeID, now time.Time) {
	for _, l := range h.rooms.all("") {
		l.suspectParts(from, now)
	}
}

func (h *Hub) repeatAll(now time.Time) {
	for _, l := range h.rooms.all("") {
		l.repeatSoon(now)
	}
}

// compareAcked compares the room with the positions in a frame of any node, also of this one.
func (h *Hub) compareAcked(l *live, f partFrame) {
	p, ok := room.ParsePosition(f.Position)
	if !ok {
		return
	}
	l.announced(p)
	for _, acked := range f.Acked[:min(len(f.Acked), maxAcked)] {
		l.announced(room.Position{Epoch: p.Epoch, Seq: acked})
	}
	if f.AckedFrom > 0 {
		l.announcedFrom(room.Position{Epoch: p.Epoch, Seq: f.AckedFrom})
	}
}

// receiveFrame handles a publication on the topic of a room.
func (h *Hub) receiveFrame(l *live, data []byte) {
	f, err := parsePartFrame(data)
	if err != nil {
		h.warnFrame(err)
		return
	}
	if !h.renew(f.From, "", h.config.Clock.Now()) {
		return
	}
	h.witness(highest(f.Changed))
	h.compareAcked(l, f)
	s, pull := l.receiveFrame(f)
	h.note(l, s)
	if pull {
		h.pull(l)
	}
}

// openParts reads the parts of the peers for a room that has no client yet. It returns when all
// peers that have the room have answered, or after pullTime. A node that is cut off does not wait:
// it pulls the parts in the background, and the room is partial until the leases of the peers have
// ended. From then on clients may join, and this node answers for the room. A node that asks
// meanwhile receives the frames of the first clients.
func (h *Hub) openParts(l *live) {
	answers, missing := map[room.NodeID]*pulledPart(nil), h.peers.live()
	if !h.isCut() {
		answers, missing = h.readRoom(l.name)
	}
	s, pull := l.openParts(answers, missing)
	h.note(l, s)
	h.compareStart(l, answers)
	if pull {
		h.pull(l)
	}
	close(l.exchange.opened)
	end, err := h.config.Bus.Subscribe(l.name, backplane.Handler{Ask: h.handleCommand})
	if err != nil { // the peers receive the frames of this node all the same
		h.config.Log.Debug("backplane subscription failed", "topic", string(l.name), "err", err)
		return
	}
	l.ends.add(end)
}

// compareStart reads the log between the last position of the peers and the one that the engine has
// returned. If there is no entry, clients may resume from there.
func (h *Hub) compareStart(l *live, answers map[room.NodeID]*pulledPart) {
	if len(answers) == 0 || l.awaitOpening() != nil {
		return
	}
	after, start, ok := l.belowStart(answers)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(h.stopping, lastTime)
	defer cancel()
	epoch := h.epoch()
	if entries, _, err := h.config.Bus.Read(ctx, l.name, after); err == nil && len(entries) == 0 && h.epoch() == epoch {
		l.startAt(after, start)
	}
}

// leaveCluster publishes the last frames of this node, all announcements that are due later, and
// that it shuts down. Each message is announced twice in all. After publishTime it gives up: the
// peers find out when the lease ends.
func (h *Hub) leaveCluster() {
	h.checks.close()
	h.outbox.close()
	h.beats.close()
	ctx, cancel := context.WithTimeout(context.Background(), publishTime)
	defer cancel()
	now := h.config.Clock.Now()
	publish := func(name room.Name, frames []partFrame) {
		for _, f := range frames {
			if ctx.Err() == nil {
				h.publish(ctx, name, encodeFrame(f))
			}
		}
	}
	for range 2 {
		for _, l := range h.rooms.all("") {
			if l.hasFrames() {
				frames, _, _ := l.frames(now, 0)
				publish(l.name, frames)
			}
		}
		for _, name := range h.evicted.unannounced() {
			frames, _ := h.evicted.frames(name, h.node, 0, now)
			publish(name, frames)
		}
	}
	h.publish(ctx, backplane.Nodes, encodeFrame(heartbeat{V: frameVersion, From: h.peers.self, Clock: h.peers.counter(), Leaving: true}))
}
