package hub

import (
	"context"
	"errors"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/room"
)

// open returns the room. If the room does not exist, open creates it for the user creator, and
// subscribes it. creator is empty for the server itself. The error is [ErrDraining],
// [ErrTooManyRooms], [ErrUserRooms], or a backplane error.
func (h *Hub) open(ctx context.Context, name room.Name, creator room.UserID) (*live, error) {
	var started *opening // of a room that this call has created
	l, evicted, err := h.rooms.get(name, creator, func(l *live) {
		started = &opening{done: make(chan struct{})}
		l.opening.Store(started)
		l.start(name, &h.shared, func() { h.note(l, l.wake()) })
		if l.log != nil {
			l.log.catchUp = func() { h.readGaps(l, l.behind()) }
		}
	})
	if evicted != nil {
		h.totals.evicted.Add(1)
		h.rooms.leave(evicted)
	}
	if err != nil {
		return nil, err
	}
	if started != nil {
		h.begin(ctx, l, started)
	}
	if err := l.awaitOpening(); err != nil {
		return nil, err
	}
	return l, nil
}

// begin subscribes a new room. Other callers wait for it.
func (h *Hub) begin(ctx context.Context, l *live, o *opening) {
	defer h.rooms.changing.Done()
	defer close(o.done)
	if o.err = h.subscribe(ctx, l); o.err != nil {
		h.rooms.discard(l)
		return
	}
	l.opening.Store(nil)
}

// subscribe opens the room. Its order ensures that no message is missed:
//
//  1. Subscribe to the messages of the room.
//  2. Read the epoch, and the position of the last message.
//  3. If the subscription has lost messages since, read them from the log.
func (h *Hub) subscribe(ctx context.Context, l *live) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), openTime) // other callers wait for the same room
	defer cancel()
	handler := backplane.Handler{
		Entry: func(e backplane.Entry) {
			s, g := l.receive(e)
			h.note(l, s)
			h.readGaps(l, g)
			h.relieve() // a message of another node cannot be refused
		},
		Lost: func() { h.lost(l) },
	}
	if h.isShared() {
		handler.Message = func(data []byte) { h.receiveFrame(l, data) }
	}
	end, err := h.config.Bus.Subscribe(l.name, handler)
	if err != nil {
		return engineError(err)
	}
	l.ends.add(end)
	if h.isShared() {
		return h.openShared(ctx, l)
	}
	epoch := h.epoch() // the subscription calls Lost if the epoch changes later
	last, err := h.config.Bus.Last(ctx, l.name)
	if err != nil {
		l.ends.call()
		return engineError(err)
	}
	if l.counter.open(room.Position{Epoch: epoch, Seq: last}) {
		h.repair(l)
	}
	return nil
}

// openShared reads the position of a room, and begins to read the parts of the other nodes. A node
// that is cut off does not wait: it does not know the position until it has contact again.
func (h *Hub) openShared(ctx context.Context, l *live) error {
	h.rooms.changing.Go(func() { h.openParts(l) }) // ends after pullTime
	last, err := h.lastOf(ctx, l)
	switch {
	case errors.Is(err, backplane.ErrClosed):
		l.ends.call()
		return engineError(err)
	case err != nil:
		l.openBlind()
		h.repair(l)
	case l.counter.open(last):
		h.repair(l)
	}
	return nil
}

// openWhole is like open, but also waits until the room has the parts of the other nodes.
func (h *Hub) openWhole(ctx context.Context, name room.Name, creator room.UserID) (*live, error) {
	l, err := h.open(ctx, name, creator)
	if err != nil || l.exchange == nil {
		return l, err
	}
	select {
	case <-l.exchange.opened:
		return l, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// lastOf returns the last position of the room's log. If the node is cut off from the other nodes,
// it fails at once, so that clients need not wait. An answer may be lost, and a log that elects a
// leader fails at once, so lastOf asks again for pullTime.
func (h *Hub) lastOf(ctx context.Context, l *live) (room.Position, error) {
	end := h.config.Clock.Now().Add(pullTime)
	for limit := answerTime; ; limit = openTime {
		if h.isCut() {
			return room.Position{}, backplane.ErrUnavailable
		}
		once, cancel := context.WithTimeout(ctx, limit)
		epoch := h.epoch() // the subscription calls Lost if the epoch changes later
		last, err := h.config.Bus.Last(once, l.name)
		cancel()
		if err == nil || errors.Is(err, backplane.ErrClosed) || ctx.Err() != nil || !h.config.Clock.Now().Before(end) {
			return room.Position{Epoch: epoch, Seq: last}, err
		}
		pause(ctx, h.config.Clock, firstPause)
	}
}

// answerTime is the time after which a request for the last position counts as lost, while the
// first client of a room waits.
const answerTime = 700 * time.Millisecond

// lost handles the loss of entries and frames of a room.
func (h *Hub) lost(l *live) {
	h.repair(l)
	if h.isShared() {
		l.repeatSoon(h.config.Clock.Now())
		l.suspectParts(allNodes, h.config.Clock.Now())
		h.peers.greetLater()
	}
}

// repair reads the gaps of a room whose subscription may have lost messages. It does not block.
func (h *Hub) repair(l *live) {
	h.readGaps(l, l.interrupt(h.epoch()))
}

// readGaps reads a gap, and then the gaps found meanwhile. It does not block.
func (h *Hub) readGaps(l *live, g *gap) {
	if g == nil {
		return
	}
	go func() { // ends when the gaps have been read
		for g != nil {
			entries, complete := l.readGap(g)
			s, next := l.repair(*g, entries, complete)
			h.note(l, s)
			g = next
		}
	}()
}
