package hub

import (
	"context"
	"errors"

	"example.com/presence/pkg/presence/internal/stream"
	"example.com/presence/pkg/presence/room"
)

// Connect takes a slot for a connection of the user in the room, and creates the room if there is
// none. [Hub.Leave] gives the slot back. The error is [ErrDraining], [ErrFull], [ErrUserFull],
// [ErrTooManyRooms], or that of the backplane. After an error there is no slot.
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

// Join counts the connection, and sends the events of the room to its client. A client that resumes
// passes lastID, the id of its last event; otherwise lastID is empty. The error is [ErrBanned],
// [ErrDraining], [ErrTooManyRooms], or that of the backplane. After an error the connection is not
// counted, and still holds its slot.
func (h *Hub) Join(ctx context.Context, conn *Connection, u room.User, client Client, lastID string) error {
	conn.client = client
	for {
		l, err := h.open(ctx, conn.room)
		if err != nil {
			return err
		}
		s, err := l.join(conn, u, l.resume(ctx, lastID))
		h.note(l, s)
		if !errors.Is(err, errClosed) { // else the room was dropped meanwhile: open a new one
			return err
		}
	}
}

// Leave removes a connection from the count and frees its slot. The caller calls it once, when the
// connection has ended or was refused. It ignores nil, the connection that Connect refused.
func (h *Hub) Leave(conn *Connection, why stream.End) {
	if conn == nil || !h.conns.remove(conn) {
		return
	}
	defer h.running.Done()
	h.config.Log.Debug("stream ended", "room", string(conn.room), "user", string(conn.user), "reason", string(why))
	l := h.rooms.find(conn.room) // never nil: a room is not dropped before its last connection has left
	h.note(l, l.leave(conn, reasonOf(why)))
}
