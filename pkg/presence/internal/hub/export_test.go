package hub

import (
	"example.com/presence/pkg/presence/internal/fair"
	"example.com/presence/pkg/presence/room"
)

// WithRoomsLocked calls f while the registry is locked, so that no room can be found, created or
// dropped.
func (h *Hub) WithRoomsLocked(f func()) {
	h.rooms.mu.Lock()
	defer h.rooms.mu.Unlock()
	f()
}

// Recent returns the number of recent messages that the room keeps for joiners and resuming
// clients.
func (h *Hub) Recent(name room.Name) int {
	l := h.rooms.find(name)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waits == nil {
		return 0
	}
	return len(l.waits.recent)
}

// Announce passes a position to the room, as another node would announce it.
func (h *Hub) Announce(name room.Name, p room.Position) {
	if l := h.rooms.find(name); l != nil {
		l.announced(p)
	}
}

// AnnounceFrom passes the start of a range to the room, as another node would announce it.
func (h *Hub) AnnounceFrom(name room.Name, p room.Position) {
	if l := h.rooms.find(name); l != nil {
		l.announcedFrom(p)
	}
}

// RingFrom returns the position from which the room's ring is complete, and its number of entries.
func (h *Hub) RingFrom(name room.Name) (from uint64, entries int) {
	l := h.rooms.find(name)
	h.rings.mu.Lock()
	defer h.rings.mu.Unlock()
	return l.log.ring.from, len(l.log.ring.entries)
}

// RingBytes returns the size of the entries in all rings.
func (h *Hub) RingBytes() int {
	h.rings.mu.Lock()
	defer h.rings.mu.Unlock()
	return h.rings.bytes
}

// LimitReplays replaces the replay budget: it has space for twice the log, and for the own part of
// replays of this many messages. Call it before the first replay.
func (h *Hub) LimitReplays(messages int) {
	h.replays.budget = fair.NewBudget(2*h.config.MaxReplay + replayCost*messages)
}

// HeldReplays returns the number of unsent replays, and the bytes that they take of the budget.
func (h *Hub) HeldReplays() (count, bytes int) { return h.replays.held() }

// KeepsLog reports whether the room has the state for a log that other nodes use.
func (h *Hub) KeepsLog(name room.Name) bool { return h.rooms.find(name).log != nil }

// Drop drops the room as its timer would. It returns false if the room has not expired.
func (h *Hub) Drop(name room.Name) bool { return h.rooms.drop(h.rooms.find(name)) }

// RoomOf returns the room that is passed to Config.Count, or nil if the node does not have it.
func (h *Hub) RoomOf(name room.Name) *room.Room {
	if l := h.rooms.find(name); l != nil {
		return &l.counter.room
	}
	return nil
}

// HandleCommand handles a command as if the bus had delivered it.
func (h *Hub) HandleCommand(request []byte) []byte { return h.handleCommand(request) }

// Awaited returns the number of announced positions that the room remembers.
func (h *Hub) Awaited(name room.Name) int {
	l := h.rooms.find(name)
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.log.awaited)
}

// LimitEntries sets the maximum number of entries in a frame, and in a piece of a part.
func (c *Config) LimitEntries(n int) { c.entries, c.pieceEntries = n, n }

// NodeID returns the id of this node.
func (h *Hub) NodeID() string { return string(h.node) }

// Owners returns the number of users that own a room, including the server itself.
func (h *Hub) Owners() int {
	h.rooms.owners.mu.Lock()
	defer h.rooms.owners.mu.Unlock()
	return h.rooms.owners.all.Len()
}

// Expiries returns the number of connections whose expiry the hub will handle.
func (h *Hub) Expiries() int {
	h.shared.conns.mu.Lock()
	defer h.shared.conns.mu.Unlock()
	return len(h.shared.conns.expiries)
}
