package room

import (
	"cmp"
	"encoding/json"
	"slices"
	"time"
)

// NodeID identifies one run of a node. A node draws it at start, so a node that restarts is another
// node to its peers.
type NodeID string

// Version orders the records of a user. A record is a display name and info. The record of a token
// has the zero Version, which is the lowest.
type Version struct {
	Counter uint64 `json:"counter,omitempty"` // Lamport counter
	Node    NodeID `json:"node,omitempty"`    // distinguishes equal counters
}

// Compare returns -1, 0 or 1 if v is lower than, equal to or higher than w.
func (v Version) Compare(w Version) int {
	return cmp.Or(cmp.Compare(v.Counter, w.Counter), cmp.Compare(v.Node, w.Node))
}

// Presence is one user in one node's part of a room. The node of the part alone changes it.
type Presence struct {
	ID          UserID
	Name        string
	Info        json.RawMessage
	Version     Version   // of Name and Info
	Since       time.Time // when the user joined the room
	Connections int       // on this node
	Until       time.Time // end of the grace period if Connections is 0, by the clock of the reader
	Reason      Reason    // why the last connection closed, if Connections is 0
}

// ended reports whether the user has neither a connection on the node nor a grace period.
func (p *Presence) ended(now time.Time) bool { return p.Connections == 0 && !p.Until.After(now) }

// beats reports whether the record of p is used instead of that of q. The higher version wins. Of
// two records of tokens, that of the first connection wins.
func (p *stake) beats(q *stake) bool {
	return cmp.Or(p.Version.Compare(q.Version), q.Since.Compare(p.Since), cmp.Compare(q.node, p.node)) > 0
}

// parts holds the parts of all nodes, including this node. The members of the room are a function
// of these parts, the bans and the time:
//
//	present       if one part has a connection of the user or a grace period, and no ban is active
//	connections   the sum
//	since         the earliest
//	name, info    the record with the highest version
//	reason        of the part whose grace period ends last
//
// A node that has a worse record of a user than another part adopts the better record, so the
// record stays when the other part ends.
type parts struct {
	node        NodeID // of this node
	margin      time.Duration
	connections int // of all members

	nodes   map[NodeID]*part
	stakes  map[UserID][]stake // by node
	bans    map[UserID]time.Time
	ends    ends
	changed map[UserID]Reason // users of this node's part that Delta has not returned; with the reason of those that are gone
}

type part struct {
	users       map[UserID]struct{}
	connected   int // users with a connection
	connections int
}

type stake struct {
	node NodeID
	Presence
}

func newParts(node NodeID, margin time.Duration) *parts {
	return &parts{node: node, margin: margin, nodes: map[NodeID]*part{}, stakes: map[UserID][]stake{}, bans: map[UserID]time.Time{},
		ends: ends{users: map[UserID]*userEnd{}}, changed: map[UserID]Reason{}}
}

// of returns the user's stake in the node's part, or nil.
func (ps *parts) of(node NodeID, u UserID) *stake {
	for i := range ps.stakes[u] {
		if s := &ps.stakes[u][i]; s.node == node {
			return s
		}
	}
	return nil
}

// set stores a presence. The caller must call settle for the user.
func (ps *parts) set(node NodeID, p Presence) {
	n := ps.nodes[node]
	if n == nil {
		n = &part{users: map[UserID]struct{}{}}
		ps.nodes[node] = n
	}
	old := ps.of(node, p.ID)
	if old == nil {
		ps.stakes[p.ID] = append(ps.stakes[p.ID], stake{node: node})
		old = ps.of(node, p.ID)
		n.users[p.ID] = struct{}{}
	}
	n.connected += min(p.Connections, 1) - min(old.Connections, 1)
	n.connections += p.Connections - old.Connections
	old.Presence = p
}

// nextEnd returns the first time after now at which a grace period or the ban of the user ends, or
// the zero time if there is none.
func (ps *parts) nextEnd(u UserID, now time.Time) (end time.Time) {
	if until := ps.bans[u]; until.After(now) {
		end = until
	}
	for _, s := range ps.stakes[u] {
		if s.Connections == 0 && s.Until.After(now) && (end.IsZero() || s.Until.Before(end)) {
			end = s.Until
		}
	}
	return end
}

// forgetEnded drops the user's stakes that have ended.
func (ps *parts) forgetEnded(u UserID, now time.Time) {
	rest := slices.DeleteFunc(ps.stakes[u], func(s stake) bool {
		if s.ended(now) {
			n := ps.nodes[s.node]
			if delete(n.users, u); len(n.users) == 0 {
				delete(ps.nodes, s.node)
			}
			return true
		}
		return false
	})
	if ps.stakes[u] = rest; len(rest) == 0 {
		delete(ps.stakes, u)
	}
}
