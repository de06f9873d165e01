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
	// confirmTime is the maximum time that a call waits until all live nodes have applied its row.
	confirmTime = time.Second
	// confirmPause is the time between two questions whether a node has applied a row.
	confirmPause = 100 * time.Millisecond
)

// Kick is [Hub.Ban] of a user that is in the room. It checks that on all nodes. The error may also
// be [ErrNotInRoom].
func (h *Hub) Kick(ctx context.Context, name room.Name, user room.UserID, d time.Duration) error {
	if err := h.checkBan(d); err != nil {
		return err
	}
	switch present, err := h.isPresent(ctx, name, user); {
	case err != nil:
		return err
	case !present:
		return ErrNotInRoom
	}
	return h.Ban(ctx, name, user, d)
}

// Ban removes the user from the room, disconnects all its streams there, and bans it from the room
// for d. The user need not be in the room. A second call replaces the ban.
//
//  1. It stores the ban in the backplane's table.
//  2. Every node that receives the row records the ban first, and then removes the user. Therefore
//     a join that races with Ban is rejected or disconnected.
//  3. Ban returns when all live nodes have applied the row, or after 1 s. It may also take 1 s if
//     the ban is lifted meanwhile.
//
// The error is [ErrBan], [ErrTooManyBans], [ErrDraining], or a backplane error. After a backplane
// error the ban may still have been stored. After any other error nothing has changed.
func (h *Hub) Ban(ctx context.Context, name room.Name, user room.UserID, d time.Duration) error {
	if err := h.checkBan(d); err != nil {
		return err
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

// checkBan returns the error of a ban for d that needs no look at the rooms.
func (h *Hub) checkBan(d time.Duration) error {
	switch {
	case d < MinBan || d > MaxBan:
		return ErrBan
	case h.closing.Load():
		return ErrDraining
	}
	return nil
}

// Unban lifts the user's ban from the room. It deletes the row from the backplane's table, and
// returns when all live nodes have applied that and admit the user, or after 1 s. A node of an
// earlier release does not confirm it, so Unban takes 1 s beside one. It may also take 1 s if the
// user is banned again meanwhile.
//
// The error is [ErrNotBanned], [ErrDraining], or a backplane error. If this node does not know the
// ban, it asks the other nodes before it returns ErrNotBanned. If it is cut off or one of them does
// not answer, the error is [backplane.ErrUnavailable]. After a backplane error the ban may still
// have been lifted.
func (h *Hub) Unban(ctx context.Context, name room.Name, user room.UserID) error {
	if h.closing.Load() {
		return ErrDraining
	}
	switch banned, err := h.isBanned(ctx, name, user); {
	case err != nil:
		return err
	case !banned:
		return ErrNotBanned
	}
	b := ban{Room: name, User: user}
	if err := h.config.Bus.Delete(ctx, b.key()); err != nil {
		return engineError(err)
	}
	h.confirm(ctx, b)
	return nil
}

// isBanned reports whether a node knows a ban of the user. One node is enough; but that there is no
// ban needs the answers of all. A node of an earlier release answers as if it knew one.
func (h *Hub) isBanned(ctx context.Context, name room.Name, user room.UserID) (banned bool, err error) {
	if !h.BanEnd(name, user).IsZero() {
		return true, nil
	}
	if h.isCut() {
		return false, backplane.ErrUnavailable
	}
	err = h.ask(ctx, command{Confirm: &confirmation{memberID{name, user}, ""}}, func(a answer) (enough bool) {
		banned = banned || !a.Confirmed
		return banned
	})
	return banned, err
}

// Bans returns up to limit bans from the room, of users with ids greater than after, sorted by id.
// limit is at least 1. The slice belongs to the caller and is never nil. more reports whether
// further bans follow. The error is [ErrDraining]. It is [ErrIncomplete] if this node is cut off,
// and may lack the last changes; the other results are valid then.
func (h *Hub) Bans(name room.Name, after room.UserID, limit int) (page []Ban, more bool, err error) {
	if h.closing.Load() {
		return nil, false, ErrDraining
	}
	page, more = h.bans.after(name, after, limit, h.config.Clock.Now())
	if h.isCut() {
		err = ErrIncomplete
	}
	return page, more, err
}

// confirm returns when all live nodes have applied the row of the ban, or its deletion if b has no
// ID, or after confirmTime. If the time runs out, the table has the change already, and the other
// nodes apply it when they receive it.
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

// awaitBan returns when this node has applied the row of the ban, or its deletion if b has no ID,
// or when ctx ends.
func (h *Hub) awaitBan(ctx context.Context, b ban) {
	for {
		applied, changed := h.bans.applied(b.Room, b.User, b.ID, h.config.Clock.Now())
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
		h.bans.apply(b.Room, b.User, b.ID)
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
