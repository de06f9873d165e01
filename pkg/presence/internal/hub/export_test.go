package hub

// WithRoomsLocked calls f while no room can be found, created or dropped.
func (h *Hub) WithRoomsLocked(f func()) {
	h.rooms.mu.Lock()
	defer h.rooms.mu.Unlock()
	f()
}
