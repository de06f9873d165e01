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

// MinBan and MaxBan are the shortest and the longest ban.
const MinBan, MaxBan = time.Second, 24 * time.Hour

// ErrBan: the duration of a ban is out of range.
var ErrBan = fmt.Errorf("ban duration must be %v to %v", MinBan, MaxBan)

// confirmTime is the maximum time that Kick waits until this node has applied the ban.
const confirmTime = time.Second

// Kick removes the user from the room with all its connections, and bans it from there for d. The
// steps are:
//
//  1. Look for the user on all nodes.
//  2. Put the ban into the backplane's table.
//  3. Every node that receives the row notes the ban, and then removes the user. So a join that
//     races with Kick is either refused or ended.
//  4. Kick returns when this node has applied the row, or after 1 s.
//
// The error is [ErrBan], [ErrNotInRoom], [ErrTooManyBans], [ErrDraining], or that of the backplane.
// After an error of the backplane the ban may have been stored nevertheless. After any other error
// nothing has changed.
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

// awaitBan returns when this node has applied the ban, or after confirmTime. In the second case the
// row is in the table, and the node applies it when it arrives.
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

// applyRow applies a row of the backplane's table. It ignores rows that are not bans.
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
		h.note(l, l.remove(b.User, EndRemoved))
	}
	h.bans.apply(row.Key)
}

// BanEnd returns the end of the user's ban from the room, or the zero time if there is none.
func (h *Hub) BanEnd(name room.Name, user room.UserID) time.Time {
	return h.bans.end(name, user, h.config.Clock.Now())
}
