package hub

import (
	"time"

	"example.com/presence/pkg/presence/room"
)

const (
	// graceMargin extends each grace period, so that a user that moves to another node in time does
	// not leave anywhere: it covers a batch and the way to the other nodes.
	graceMargin = 500 * time.Millisecond
	// maxEntries is the default of Config.entries. An entry has at most 1.7 KiB, and an engine may
	// limit its payloads to 1 MiB.
	maxEntries = 256
	// maxPieceEntries is the default of Config.pieceEntries, and maxPieceSize the maximum size of
	// the entries of a piece, in bytes. Each piece takes a round trip, and the first client of a
	// room waits for all of them. So a piece may have many short entries: 1000 with an id and a
	// name of 10 bytes.
	maxPieceEntries = 4096
	maxPieceSize    = 256 << 10
	// LargestFrame is the size of the largest frame or answer, in bytes: one with maxEntries
	// entries, in which every second byte of the ids and names is escaped.
	LargestFrame = 640 << 10
	// maxHeld is the maximum number of frames of one peer that a room holds while it reads the
	// peer's part.
	maxHeld = 1024
	// sharedRoomAge is the maximum time that an unused room stays subscribed if other nodes may
	// send its frames. The log of the room is in the engine.
	sharedRoomAge = 30 * time.Second
)

// lowerTime is how long repeats with a lower number are ignored, because they may be late.
const lowerTime = 5 * time.Second

// silentTime is how long a part with users may stay without a frame.
const silentTime = 5 * repeatTime / 2

// suspectTime is how long a part with users may stay without a frame after its frames may have been
// lost. Its node was asked to repeat it, but does not if it has dropped the room meanwhile.
const suspectTime = 2 * time.Second

// exchange is the state of a room that concerns the other nodes. It is nil on a node without
// peers.
//
// This node publishes its own part as numbered frames. From each peer it reads frames in order. A
// frame that does not follow the one before, or has other totals than this node's copy, shows that
// a frame was lost. The copy is then stale, and the node pulls the part: it asks the peer for all
// of it. Frames that arrive during a pull are held, and applied after it.
type exchange struct {
	ownPart

	appending int       // number of calls of Send that wait for the log; their messages must be announced afterwards
	suspectAt time.Time // when the parts must be checked that suspectParts suspects
	peers     map[room.NodeID]*peerPart
	opened    chan struct{}            // closed when the parts of all nodes were pulled, as far as they have answered
	opening   bool                     // the parts of all nodes are being pulled
	serves    bool                     // each announced member has had OnJoin and not OnLeave; see serveLocked
	missing   map[room.NodeID]struct{} // peers whose parts the room has never had; while there are any, the room is partial
	pulling   bool                     // a goroutine pulls parts
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
	fitted time.Time   // when the last frame that fitted arrived, or the last pull ended
}

// heldFrame is a frame with the time of its arrival. Its grace periods are counted from then.
type heldFrame struct {
	partFrame
	at time.Time
}

func newExchange(floor uint64) *exchange {
	return &exchange{ownPart: ownPart{number: floor}, peers: map[room.NodeID]*peerPart{}, opening: true, opened: make(chan struct{})}
}

// lacksPart reports whether the part of a peer was asked for and has never arrived.
func (x *exchange) lacksPart() bool {
	if len(x.missing) > 0 {
		return true
	}
	for _, p := range x.peers {
		if p.stale && !p.known {
			return true
		}
	}
	return false
}

func (x *exchange) peer(node room.NodeID) *peerPart {
	p := x.peers[node]
	if p == nil {
		p = &peerPart{}
		x.peers[node] = p
	}
	return p
}
