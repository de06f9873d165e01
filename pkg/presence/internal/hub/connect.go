package hub

import (
	"context"
	"errors"

	"example.com/presence/pkg/presence/internal/stream"
	"example.com/presence/pkg/presence/room"
)

// Connect takes a slot for a connection of the user in the room, and sees that the room exists.
// [Hub.Leave] gives the slot back. The error is [ErrDraining], [ErrFull], [ErrUserFull] or
// [ErrTooManyRooms], or that of the backplane; there is no slot then.
func (h *Hub) Connect(ctx context.Context, name room.Name, user room.UserID, l Lease) (*Connection, error) {
	if h.draining.Load() {
		return nil, ErrDraining
	}
	conn := &Connection{room: name, user: user, sid: l.SID, session: l.Session, expires: expiryOf(l.Expires)}
	if err := h.conns.add(conn); err != nil {
		return nil, err
	}
	if _, err := h.open(ctx, name); err != nil {
		h.conns.remove(conn)
		return nil, err
	}
	return conn, nil
}

// Join counts the connection, and has its client receive the events of the room, from the id that
// it resumes with if there is one. The error is [ErrBanned], [ErrDraining] or [ErrTooManyRooms], or
// that of the backplane; then the connection is not counted, and still has its slot.
func (h *Hub) Join(ctx context.Context, conn *Connection, u room.User, client Client, lastID string) error {
	conn.client = client
	for {
		l, err := h.open(ctx, conn.room)
		if err != nil {
			return err
		}
		s, err := l.join(conn, u, l.resume(ctx, lastID))
		h.note(l, s)
		if !errors.Is(err, errClosed) { // else the room was dropped meanwhile: there is a new one
			return err
		}
	}
}

// Leave ends a connection: it is no longer counted, and its slot is free. It is called once, when
// the connection has ended or was refused. A nil connection, as Connect refused it, is ignored.
func (h *Hub) Leave(conn *Connection, why stream.End) {
	if conn == nil || !h.conns.remove(conn) {
		return
	}
	defer h.running.Done()
	h.config.Log.Debug("stream ended", "room", string(conn.room), "user", string(conn.user), "reason", string(why))
	l := h.rooms.find(conn.room) // a room is not dropped before its last connection has left
	h.note(l, l.leave(conn, reasonOf(why)))
}
