package hub

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"example.com/presence/pkg/presence/internal/compact"
	"example.com/presence/pkg/presence/internal/input"
	"example.com/presence/pkg/presence/room"
)

// This file encodes the frames that the nodes of one server exchange. A frame is a JSON object. A
// node ignores the fields that it does not know, and the frames of another version.
//
// A part frame is published on the topic of a room. It states the totals of the sender's part of
// the room, and the changes since the frame before:
//
//	{"v":1,"from":"4f0c…9a","n":17,"users":2,"connections":3,"position":"5f1c0a9e4b-12","changed":[
//	  {"id":"alice","name":"Alice","info":{},"since":1764288000000,"connections":2},
//	  {"id":"bob","name":"Bob","info":{},"since":1764288001000,"connections":0,"left":5400,"reason":"closed"}]}
//
// A heartbeat is published on the topic of all nodes:
//
//	{"v":1,"from":"4f0c…9a","clock":12,"label":"eu-1","settings":{"count":"connections","linger":"5s"}}

// frameVersion is the version of the frames that this node sends and reads.
const frameVersion = 1

// partFrame describes one node's part of a room. Its changes are states, not differences.
type partFrame struct {
	V    int         `json:"v"`
	From room.NodeID `json:"from"`
	// Number counts the frames with changes, per node and room. A frame without changes repeats the
	// number of the last one.
	Number      uint64   `json:"n"`
	Users       int      `json:"users"`              // users with a connection on the node
	Connections int      `json:"connections"`        // connections on the node
	Position    string   `json:"position,omitempty"` // of the last message that the node has delivered
	Acked       []uint64 `json:"acked,omitempty"`    // messages that the log has accepted from the node, in the same epoch
	// AckedFrom is the lowest position that Acked does not list, because there were too many; 0:
	// none. The receiver compares the log from there on.
	AckedFrom uint64  `json:"acked_from,omitempty"`
	Changed   []entry `json:"changed,omitempty"`
	More      bool    `json:"more,omitempty"` // the totals include changes that follow in the next frame
	// Whole reports that the part has no other users than those in Changed, also none in its grace
	// period. A receiver that lacks earlier frames needs no pull then.
	Whole bool `json:"whole,omitempty"`
}

// entry is a [room.Presence] in a frame. Times of the sender's clock mean nothing to the receiver,
// so the grace period is the time left.
type entry struct {
	ID          room.UserID     `json:"id"`
	Name        string          `json:"name,omitempty"`
	Info        json.RawMessage `json:"info,omitempty"`
	Version     room.Version    `json:"version,omitzero"`
	Since       int64           `json:"since,omitempty"` // Unix milliseconds
	Connections int             `json:"connections"`
	Left        int64           `json:"left,omitempty"` // of the grace period, in milliseconds
	Reason      room.Reason     `json:"reason,omitempty"`
}

// heartbeat reports that a node lives.
type heartbeat struct {
	V     int         `json:"v"`
	From  room.NodeID `json:"from"`
	Clock uint64      `json:"clock,omitempty"` // the Lamport counter of the node
	// Number is that of the heartbeat, from 1, so that the node can measure its round trip. It is 0
	// in the last one.
	Number uint64 `json:"n,omitempty"`
	// Hello lists the nodes that must repeat all their parts, because the sender may have missed
	// frames. "*" stands for all nodes.
	Hello   []room.NodeID `json:"hello,omitempty"`
	Leaving bool          `json:"leaving,omitempty"` // the node shuts down
	// Label names the node in the logs, and Settings are those that all nodes should have in
	// common.
	Label    string            `json:"label,omitempty"`
	Settings map[string]string `json:"settings,omitempty"`
}

const allNodes room.NodeID = "*"

// Limits of the values that a node accepts from its peers. Those of package input hold too: a node
// repeats ids, names and infos of its peers in its own frames, which the engine limits.
const (
	maxNodeID      = 64               // bytes of the id of a node
	maxReason      = 64               // bytes of a reason
	maxNumber      = 1 << 62          // number of a frame
	maxConnections = 1 << 30          // connections of one user
	maxLeft        = 3600_000         // rest of a grace period, in milliseconds
	maxSince       = 253402300799_999 // end of the year 9999, the last year in RFC 3339
	maxCounter     = 1 << 62          // Lamport counter; higher ones could overflow
	maxRaise       = 1 << 40          // by which one frame raises the Lamport counter: see peers.witness
)

func entryOf(p room.Presence, now time.Time) entry {
	e := entry{ID: p.ID, Connections: p.Connections, Reason: p.Reason}
	if left := p.Until.Sub(now); p.Connections == 0 && left > 0 {
		e.Left = left.Milliseconds() + 1
	} else if p.Connections == 0 { // the user has left
		return e
	}
	e.Name, e.Info, e.Version, e.Since = p.Name, p.Info, p.Version, p.Since.UnixMilli()
	return e
}

// highest returns the highest counter of the versions of the entries. It ignores malformed ones.
func highest(es []entry) (counter uint64) {
	for _, e := range es {
		if e.Version.Counter <= maxCounter {
			counter = max(counter, e.Version.Counter)
		}
	}
	return counter
}

// presentOf returns the entries of users that have a connection, or are in their grace period.
func presentOf(es []entry) []entry {
	present := make([]entry, 0, len(es))
	for _, e := range es {
		if e.Connections > 0 || e.Left > 0 {
			present = append(present, e)
		}
	}
	return present
}

func (e entry) presence(now time.Time) room.Presence {
	p := room.Presence{ID: e.ID, Name: e.Name, Info: e.Info, Version: e.Version, Connections: e.Connections,
		Since: time.UnixMilli(e.Since).UTC(), Reason: e.Reason}
	if e.Connections == 0 && e.Left > 0 {
		p.Until = now.Add(time.Duration(e.Left) * time.Millisecond)
	}
	return p
}

func entriesOf(ps []room.Presence, now time.Time) []entry {
	es := make([]entry, len(ps))
	for i, p := range ps {
		es[i] = entryOf(p, now)
	}
	return es
}

// presences converts entries that were received at the time now. The error names the first entry
// that no node sends.
func presences(es []entry, now time.Time) ([]room.Presence, error) {
	ps := make([]room.Presence, len(es))
	for i, e := range es {
		if e.ID == "" || e.Connections < 0 || e.Connections > maxConnections || e.Left < 0 || e.Left > maxLeft ||
			e.Since < 0 || e.Since > maxSince || e.Version.Counter > maxCounter || e.isLong() {
			return nil, fmt.Errorf("entry of user %.40q malformed", e.ID)
		}
		if len(e.Info) == 0 {
			e.Info = json.RawMessage("{}")
		}
		ps[i] = e.presence(now)
	}
	return ps, nil
}

// size returns a size that the JSON text of the entry does not exceed, in bytes. Escapes double the
// size of a text at most.
func (e entry) size() int {
	const rest = 200 // names of the fields, and numbers
	return rest + 2*(len(e.ID)+len(e.Name)+len(e.Info)+len(e.Version.Node)+len(e.Reason))
}

// firstOf returns the first of the entries, at least one and at most of the given size.
func firstOf(es []entry, size int) []entry {
	for i, e := range es {
		if size -= e.size(); size < 0 && i > 0 {
			return es[:i]
		}
	}
	return es
}

// isLong reports whether a text of the entry is longer than any that a node sends.
func (e entry) isLong() bool {
	return len(e.ID) > input.MaxUserID || len(e.Name) > input.MaxUserName || len(e.Info) > input.MaxInfo ||
		len(e.Version.Node) > maxNodeID || len(e.Reason) > maxReason
}

// errVersion means that a frame has an unknown version.
var errVersion = errors.New("frame version unknown")

// parseFrame decodes a frame, a command or an answer. version returns the decoded version.
func parseFrame(data []byte, frame any, version *int) error {
	if err := json.Unmarshal(data, frame); err != nil {
		return fmt.Errorf("frame malformed: %w", err)
	}
	if *version != frameVersion {
		return fmt.Errorf("%w (%d)", errVersion, *version)
	}
	return nil
}

func parsePartFrame(data []byte) (f partFrame, err error) {
	if err = parseFrame(data, &f, &f.V); err == nil {
		err = errors.Join(checkSender(f.From), checkNumber(f.Number))
	}
	return f, err
}

func parseHeartbeat(data []byte) (b heartbeat, err error) {
	if err = parseFrame(data, &b, &b.V); err == nil {
		err = errors.Join(checkSender(b.From), checkNodes(b.Hello...))
	}
	if !IsLabel(b.Label) { // the lease does not depend on it
		b.Label = ""
	}
	return b, err
}

// checkSender checks the id of the node that has sent a frame or an answer.
func checkSender(node room.NodeID) error {
	if node == "" {
		return errors.New("frame malformed: no sender")
	}
	return checkNodes(node)
}

// checkNodes checks the ids of nodes. This node repeats some of them in its own frames.
func checkNodes(nodes ...room.NodeID) error {
	for _, node := range nodes {
		if len(node) > maxNodeID {
			return fmt.Errorf("frame malformed: node id of %d bytes (maximum %d)", len(node), maxNodeID)
		}
	}
	return nil
}

func checkNumber(number uint64) error {
	if number > maxNumber {
		return fmt.Errorf("frame malformed: number %d (maximum %d)", number, uint64(maxNumber))
	}
	return nil
}

// encodeFrame encodes a frame. It keeps the bytes of each info.
func encodeFrame(frame any) []byte { return compact.Encode(frame) }

// partsOf is the command that asks nodes for a piece of their parts of a room.
type partsOf struct {
	Room  room.Name   `json:"room"`
	After room.UserID `json:"after,omitempty"`
}

// partPiece is a part of a room, or a piece of it: the entries of the first users after a given
// one.
type partPiece struct {
	Number  uint64  `json:"n"`
	Entries []entry `json:"entries,omitempty"`
	More    bool    `json:"more,omitempty"` // further entries follow
	// Position is that of the last message that the node has delivered. Only the first piece has
	// it.
	Position string `json:"position,omitempty"`
	// Peers are the other nodes that have a part of the room, as far as the node knows. Only the
	// first piece lists them.
	Peers []room.NodeID `json:"peers,omitempty"`
}
