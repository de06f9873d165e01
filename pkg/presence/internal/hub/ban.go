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

// MinBan and MaxBan bound the time of a ban.
const MinBan, MaxBan = time.Second, 24 * time.Hour

// ErrBan: the time of a ban is out of bounds.
var ErrBan = fmt.Errorf("a user is kept out for %v to %v", MinBan, MaxBan)

// confirmTime is how long Kick waits until this node has applied the ban.
const confirmTime = time.Second

// Kick removes the user from the room with all its connections, and bans it from the room for that
// time. The ban is a row of the backplane's table: every node that gets the row removes the user,
// so that a join that races with it ends too. Kick returns when this node has.
//
// The error is [ErrBan], [ErrNotInRoom], [ErrTooManyBans], [ErrDraining], or that of the backplane;
// nothing was done then.
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

// awaitBan returns when this node has applied the ban, or after confirmTime: the row stands, and is
// applied when it comes.
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

// applyRow applies a row of the table.
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
		h.config.Warn.Warn(context.Background(), "row of a ban not readable", "err", err)
		return
	}
	h.bans.set(row.Key, b.Until)
	if l := h.rooms.find(b.Room); l != nil {
		h.note(l, l.remove(b.User, EndRemoved))
	}
	h.bans.apply(row.Key)
}

// BanEnd returns the end of the user's ban from the room; the zero time if there is none.
func (h *Hub) BanEnd(name room.Name, user room.UserID) time.Time {
	return h.bans.end(name, user, h.config.Clock.Now())
}
