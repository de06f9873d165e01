package hub

import (
	"context"
	"sync/atomic"

	"example.com/presence/pkg/presence/room"
)

// Hub runs the live rooms of one node. [Open] creates a Hub. Its methods are safe for concurrent
// use.
type Hub struct {
	shared
	rooms       rooms
	lastMessage atomic.Uint64   // number of this node's last message
	draining    atomic.Bool     // no client may connect
	closing     atomic.Bool     // all other operations end too; set when the last goodbyes are due
	stopping    context.Context // ends when closing is set
	stop        func()          // ends stopping
	closed      chan struct{}   // closed when the hub has shut down
	cancel      []func()        // cancel the subscriptions to commands and bans
}

// note passes the state of a room to the registry. It drops the room if it has expired.
func (h *Hub) note(l *live, s state) {
	h.rooms.owners.note(l, s)
	if s.expired && h.rooms.drop(l) {
		h.rooms.leave(l)
	}
}

// find returns the room. The error is [ErrNotInRoom] if the room does not exist on this node. It is
// [ErrDraining] if the hub is closing, because the members then reconnect to other nodes.
func (h *Hub) find(name room.Name) (*live, error) {
	if h.closing.Load() {
		return nil, ErrDraining
	}
	if l := h.rooms.find(name); l != nil {
		return l, nil
	}
	return nil, ErrNotInRoom
}

// Draining reports whether the hub is shutting down.
func (h *Hub) Draining() bool { return h.draining.Load() }

// Contact reports whether this node has ever had contact with the backplane, and whether it has
// none now. The contact is down if the engine is not connected or if this node is cut off.
func (h *Hub) Contact() (ever, down bool) {
	s := h.config.Bus.Status()
	return s.Epoch != "", !s.Connected || h.isCut()
}

// isShared reports whether other nodes may use the backplane.
func (h *Hub) isShared() bool { return h.peers != nil }

// isCut reports whether this node is cut off from the backplane.
func (h *Hub) isCut() bool {
	return h.isShared() && (h.peers.isCut() || !h.config.Bus.Status().Connected)
}

// Overloaded returns [ErrOverloaded] if the room is on this node, and its clients are too far
// behind for a message or a state.
func (h *Hub) Overloaded(name room.Name) error {
	if l := h.rooms.find(name); l != nil {
		return h.overloaded(l)
	}
	return nil
}

// overloaded returns [ErrOverloaded] if the clients of the room are too far behind. It disconnects
// stalled clients if those of all rooms are.
func (h *Hub) overloaded(l *live) error {
	h.relieve()
	if l.stream.Overloaded() {
		return ErrOverloaded
	}
	return nil
}

// relieve disconnects stalled clients if the limit of all unsent events is exceeded.
func (h *Hub) relieve() {
	excess := h.config.Streams.Excess()
	if excess <= 0 {
		return
	}
	h.relief.relieve(excess, &h.conns, func(name room.Name) bool {
		l := h.rooms.find(name)
		return l != nil && l.stream.Overloaded()
	}, h.config.Clock.Now())
}
