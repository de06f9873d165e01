package hub

import "example.com/presence/pkg/presence/room"

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

// Drop drops the room as its timer would. It returns false if the room has not expired.
func (h *Hub) Drop(name room.Name) bool { return h.rooms.drop(h.rooms.find(name)) }
