package hub

import (
	"context"
	"sync/atomic"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/room"
)

// Hub runs the live rooms of one node. [Open] creates a Hub. Its methods are safe for concurrent
// use.
type Hub struct {
	shared
	rooms       rooms
	lastMessage atomic.Uint64 // number of this node's last message
	draining    atomic.Bool
	closed      chan struct{} // closed when the hub has shut down
	cancel      []func()      // cancel the subscriptions to commands and bans
}

// note passes the state of a room to the registry. It drops the room if it has expired.
func (h *Hub) note(l *live, s state) {
	h.rooms.unused.note(l, s)
	if s.expired && h.rooms.drop(l) {
		l.unsubscribe()
	}
}

// unsubscribe cancels the subscription of a dropped room. The caller must not hold a lock.
func (l *live) unsubscribe() {
	l.opening.Do(func() {}) // wait for a concurrent opening
	if l.cancel != nil {
		l.cancel()
	}
}

// open returns the room. If the room does not exist, open creates and subscribes it. The error is
// [ErrDraining], [ErrTooManyRooms], or a backplane error.
func (h *Hub) open(ctx context.Context, name room.Name) (*live, error) {
	l, evicted, err := h.rooms.get(name, func(l *live) {
		l.start(name, &h.shared, func() { h.note(l, l.wake()) })
	})
	if evicted != nil {
		evicted.unsubscribe()
	}
	if err != nil {
		return nil, err
	}
	l.opening.Do(func() {
		if err := h.subscribe(ctx, l); err != nil {
			l.failed = &err
			h.rooms.discard(l)
		}
	})
	if l.failed != nil {
		return nil, *l.failed
	}
	return l, nil
}

// openTime is the timeout of the backplane calls that open a room or read a gap.
const openTime = 2 * time.Second

// subscribe opens the room. Its order ensures that no message is missed:
//
//  1. Subscribe to the messages of the room.
//  2. Read the epoch, and the position of the last message.
//  3. If the subscription has lost messages since, read them from the log.
func (h *Hub) subscribe(ctx context.Context, l *live) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), openTime) // other callers wait for the same room
	defer cancel()
	end, err := h.config.Bus.Subscribe(l.name, backplane.Handler{
		Entry: func(e backplane.Entry) { h.note(l, l.receive(e)) },
		Lost:  func() { h.repair(l) },
	})
	if err != nil {
		return engineError(err)
	}
	epoch := h.epoch() // the subscription calls Lost if the epoch changes later
	last, err := h.config.Bus.Last(ctx, l.name)
	if err != nil {
		end()
		return engineError(err)
	}
	l.cancel = end
	if l.counter.open(room.Position{Epoch: epoch, Seq: last}) {
		h.repair(l)
	}
	return nil
}

// repair reads the gaps of a room whose subscription may have lost messages. It does not block.
func (h *Hub) repair(l *live) {
	g := l.interrupt(h.epoch())
	if g == nil {
		return
	}
	go func() { // ends when the gaps have been read
		for g != nil {
			g = h.readGap(l, *g)
		}
	}()
}

// readGap reads a gap and publishes its messages. It returns the next gap, if there is one.
func (h *Hub) readGap(l *live, g gap) *gap {
	ctx, cancel := context.WithTimeout(context.Background(), openTime)
	defer cancel()
	entries, complete, err := h.config.Bus.Read(ctx, l.name, g.after)
	if err != nil {
		h.config.Warn.Warn(ctx, "message log read failed: sending reset events", "err", err)
	}
	s, next := l.repair(g, entries, complete && err == nil)
	h.note(l, s)
	return next
}

// find returns the room. The error is [ErrNotInRoom] if the room does not exist on this node. It is
// [ErrDraining] if the hub is draining, because the members then reconnect to other nodes.
func (h *Hub) find(name room.Name) (*live, error) {
	if h.draining.Load() {
		return nil, ErrDraining
	}
	if l := h.rooms.find(name); l != nil {
		return l, nil
	}
	return nil, ErrNotInRoom
}

// Draining reports whether the hub is shutting down.
func (h *Hub) Draining() bool { return h.draining.Load() }
