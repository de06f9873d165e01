package hub

import "example.com/presence/pkg/presence/backplane"

// Stats are figures of this node. Numbers of now go up and down; totals count since the start.
type Stats struct {
	Connections int // open streams, now
	Users       int // users with an open stream, now
	Rooms       int // rooms in memory, now: those in use, and those kept for their history
	Bans        int // bans in force, now

	Joins     uint64 // users that came into a room, and were there at the end of the flush interval
	Leaves    uint64 // users of Joins that left
	Messages  uint64 // messages published to the clients of this node
	Counts    uint64 // user counts published
	Snapshots uint64 // snapshots encoded for joiners and crossings of the member limit
	Resets    uint64 // clients that could not resume

	LogBytes int // bytes of the message log in memory, now; 0 with another backplane
	LogKeys  int // its idempotency keys, now

	SnapshotsUnsent     int // snapshots that clients have not taken yet, now
	SnapshotBytesUnsent int // their bytes
}

// Stats returns the figures of now.
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
