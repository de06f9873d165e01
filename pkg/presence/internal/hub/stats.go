package hub

import (
	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/internal/stream"
	"example.com/presence/pkg/presence/room"
)

// Stats holds statistics of this node. Gauges are current values. Totals count since the hub was
// opened.
type Stats struct {
	Connections int  // gauge: open streams
	Users       int  // gauge: users with an open stream
	Rooms       int  // gauge: rooms in memory, including unused ones kept for their history
	Bans        int  // gauge: bans
	Peers       int  // gauge: other live nodes
	Shared      bool // other nodes may use the backplane
	Connected   bool // the backplane is connected; always true for one node
	CutOff      bool // the node receives nothing from the backplane

	Joins         uint64                 // total: joins published; a join that is canceled within its flush interval does not count
	Leaves        uint64                 // total: leaves published
	LeaveReasons  map[room.Reason]uint64 // total: leaves published, by reason; has all reasons
	Absorbed      uint64                 // total: connections of a user that was in its grace period, as after a reload; they cause no join
	Messages      uint64                 // total: messages published to the clients of this node
	Accepted      uint64                 // total: messages that this node accepted from its clients and its program, without repetitions
	Counts        uint64                 // total: user counts published
	Coalesced     uint64                 // total: changes of a user count that were published together with a later one, or that it canceled
	Snapshots     uint64                 // total: snapshots encoded, for joiners and for rooms that crossed the member limit
	Replays       uint64                 // total: clients that resumed and had missed messages
	Replayed      uint64                 // total: messages sent to them
	Resets        uint64                 // total: clients that could not resume
	StreamsOpened uint64                 // total: streams counted in a room
	StreamsEnded  map[stream.End]uint64  // total: streams that were counted and have ended, by reason; has all reasons
	RoomsEvicted  uint64                 // total: unused rooms evicted at a limit of rooms
	Hooks         map[string]HookStats   // by name of the hook
	LogBytes      int                    // gauge: size of the memory log in bytes; 0 with another backplane
	LogKeys       int                    // gauge: idempotency keys in the memory log; 0 with another backplane
	LogEvictions  uint64                 // total: messages that the memory log evicted at its byte limit

	SnapshotsUnsent     int // gauge: unsent snapshots
	SnapshotBytesUnsent int // gauge: size of the unsent snapshots in bytes
	ReplaysUnsent       int // gauge: unsent replays
	ReplayBytesUnsent   int // gauge: size of the unsent replays in bytes; the messages of a replay count after 100 ms
}

// Stats returns the current statistics of this node.
func (h *Hub) Stats() Stats {
	t := &h.totals
	s := Stats{
		Rooms:         h.rooms.size(),
		Bans:          h.bans.size(),
		Shared:        h.isShared(),
		Connected:     h.config.Bus.Status().Connected,
		Joins:         t.joins.Load(),
		Leaves:        t.leaves.Load(),
		LeaveReasons:  map[room.Reason]uint64{},
		Absorbed:      t.absorbed.Load(),
		Messages:      t.messages.Load(),
		Accepted:      t.accepted.Load(),
		Counts:        t.counts.Load(),
		Coalesced:     t.coalesced.Load(),
		Snapshots:     t.snapshots.Load(),
		Replays:       t.replays.Load(),
		Replayed:      t.replayed.Load(),
		Resets:        t.resets.Load(),
		StreamsOpened: t.opened.Load(),
		StreamsEnded:  map[stream.End]uint64{},
		RoomsEvicted:  t.evicted.Load(),
		Hooks:         h.hooks.stats(),
	}
	for i, why := range leaveReasons {
		s.LeaveReasons[why] = t.reasons[i].Load()
	}
	for i, why := range streamEnds {
		s.StreamsEnded[why] = t.ends[i].Load()
	}
	s.Connections, s.Users = h.conns.size()
	if m, ok := h.config.Bus.(*backplane.Memory); ok {
		log := m.Stats()
		s.LogBytes, s.LogKeys, s.LogEvictions = log.Bytes, log.Keys, log.Evictions
	}
	s.SnapshotsUnsent, s.SnapshotBytesUnsent = h.snapshots.held()
	s.ReplaysUnsent, s.ReplayBytesUnsent = h.replays.held()
	if h.isShared() {
		s.Peers, s.CutOff = len(h.peers.live()), h.isCut()
	}
	return s
}
