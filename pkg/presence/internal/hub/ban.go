package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/room"
)

// MinBan and MaxBan are the minimum and the maximum duration of a ban.
const MinBan, MaxBan = time.Second, 24 * time.Hour

// ErrBan means that a ban duration is shorter than [MinBan] or longer than [MaxBan].
var ErrBan = fmt.Errorf("ban duration must be %v to %v", MinBan, MaxBan)

// confirmTime is the maximum time that Kick waits until this node has applied the ban.
const confirmTime = time.Second

// Kick removes the user from the room, disconnects all its streams there, and bans it from the room
// for d:
//
//  1. It checks on all nodes that the user is in the room.
//  2. It stores the ban in the backplane's table.
//  3. Every node that receives the row records the ban first, and then removes the user. Therefore
//     a join that races with Kick is rejected or disconnected.
//  4. Kick returns when this node has applied the row, or after 1 s.
//
// The error is [ErrBan], [ErrNotInRoom], [ErrTooManyBans], [ErrDraining], or a backplane error.
// After a backplane error the ban may still have been stored. After any other error nothing has
// changed.
func (h *Hub) Kick(ctx context.Context, name room.Name, user room.UserID, d time.Duration) error {
	if d < MinBan || d > MaxBan {
		return ErrBan
	}
	if h.draining.Load() {
		return ErrDraining
	}
	switch present, err := h.isPresent(ctx, name, user); {
	case err != nil:
		return err
	case !present:
		return ErrNotInRoom
	}
	b := ban{Room: name, User: user, Until: h.config.Clock.Now().Add(d)}
	value, err := json.Marshal(b)
	if err != nil {
		return err
	}
	switch err := h.config.Bus.Put(ctx, b.key(), value, d); {
	case errors.Is(err, backplane.ErrTableFull):
		return ErrTooManyBans
	case err != nil:
		return engineError(err)
	}
	h.awaitBan(ctx, b)
	return nil
}

// awaitBan returns when this node has applied the ban, or after confirmTime. If the time runs out,
// the ban is already in the table, and the node applies it when the row arrives.
func (h *Hub) awaitBan(ctx context.Context, b ban) {
	ctx, cancel := context.WithTimeout(ctx, confirmTime)
	defer cancel()
	for {
		applied, changed := h.bans.applied(b.key(), b.Until)
		if applied {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// applyRow applies a row of the backplane's table. It ignores a row that is not a ban.
func (h *Hub) applyRow(row backplane.Row) {
	if !strings.HasPrefix(row.Key, banPrefix) {
		return
	}
	if row.Deleted {
		h.bans.remove(row.Key)
		return
	}
	b, err := parseBan(row)
	if err != nil {
		h.config.Warn.Warn(context.Background(), "ban row malformed", "err", err)
		return
	}
	h.bans.set(row.Key, b.Until)
	if l := h.rooms.find(b.Room); l != nil {
		h.note(l, l.remove(b.User, row.Expires, EndRemoved))
	}
	h.bans.apply(row.Key)
}

// BanEnd returns the time at which the user's ban from the room ends. It returns the zero time if
// the user is not banned.
func (h *Hub) BanEnd(name room.Name, user room.UserID) time.Time {
	return h.bans.end(name, user, h.config.Clock.Now())
}
