package hub

import "example.com/presence/pkg/presence/backplane"

// Stats holds figures of this node. The current figures go up and down. The totals count from the
// start of the hub.
type Stats struct {
	Connections int // current open streams
	Users       int // current users with an open stream
	Rooms       int // current rooms in memory: those in use, and those kept for their history
	Bans        int // current bans

	Joins     uint64 // total users that joined a room and stayed until the end of the flush interval
	Leaves    uint64 // total users counted in Joins that left
	Messages  uint64 // total messages published to the clients of this node
	Counts    uint64 // total user counts published
	Snapshots uint64 // total snapshots encoded, for joiners and for crossings of the member limit
	Resets    uint64 // total clients that could not resume

	LogBytes int // current bytes of the memory log; 0 with another backplane
	LogKeys  int // current idempotency keys of the memory log; 0 with another backplane

	SnapshotsUnsent     int // current snapshots that clients have not taken yet
	SnapshotBytesUnsent int // current bytes of these snapshots
}

// Stats returns the current figures.
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
	return s
}
