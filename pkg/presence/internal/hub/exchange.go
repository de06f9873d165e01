package hub

import (
	"hash/fnv"
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

// announceTime is the time between two announcements of a room's position.
const announceTime = time.Second

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
	number    uint64        // of the last own frame with changes
	changedAt time.Time     // of that frame
	sentAt    time.Time     // of the last own frame
	repeats   int           // number of repeats since changedAt
	acked     room.Position // the newest message that the log has accepted from this node
	announced time.Time     // when a frame carried a new value of acked
	again     time.Time     // when acked must be announced once more; zero: not

	peers   map[room.NodeID]*peerPart
	opening bool                     // the parts of all nodes are being pulled
	missing map[room.NodeID]struct{} // peers whose parts the room has never had; while there are any, the room is partial
	pulling bool                     // a goroutine pulls parts
}

// peerPart is this node's copy of a peer's part. The room has its users.
type peerPart struct {
	number uint64
	known  bool        // number is valid
	stale  bool        // the part must be pulled
	held   []partFrame // frames that arrived during the pull; nil: no pull is running
	lost   bool        // frames were dropped from held
	seen   time.Time   // when the last frame arrived
}

func newExchange(floor uint64) *exchange {
	return &exchange{number: floor, peers: map[room.NodeID]*peerPart{}, opening: true}
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
	return x.again.IsZero() && (x.changedAt.IsZero() || x.repeats > len(repeatTimes))
}
