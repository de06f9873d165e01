package hub

import (
	"context"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/room"
)

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
	handler := backplane.Handler{
		Entry: func(e backplane.Entry) { h.note(l, l.receive(e)) },
		Lost:  func() { h.lost(l) },
	}
	if h.isShared() {
		handler.Message = func(data []byte) { h.receiveFrame(l, data) }
	}
	end, err := h.config.Bus.Subscribe(l.name, handler)
	if err != nil {
		return engineError(err)
	}
	l.cancel = end
	if h.isShared() {
		return h.openShared(ctx, l)
	}
	epoch := h.epoch() // the subscription calls Lost if the epoch changes later
	last, err := h.config.Bus.Last(ctx, l.name)
	if err != nil {
		end()
		return engineError(err)
	}
	if l.counter.open(room.Position{Epoch: epoch, Seq: last}) {
		h.repair(l)
	}
	return nil
}

// openShared reads the position and the parts of a room from the other nodes. A node that is cut off
// does not wait: it does not know the position until it has contact again.
func (h *Hub) openShared(ctx context.Context, l *live) error {
	parts := make(chan struct{})
	go func() { // ends after pullTime
		defer close(parts)
		h.openParts(ctx, l)
	}()
	epoch := h.epoch()
	var last uint64
	var err error
	if !h.isCut() {
		last, err = h.config.Bus.Last(ctx, l.name)
	}
	<-parts
	if err != nil {
		l.cancel()
		return engineError(err)
	}
	if l.counter.open(room.Position{Epoch: epoch, Seq: last}) {
		h.repair(l)
	}
	return nil
}

// lost handles the loss of entries and frames of a room.
func (h *Hub) lost(l *live) {
	h.repair(l)
	if h.isShared() {
		l.repeatSoon(h.config.Clock.Now())
		h.greet(allNodes, h.config.Clock.Now())
	}
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
