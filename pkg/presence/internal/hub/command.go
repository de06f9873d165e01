package hub

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/internal/compact"
	"example.com/presence/pkg/presence/room"
)

// command is a request to all nodes. Each node applies it to its own connections and rooms, and
// answers. Exactly one field is set.
type command struct {
	Renew   *renewal    `json:"renew,omitempty"`
	SignOut *signOut    `json:"sign_out,omitempty"`
	Update  *update     `json:"update,omitempty"`
	Find    *memberID   `json:"find,omitempty"`
	Rooms   *roomsAfter `json:"rooms,omitempty"`
}

// signOut ends the connections that belong to a session.
type signOut struct {
	User    room.UserID `json:"user"`
	Session []byte      `json:"session"` // any bytes
}

// memberID identifies a member.
type memberID struct {
	Room room.Name   `json:"room"`
	User room.UserID `json:"user"`
}

// update replaces the info of a member.
type update struct {
	memberID
	Info json.RawMessage `json:"info"`
}

// roomsAfter requests the rooms in use with names greater than After.
type roomsAfter struct {
	After string `json:"after"`
	Limit int    `json:"limit"`
}

// answer is the answer of a node to a command.
type answer struct {
	Found bool        `json:"found,omitempty"` // answers Update and Find
	Rooms []RoomCount `json:"rooms,omitempty"`
	More  bool        `json:"more,omitempty"`
}

// RoomCount is a room in use, with its number of connections and of users.
type RoomCount struct {
	Room        string `json:"room"`
	Connections int    `json:"connections"`
	Users       int    `json:"users"`
}

// commandTime is the maximum time that a command waits for the answers of all nodes.
const commandTime = time.Second

// ask sends the command to all nodes, this one included, and calls each with every answer. It
// returns when all nodes have answered, or after commandTime. The error is
// [backplane.ErrUnavailable] if no node has answered.
func (h *Hub) ask(ctx context.Context, c command, each func(answer)) error {
	request, err := compact.Marshal(c) // json.Marshal would change the bytes of an info
	if err != nil {
		return fmt.Errorf("encode command: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	answered := false
	err = h.config.Bus.Ask(ctx, backplane.Nodes, request, func(data []byte) (more bool) {
		var a answer
		if json.Unmarshal(data, &a) == nil {
			answered = true
			each(a)
		}
		return true
	})
	if err == nil && !answered {
		err = backplane.ErrUnavailable
	}
	return engineError(err)
}

// broadcast is ask for a command whose answers carry no data. While the hub is draining, a missing
// answer is no error: the connections of this node have ended or are ending.
func (h *Hub) broadcast(ctx context.Context, c command) error {
	err := h.ask(ctx, c, func(answer) {})
	if h.draining.Load() && (errors.Is(err, backplane.ErrClosed) || errors.Is(err, backplane.ErrUnavailable)) {
		return nil
	}
	return err
}

// handleCommand applies a command to this node.
func (h *Hub) handleCommand(request []byte) []byte {
	var c command
	if err := json.Unmarshal(request, &c); err != nil {
		h.config.Warn.Warn(context.Background(), "command malformed", "err", err)
		return nil
	}
	var a answer
	switch {
	case c.Renew != nil:
		h.conns.renew(*c.Renew)
	case c.SignOut != nil:
		h.conns.signOut(c.SignOut.User, string(c.SignOut.Session))
	case c.Update != nil:
		l := h.rooms.find(c.Update.Room)
		a.Found = l != nil && l.update(c.Update.User, c.Update.Info)
	case c.Find != nil:
		l := h.rooms.find(c.Find.Room)
		a.Found = l != nil && l.has(c.Find.User)
	case c.Rooms != nil:
		a.Rooms, a.More = h.ownRooms(c.Rooms.After, c.Rooms.Limit)
	}
	b, err := json.Marshal(a)
	if err != nil {
		return nil
	}
	return b
}

// ownRooms returns up to limit rooms of this node that have members and a name greater than after,
// sorted by name. more reports whether other rooms follow.
func (h *Hub) ownRooms(after string, limit int) (page []RoomCount, more bool) {
	for _, l := range h.rooms.all(after) {
		connections, users := l.sizes()
		switch {
		case users == 0:
		case len(page) == limit:
			return page, true
		default:
			page = append(page, RoomCount{string(l.name), connections, users})
		}
	}
	return page, false
}

// Renew extends the leases of the user's connections to l.Expires, on all nodes. It applies to the
// connections with the SID of l, in rooms that the patterns match, and never shortens a lease.
// Those that belong to the session from belong to l.Session afterwards.
func (h *Hub) Renew(ctx context.Context, user room.UserID, join room.Patterns, l Lease, from string) error {
	if l.Expires.Year() > 9999 { // JSON has no such year: the lease never ends
		l.Expires = time.Time{}
	}
	r := renewal{User: user, SID: []byte(l.SID), Expires: l.Expires, Join: join, From: []byte(from), To: []byte(l.Session)}
	return h.broadcast(ctx, command{Renew: &r})
}

// SignOut ends the user's connections that belong to the session, on all nodes.
func (h *Hub) SignOut(ctx context.Context, user room.UserID, session string) error {
	return h.broadcast(ctx, command{SignOut: &signOut{user, []byte(session)}})
}

// Update replaces the info of a member until it leaves. info is one compact JSON value. The error
// is [ErrNotInRoom], [ErrDraining], or that of the backplane.
func (h *Hub) Update(ctx context.Context, name room.Name, user room.UserID, info json.RawMessage) error {
	if h.draining.Load() {
		return ErrDraining
	}
	found := false
	err := h.ask(ctx, command{Update: &update{memberID{name, user}, info}}, func(a answer) { found = found || a.Found })
	if err == nil && !found {
		err = ErrNotInRoom
	}
	return err
}

// isPresent reports whether the user is in the room on any node.
func (h *Hub) isPresent(ctx context.Context, name room.Name, user room.UserID) (found bool, err error) {
	err = h.ask(ctx, command{Find: &memberID{name, user}}, func(a answer) { found = found || a.Found })
	return found, err
}

// Rooms returns up to limit rooms in use on all nodes, with names greater than after, sorted by
// name. The slice is never nil. more reports whether other rooms follow. The counts of two rooms
// may be from different moments.
func (h *Hub) Rooms(ctx context.Context, after string, limit int) (page []RoomCount, more bool, err error) {
	if h.draining.Load() {
		return nil, false, ErrDraining
	}
	page = []RoomCount{}
	err = h.ask(ctx, command{Rooms: &roomsAfter{after, limit}}, func(a answer) {
		page, more = append(page, a.Rooms...), more || a.More
	})
	page, cut := mergeRooms(page, limit)
	return page, more || cut, err
}

// mergeRooms merges the rooms of all nodes: it sorts them by name, adds up the counts of each room,
// and cuts the page at the limit.
func mergeRooms(page []RoomCount, limit int) (merged []RoomCount, cut bool) {
	slices.SortStableFunc(page, func(a, b RoomCount) int { return cmp.Compare(a.Room, b.Room) })
	merged = page[:0]
	for _, r := range page {
		if last := len(merged) - 1; last >= 0 && merged[last].Room == r.Room {
			merged[last].Connections += r.Connections
			merged[last].Users += r.Users
		} else if len(merged) == limit {
			return merged, true
		} else {
			merged = append(merged, r)
		}
	}
	return merged, false
}

// Members returns up to limit members of the room on this node with ids greater than after, sorted
// by id, and the counts of the room. A room that does not exist is empty. The error is
// [ErrDraining].
func (h *Hub) Members(name room.Name, after room.UserID, limit int) (Page, error) {
	l, err := h.find(name)
	switch {
	case err == nil:
		return l.members(after, limit), nil
	case err == ErrNotInRoom:
		return Page{Members: []room.Member{}}, nil
	}
	return Page{}, err
}
