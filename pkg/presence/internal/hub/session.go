package hub

import (
	"context"
	"errors"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/room"
)

// broadcast sends a command whose answers carry no data. The error is [backplane.ErrUnavailable] if
// a live node has not answered. The command may then have been applied, and may be repeated.
//
// While the hub is closing, a missing answer of this node is not an error, because its connections
// are closing or closed. Nor is it one that the bus is closed.
func (h *Hub) broadcast(ctx context.Context, c command) error {
	err := h.ask(ctx, c, func(answer) bool { return false })
	if h.closing.Load() && (errors.Is(err, backplane.ErrClosed) || !h.isShared() && errors.Is(err, backplane.ErrUnavailable)) {
		return nil
	}
	return err
}

// Renew extends the leases of the user's connections to l.Expires, on all nodes. It applies to
// connections that have the SID of l and are in a room that matches the patterns. It never shortens
// a lease. Connections of the session from move to the session l.Session.
func (h *Hub) Renew(ctx context.Context, user room.UserID, join room.Patterns, l Lease, from string) error {
	if l.Expires.Year() > 9999 { // JSON cannot encode such a year: use a lease that never expires
		l.Expires = time.Time{}
	}
	r := renewal{User: user, SID: []byte(l.SID), Expires: l.Expires, Join: join, From: []byte(from), To: []byte(l.Session)}
	return h.broadcast(ctx, command{Renew: &r})
}

// SignOut disconnects the user's streams that belong to the session, on all nodes.
func (h *Hub) SignOut(ctx context.Context, user room.UserID, session string) error {
	return h.broadcast(ctx, command{SignOut: &signOut{user, []byte(session)}})
}
