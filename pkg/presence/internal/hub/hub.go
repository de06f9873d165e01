package hub

import (
	"context"
	"sync/atomic"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/room"
)

// Hub is the live rooms of one node, with their members, connections and messages. [Open] returns
// one; its methods are safe for concurrent use.
type Hub struct {
	shared
	rooms       rooms
	lastMessage atomic.Uint64 // number of the last message of this node
	draining    atomic.Bool
	closed      chan struct{} // closed when Close is done
	cancel      []func()      // the subscriptions
}

// note passes the state of a room on to the registry, which may drop the room.
func (h *Hub) note(l *live, s state) {
	h.rooms.unused.note(l, s)
	if s.expired && h.rooms.drop(l) {
		l.unsubscribe()
	}
}

// unsubscribe ends the subscription of a room that was dropped. No lock is held.
func (l *live) unsubscribe() {
	l.opening.Do(func() {}) // waits until it is open
	if l.cancel != nil {
		l.cancel()
	}
}

// open returns a room, which it creates and subscribes to if there is none. The error is
// [ErrDraining], [ErrTooManyRooms], or that of the backplane.
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

// openTime is how long the backplane may take to open a room.
const openTime = 2 * time.Second

// subscribe has the room receive its messages, and reads the position of the last one.
func (h *Hub) subscribe(ctx context.Context, l *live) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), openTime) // others wait for it too
	defer cancel()
	end, err := h.config.Bus.Subscribe(l.name, backplane.Handler{
		Entry: func(e backplane.Entry) { h.note(l, l.receive(e)) },
		Lost:  func() { h.repair(l) },
	})
	if err != nil {
		return engineError(err)
	}
	epoch := h.epoch() // the engine calls Lost when it changes from now on
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

// repair reads the log of a room whose subscription may have lost messages.
func (h *Hub) repair(l *live) {
	g := l.interrupt(h.epoch())
	if g == nil {
		return
	}
	go func() { // ends with the answer of the log, unless messages were lost meanwhile
		for g != nil {
			g = h.readGap(l, *g)
		}
	}()
}

// readGap reads a gap and has its messages published. It returns the next gap, nil if there is
// none.
func (h *Hub) readGap(l *live, g gap) *gap {
	ctx, cancel := context.WithTimeout(context.Background(), openTime)
	defer cancel()
	entries, complete, err := h.config.Bus.Read(ctx, l.name, g.after)
	if err != nil {
		h.config.Warn.Warn(ctx, "message log not read: clients get reset", "err", err)
	}
	s, next := l.repair(g, entries, complete && err == nil)
	h.note(l, s)
	return next
}

// find returns a room. The error is [ErrDraining], as its members are leaving, and where to is not
// known here, or [ErrNotInRoom] if there is no such room.
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
