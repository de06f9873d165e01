package hub

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"example.com/presence/pkg/presence/room"
)

const (
	// heartbeatTime is the time between two heartbeats of a node on the backplane.
	heartbeatTime = time.Second
	// leaseTime is how long a node lives after its last frame.
	leaseTime = 5 * time.Second
	// cutOffTime is how long a node may miss its own heartbeats before it is cut off.
	cutOffTime = 3 * time.Second
	// checkTime is the maximum time between two checks of the leases.
	checkTime = heartbeatTime / 2
	// lateTime is the delay of a check that shows that the process was stopped.
	lateTime = time.Second
	// freshTime is the lease that every peer gets after this process was stopped. Its frames wait
	// to be read.
	freshTime = time.Second
	// settleTime is how long a node listens until it knows all its peers.
	settleTime = heartbeatTime + heartbeatTime/2
	// silentPeerTime is how long a live peer may be silent until it may be without contact: two
	// heartbeats, of which one may be lost.
	silentPeerTime = 2*heartbeatTime + heartbeatTime/2
	// helloTimes is the number of heartbeats with the same hello, as three in a row may be lost.
	helloTimes = 4
	// maxPeers is the maximum number of live peers. The frames of another node are ignored.
	maxPeers = 256
	// leftTime is how long the frames of a node that has shut down are ignored. Some may arrive
	// late.
	leftTime = time.Minute
)

// peers holds the leases of the other nodes. Each frame of a node renews its lease, at the time at
// which this node receives the frame, by the clock of this node. It also holds the Lamport counter
// of this node.
type peers struct {
	self    room.NodeID
	started time.Time

	mu       sync.Mutex        // guards the fields below
	label    string            // of this node
	settings []Setting         // of this node
	values   map[string]string // of settings

	last    map[room.NodeID]time.Time // of the last frame of each live peer
	left    map[room.NodeID]time.Time // when each peer has shut down
	heard   time.Time                 // of this node's last own heartbeat
	since   time.Time                 // start of the current contact with the backplane
	cut     bool                      // this node is cut off
	told    bool                      // the log reports that this node has no contact
	downAt  time.Time                 // since when the engine is not connected; zero: it is connected
	checkAt time.Time                 // when the next check of the leases is due; zero: not known
	late    bool                      // the last check was late
	lamport uint64

	met     map[room.NodeID]*meeting // the live peers, and some that have ended
	reports budget                   // log lines about labels and settings
	changes budget                   // log lines about peers that were found, or have ended

	beats  uint64              // heartbeats that this node has published
	beatAt time.Time           // when this node published its last heartbeat
	sent   []sentBeat          // the last heartbeats that this node has not received, at most maxSentBeats; oldest first
	prompt bool                // a heartbeat is due before its time
	hello  map[room.NodeID]int // nodes that the next heartbeats ask to repeat their parts; the number of heartbeats
}

func newPeers(self room.NodeID, now time.Time) *peers {
	return &peers{self: self, last: map[room.NodeID]time.Time{}, left: map[room.NodeID]time.Time{}, heard: now, since: now,
		hello: map[room.NodeID]int{allNodes: helloTimes}, started: now, met: map[room.NodeID]*meeting{}}
}

// endLocked ends the lease of a node.
func (p *peers) endLocked(node room.NodeID) {
	delete(p.last, node)
	if m := p.met[node]; m != nil {
		m.since = time.Time{}
	}
}

// renew records a frame of a node. found reports whether the node was not live before. ok is false
// if the frame must be ignored: it is of this node, of a node that has shut down, or of one too
// many.
func (p *peers) renew(node room.NodeID, now time.Time) (found, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, left := p.left[node]; left || node == p.self || node == "" {
		return false, false
	}
	if p.isFullLocked(node) {
		return false, false
	}
	_, live := p.last[node]
	p.last[node] = now
	return !live, true
}

// isFullLocked reports whether a node that is not live must stay so, because there are too many.
func (p *peers) isFullLocked(node room.NodeID) bool {
	_, live := p.last[node]
	return !live && len(p.last) >= maxPeers
}

// rejects reports whether a frame of the node is ignored because there are too many live peers.
func (p *peers) rejects(node room.NodeID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return node != p.self && p.isFullLocked(node)
}

// renewSelf records a heartbeat of this node. It reports whether this ends a time of being cut off.
func (p *peers) renewSelf(now time.Time) (back bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard = now
	if p.cut {
		p.cut, p.since = false, now
		return true
	}
	return false
}

// leave ends the lease of a node that has shut down. It reports whether the node was live.
func (p *peers) leave(node room.NodeID, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, live := p.last[node]
	if p.endLocked(node); len(p.left) < maxPeers {
		p.left[node] = now
	}
	return live
}

// contact records whether the engine is connected at the time now. It reports whether this node has
// no contact with the backplane, and whether that has changed since the last call.
func (p *peers) contact(connected bool, now time.Time) (none, changed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	none = p.cut || !connected
	changed, p.told = none != p.told, none
	switch {
	case connected:
		p.downAt = time.Time{}
	case p.downAt.IsZero():
		p.downAt = now
	}
	return none, changed
}

// isDown reports whether the engine has not been connected for cutOffTime. A log that elects a new
// leader answers earlier.
func (p *peers) isDown(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.downAt.IsZero() && now.Sub(p.downAt) >= cutOffTime
}

// lease is a lease that has ended.
type lease struct {
	node room.NodeID
	last time.Time // of the last frame
}

// end removes and returns the leases that have ended, by node. cut reports whether this node is cut
// off since this call.
func (p *peers) end(now time.Time) (ended []lease, cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for node, last := range p.last {
		if now.Sub(last) >= leaseTime {
			p.endLocked(node)
			ended = append(ended, lease{node, last})
		}
	}
	slices.SortFunc(ended, func(a, b lease) int { return cmp.Compare(a.node, b.node) })
	maps.DeleteFunc(p.left, func(_ room.NodeID, at time.Time) bool { return now.Sub(at) > leftTime })
	if !p.cut && now.Sub(p.heard) >= cutOffTime {
		p.cut, cut = true, true
	}
	return ended, cut
}

// checked records a check of the leases. It returns by how much the check is late, or 0 if the
// process was not stopped. Of two late checks in a row, only the first counts: a process that is
// slow all the time must still find dead peers.
func (p *peers) checked(now time.Time) (late time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.late
	if p.late = !p.checkAt.IsZero() && now.Sub(p.checkAt) > lateTime; p.late && !before {
		return now.Sub(p.checkAt)
	}
	return 0
}

// refresh gives every lease a fresh time. The caller has found that this process was stopped: the
// frames of its peers, and its own, wait to be read.
func (p *peers) refresh(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for node, last := range p.last {
		if fresh := now.Add(freshTime - leaseTime); last.Before(fresh) {
			p.last[node] = fresh
		}
	}
	if fresh := now.Add(freshTime - cutOffTime); p.heard.Before(fresh) {
		p.heard = fresh
	}
}

// greet makes the next heartbeat ask the node to repeat its parts, because this node may have
// missed frames. The heartbeat is due soon.
func (p *peers) greet(node room.NodeID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hello[node], p.prompt = helloTimes, true
}

// greetLater is like greet for all nodes, but does not hurry: a loss that repeats itself makes the
// nodes repeat their parts once per heartbeat at most.
func (p *peers) greetLater() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hello[allNodes] = max(p.hello[allNodes], 1)
}

// hurry makes the next heartbeat due soon, because a peer may not know this node.
func (p *peers) hurry() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.prompt = true
}

// beat returns the heartbeat that is due at the time now.
func (p *peers) beat(now time.Time) (b heartbeat, due bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Before(p.beatDueLocked()) {
		return b, false
	}
	b = heartbeat{V: frameVersion, From: p.self, Clock: p.lamport, Number: p.beats + 1, Label: p.label, Settings: p.values}
	if p.hello[allNodes] > 0 {
		b.Hello = []room.NodeID{allNodes}
	} else {
		b.Hello = slices.Sorted(maps.Keys(p.hello))
	}
	maps.DeleteFunc(p.hello, func(node room.NodeID, times int) bool {
		p.hello[node] = times - 1
		return times <= 1
	})
	p.beatAt, p.prompt = now, false
	if len(p.sent) == maxSentBeats {
		p.sent = append(p.sent[:0], p.sent[1:]...)
	}
	p.beats++
	p.sent = append(p.sent, sentBeat{p.beats, now})
	return b, true
}

// maxSentBeats is the maximum number of heartbeats whose round trip is measured at the same time.
const maxSentBeats = 16

// sentBeat is a heartbeat of this node that is on its way.
type sentBeat struct {
	number uint64
	at     time.Time
}

// roundTrip returns the time since this node published the heartbeat with this number. ok is false
// if it is unknown. Older heartbeats are lost or late, and are forgotten.
func (p *peers) roundTrip(number uint64, now time.Time) (took time.Duration, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.IndexFunc(p.sent, func(s sentBeat) bool { return s.number == number })
	if i < 0 {
		return 0, false
	}
	took = now.Sub(p.sent[i].at)
	p.sent = append(p.sent[:0], p.sent[i+1:]...)
	return took, true
}

func (p *peers) beatDueLocked() time.Time {
	if p.prompt {
		return p.beatAt.Add(batchTime)
	}
	return p.beatAt.Add(heartbeatTime)
}

// beatDue returns when the next heartbeat must be published.
func (p *peers) beatDue() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.beatDueLocked()
}

// checkDue returns when the next check is due. A check has ended at the time now.
func (p *peers) checkDue(now time.Time) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	due := now.Add(checkTime)
	if end := p.heard.Add(cutOffTime); !p.cut && end.Before(due) {
		due = end
	}
	for _, last := range p.last {
		if end := last.Add(leaseTime); end.Before(due) {
			due = end
		}
	}
	p.checkAt = later(due, now.Add(batchTime))
	return p.checkAt
}

// live returns the live peers, sorted.
func (p *peers) live() []room.NodeID {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Sorted(maps.Keys(p.last))
}

// silent returns the live peers that have missed two heartbeats.
func (p *peers) silent(now time.Time) (nodes []room.NodeID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for node, last := range p.last {
		if now.Sub(last) >= silentPeerTime {
			nodes = append(nodes, node)
		}
	}
	return nodes
}

func (p *peers) isLive(node room.NodeID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, live := p.last[node]
	return live
}

// settled reports whether this node knows all live peers: it has listened for longer than the time
// between two heartbeats, and is not cut off.
func (p *peers) settled(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.cut && now.Sub(p.since) >= settleTime
}

// isCut reports whether this node is cut off from the backplane.
func (p *peers) isCut() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cut
}

// witness raises the Lamport counter to a counter that another node has used, but by no more than
// maxRaise. reached reports whether the next stamp is higher than the counter.
//
// Nodes count their updates, so they never come near maxCounter. One wrong counter must not raise
// theirs so far that peers reject their stamps. A fixed limit below maxCounter would not do: a
// wrong counter at the limit is accepted, and the stamps after it are not. Counters that are too
// far ahead are not ignored either: a node that starts later has counter 0, and must reach the
// counters of the others. It does with their next heartbeats.
func (p *peers) witness(counter uint64) (reached bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if counter <= maxCounter {
		p.lamport = max(p.lamport, min(counter, p.lamport+maxRaise))
	}
	return counter <= p.lamport && counter < maxCounter
}

// stamp returns a new version, which is higher than all versions that this node knows. Its counter
// is at most maxCounter, which peers accept.
func (p *peers) stamp() room.Version {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lamport = min(p.lamport+1, maxCounter)
	return room.Version{Counter: p.lamport, Node: p.self}
}

// counter returns the Lamport counter.
func (p *peers) counter() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lamport
}
