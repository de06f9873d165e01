package hub

import (
	"context"
	"crypto/rand"
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

const (
	// confirmTime is the maximum time that Kick waits until all live nodes have applied the ban.
	confirmTime = time.Second
	// confirmPause is the time between two questions whether a node has applied the ban.
	confirmPause = 100 * time.Millisecond
)

// Kick removes the user from the room, disconnects all its streams there, and bans it from the room
// for d:
//
//  1. It checks on all nodes that the user is in the room.
//  2. It stores the ban in the backplane's table.
//  3. Every node that receives the row records the ban first, and then removes the user. Therefore
//     a join that races with Kick is rejected or disconnected.
//  4. Kick returns when all live nodes have applied the row, or after 1 s.
//
// The error is [ErrBan], [ErrNotInRoom], [ErrTooManyBans], [ErrDraining], or a backplane error.
// After a backplane error the ban may still have been stored. After any other error nothing has
// changed.
func (h *Hub) Kick(ctx context.Context, name room.Name, user room.UserID, d time.Duration) error {
	if d < MinBan || d > MaxBan {
		return ErrBan
	}
	if h.closing.Load() {
		return ErrDraining
	}
	switch present, err := h.isPresent(ctx, name, user); {
	case err != nil:
		return err
	case !present:
		return ErrNotInRoom
	}
	b := ban{V: frameVersion, ID: rand.Text(), Room: name, User: user}
	full := new(backplane.TableFullError)
	switch err := h.config.Bus.Put(ctx, b.key(), b.encode(), d); {
	case errors.As(err, &full):
		return fmt.Errorf("%w (%d)", ErrTooManyBans, full.Limit)
	case errors.Is(err, backplane.ErrTableFull):
		return ErrTooManyBans
	case err != nil:
		return engineError(err)
	}
	h.confirm(ctx, b)
	return nil
}

// confirm returns when all live nodes have applied the ban, or after confirmTime. If the time runs
// out, the ban is already in the table, and the other nodes apply it when the row arrives.
func (h *Hub) confirm(ctx context.Context, b ban) {
	ctx, cancel := context.WithTimeout(ctx, confirmTime)
	defer cancel()
	h.awaitBan(ctx, b)
	if !h.isShared() {
		return
	}
	c := command{V: frameVersion, From: h.node, Confirm: &confirmation{memberID{b.Room, b.User}, b.ID}}
	p := poll{command: c, each: func(a answer) (ok, enough bool) { return a.Confirmed, false }}
	for at := confirmPause; at < confirmTime; at += confirmPause {
		p.again = append(p.again, at)
	}
	for {
		if _, err := p.run(ctx, h); err == nil {
			return
		}
		select { // the engine failed, but may be connected again in time
		case <-time.After(confirmPause):
		case <-ctx.Done():
			return
		}
	}
}

// awaitBan returns when this node has applied the ban, or when ctx ends.
func (h *Hub) awaitBan(ctx context.Context, b ban) {
	for {
		applied, changed := h.bans.applied(b.Room, b.User, b.ID)
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
	b, err := parseBan(row)
	if err != nil {
		h.config.Warn.Warn(context.Background(), "ban row ignored", "err", err)
		return
	}
	if row.Deleted {
		h.bans.remove(b.Room, b.User)
		if l := h.rooms.find(b.Room); l != nil {
			h.note(l, l.lift(b.User))
		}
		return
	}
	now := h.config.Clock.Now()
	until := now.Add(row.Expires.Sub(now)) // with a monotonic reading, so that a step of the clock does not end the ban
	h.bans.set(b.Room, b.User, until)
	if l := h.rooms.find(b.Room); l != nil {
		h.note(l, l.remove(b.User, until, EndRemoved))
	}
	h.bans.apply(b.Room, b.User, b.ID)
}

// BanEnd returns the time at which the user's ban from the room ends. It returns the zero time if
// the user is not banned.
func (h *Hub) BanEnd(name room.Name, user room.UserID) time.Time {
	return h.bans.end(name, user, h.config.Clock.Now())
}
