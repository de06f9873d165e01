package hub

import (
	"context"
	"errors"

	"example.com/presence/pkg/presence/internal/stream"
	"example.com/presence/pkg/presence/room"
)

// Connect reserves a slot for a connection of the user in the room, and opens the room if
// necessary. [Hub.Leave] releases the slot. The error is [ErrDraining], [ErrFull], [ErrUserFull],
// [ErrTooManyRooms], [ErrUserRooms], [ErrOverloaded], [ErrSnapshots], a [*RateError], or a
// backplane error. If Connect fails, no slot is reserved.
func (h *Hub) Connect(ctx context.Context, name room.Name, user room.UserID, lease Lease) (*Connection, error) {
	if h.draining.Load() {
		return nil, ErrDraining
	}
	conn := newConnection(name, user, lease)
	if err := h.conns.add(conn); err != nil {
		return nil, err
	}
	l, err := h.open(ctx, name, user)
	if err == nil {
		err = h.overloaded(l)
	}
	if err == nil {
		err = l.charge(conn)
	}
	if err != nil {
		h.conns.remove(conn)
		return nil, err
	}
	return conn, nil
}

// Join counts the connection in its room, and sends the events of the room to its client. lastID is
// the id of the last event that a resuming client has received, or empty. The error is [ErrBanned],
// [ErrDraining], [ErrTooManyRooms], [ErrUserRooms], [ErrSnapshots], [ErrReplays], or a backplane
// error. If Join fails, the connection is not counted, but keeps its slot until [Hub.Leave].
func (h *Hub) Join(ctx context.Context, conn *Connection, u room.User, client Client, lastID string) error {
	conn.client = client
	for {
		l, err := h.openWhole(ctx, conn.room, conn.user)
		if err != nil {
			return err
		}
		r := l.resume(ctx, lastID)
		r.gone = ctx.Err() != nil
		s, err := l.join(conn, u, r)
		h.note(l, s)
		if err == nil {
			h.totals.opened.Add(1)
			h.recharge(l)
		}
		if !errors.Is(err, errClosed) { // otherwise the room was dropped in between: open it again
			return err
		}
	}
}

// Leave removes a connection from its room and releases its slot. The caller must call it when the
// connection is closed or was rejected. Leave does nothing if conn is nil or was removed before.
func (h *Hub) Leave(conn *Connection, why stream.End) {
	if conn == nil || !h.conns.remove(conn) {
		return
	}
	defer h.running.Done()
	h.totals.ended(why)
	if why == stream.Slow {
		h.config.Warn.Warn(context.Background(), "slow consumer disconnected", "room", string(conn.room), "user", string(conn.user))
	}
	l := h.rooms.find(conn.room) // never nil, because a room is not dropped before its last connection leaves
	h.note(l, l.leave(conn, reasonOf(why)))
	h.recharge(l)
}

// recharge charges a room to another user if its owner has no connection in it, and another one
// has. So no user has to pay for a room that others use.
func (h *Hub) recharge(l *live) {
	owner, known := h.rooms.owners.of(l)
	if !known || owner == "" {
		return
	}
	if heir, ok := l.heir(owner); ok {
		h.rooms.owners.move(l, heir)
	}
}
