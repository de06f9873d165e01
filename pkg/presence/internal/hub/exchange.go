package hub

import (
	"hash/fnv"
	"slices"
	"time"

	"example.com/presence/pkg/presence/room"
)

const (
	// graceMargin extends each grace period, so that a user that moves to another node in time does
	// not leave anywhere: it covers a batch and the way to the other nodes.
	graceMargin = 500 * time.Millisecond
	// maxEntries is the maximum number of entries in a frame. An entry has at most 1.7 KiB, and an
	// engine may limit its payloads to 1 MiB.
	maxEntries = 256
	// maxHeld is the maximum number of frames of one peer that a room holds while it reads the
	// peer's part.
	maxHeld = 1024
	// sharedRoomAge is the maximum time that an unused room stays subscribed if other nodes may
	// send its frames. The log of the room is in the engine.
	sharedRoomAge = 30 * time.Second
)

const (
	// announceTime is the time between the two announcements of a message.
	announceTime = time.Second
	// maxAcked is the maximum number of positions in a frame.
	maxAcked = 256
	// maxAcks is the maximum number of messages of a room that wait for an announcement.
	maxAcks = 4096
)

// repeatTimes are the times after the last frame with changes at which a node repeats its totals.
// From then on it repeats them every repeatTime while its part has a user.
var repeatTimes = []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second}

const repeatTime = 30 * time.Second

// silentTime is how long a part with users may stay without a frame.
const silentTime = 5 * repeatTime / 2

// exchange is the state of a room that concerns the other nodes. It is nil on a node without
// peers.
//
// This node publishes its own part as numbered frames. From each peer it reads frames in order. A
// frame that does not follow the one before, or has other totals than this node's copy, shows that
// a frame was lost. The copy is then stale, and the node pulls the part: it asks the peer for all
// of it. Frames that arrive during a pull are held, and applied after it.
type exchange struct {
	number    uint64    // of the last own frame with changes
	changedAt time.Time // of that frame
	sentAt    time.Time // of the last own frame
	repeats   int       // number of repeats since changedAt
	acks      []ack     // messages of this node that must be announced, in the order of their answers
	unlisted  *ack      // the lowest message that is no longer in acks; nil: none
	epoch     string    // of acks and unlisted

	peers   map[room.NodeID]*peerPart
	opened  chan struct{}            // closed when the parts of all nodes were pulled, as far as they have answered
	opening bool                     // the parts of all nodes are being pulled
	missing map[room.NodeID]struct{} // peers whose parts the room has never had; while there are any, the room is partial
	pulling bool                     // a goroutine pulls parts
}

// peerPart is this node's copy of a peer's part. The room has its users.
type peerPart struct {
	number uint64
	mixed  uint64      // up to this number the totals of frames are not compared: see pulledPart
	known  bool        // number is valid
	stale  bool        // the part must be pulled
	held   []heldFrame // frames that arrived during the pull; nil: no pull is running
	lost   bool        // frames were dropped from held
	seen   time.Time   // when the last frame arrived
}

// ack is a message of this node that the log has accepted.
type ack struct {
	position uint64
	due      time.Time // of the next announcement
	again    bool      // it was announced once
	over     bool      // it was announced twice
}

// addAck schedules the announcements of a message. If there are too many, the oldest half is no
// longer listed: the peers compare the log from the lowest of them on.
func (x *exchange) addAck(p room.Position, now time.Time) {
	if x.epoch != p.Epoch {
		x.epoch, x.acks, x.unlisted = p.Epoch, nil, nil
	}
	if len(x.acks) >= maxAcks {
		lowest := x.acks[0].position
		for _, a := range x.acks[:maxAcks/2] { // two answers may arrive in another order
			lowest = min(lowest, a.position)
		}
		if x.unlisted != nil {
			lowest = min(lowest, x.unlisted.position)
		}
		x.acks = slices.Delete(x.acks, 0, maxAcks/2)
		x.unlisted = &ack{position: lowest, due: now}
	}
	x.acks = append(x.acks, ack{position: p.Seq, due: now})
}

// takeAcks returns the positions to announce, and when the next announcement is due; the zero time
// if there is none. from is the lowest position that is not listed, or 0. If more than many messages
// follow a message, its second announcement does not wait for its time: the rings of the peers must
// still have the entries around it.
func (x *exchange) takeAcks(now time.Time, many int) (positions []uint64, from uint64, next time.Time) {
	if a := x.unlisted; a != nil && a.take(now, false) {
		from = a.position
	}
	if x.unlisted != nil && x.unlisted.over {
		x.unlisted = nil
	}
	rest, count := x.acks[:0], len(x.acks)
	for i, a := range x.acks {
		if a.take(now, count-i > many) {
			positions = append(positions, a.position)
		}
		if !a.over {
			rest = append(rest, a)
			next = earlier(next, a.due)
		}
	}
	if x.acks = rest; len(rest) == 0 {
		x.acks = nil
	}
	if x.unlisted != nil {
		next = earlier(next, x.unlisted.due)
	}
	return positions, from, next
}

// take reports whether an announcement is due, or must not wait, and prepares the next one.
func (a *ack) take(now time.Time, urgent bool) bool {
	if a.due.After(now) && !urgent {
		return false
	}
	a.over, a.again, a.due = a.again, true, now.Add(announceTime)
	return true
}

// earlier returns the earlier of two times, of which the zero time is the latest.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

// heldFrame is a frame with the time of its arrival. Its grace periods are counted from then.
type heldFrame struct {
	partFrame
	at time.Time
}

func newExchange(floor uint64) *exchange {
	return &exchange{number: floor, peers: map[room.NodeID]*peerPart{}, opening: true, opened: make(chan struct{})}
}

func (x *exchange) peer(node room.NodeID) *peerPart {
	p := x.peers[node]
	if p == nil {
		p = &peerPart{}
		x.peers[node] = p
	}
	return p
}

// nextRepeat returns when the totals must be sent again after changedAt. ok is false if they need
// not. Rooms and nodes repeat at different times.
func (x *exchange) nextRepeat(name room.Name, node room.NodeID, empty bool) (due time.Time, ok bool) {
	if x.changedAt.IsZero() || empty && x.repeats > len(repeatTimes) {
		return due, false
	}
	after := repeatTimes[min(x.repeats, len(repeatTimes)-1)]
	if n := x.repeats - len(repeatTimes); n >= 0 {
		after = time.Duration(n+1) * repeatTime
	}
	h := fnv.New32a()
	h.Write([]byte(name))
	h.Write([]byte(node))
	return x.changedAt.Add(after - after*time.Duration(h.Sum32()%100)/1000), true // up to 10 % earlier
}

// isQuiet reports whether all repeats of an empty part were published. A room whose part is not
// quiet does not expire, so that its peers can find out that they have lost a frame.
func (x *exchange) isQuiet() bool {
	return len(x.acks) == 0 && x.unlisted == nil && (x.changedAt.IsZero() || x.repeats > len(repeatTimes))
}
