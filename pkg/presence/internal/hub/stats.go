package hub

import "example.com/presence/pkg/presence/backplane"

// Stats holds statistics of this node. Gauges are current values. Totals count since the hub was
// opened.
type Stats struct {
	Connections int  // gauge: open streams
	Users       int  // gauge: users with an open stream
	Rooms       int  // gauge: rooms in memory, including unused ones kept for their history
	Bans        int  // gauge: bans
	Peers       int  // gauge: other live nodes
	CutOff      bool // the node receives nothing from the backplane

	Joins     uint64 // total: joins published; a join that is canceled within its flush interval does not count
	Leaves    uint64 // total: leaves published
	Messages  uint64 // total: messages published to the clients of this node
	Counts    uint64 // total: user counts published
	Snapshots uint64 // total: snapshots encoded, for joiners and for rooms that crossed the member limit
	Resets    uint64 // total: clients that could not resume

	LogBytes int // gauge: size of the memory log in bytes; 0 with another backplane
	LogKeys  int // gauge: idempotency keys in the memory log; 0 with another backplane

	SnapshotsUnsent     int // gauge: unsent snapshots
	SnapshotBytesUnsent int // gauge: size of the unsent snapshots in bytes
}

// Stats returns the current statistics of this node.
func (h *Hub) Stats() Stats {
	s := Stats{
		Rooms:     h.rooms.size(),
		Bans:      h.bans.size(),
		Joins:     h.totals.joins.Load(),
		Leaves:    h.totals.leaves.Load(),
		Messages:  h.totals.messages.Load(),
		Counts:    h.totals.counts.Load(),
		Snapshots: h.totals.snapshots.Load(),
		Resets:    h.totals.resets.Load(),
	}
	s.Connections, s.Users = h.conns.size()
	if m, ok := h.config.Bus.(*backplane.Memory); ok {
		log := m.Stats()
		s.LogBytes, s.LogKeys = log.Bytes, log.Keys
	}
	s.SnapshotsUnsent, s.SnapshotBytesUnsent = h.snapshots.held()
	if h.isShared() {
		s.Peers, s.CutOff = len(h.peers.live()), h.isCut()
	}
	return s
}
