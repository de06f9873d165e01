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
// responds with an answer. Exactly one field is set.
type command struct {
	V       int         `json:"v"`
	Renew   *renewal    `json:"renew,omitempty"`
	SignOut *signOut    `json:"sign_out,omitempty"`
	Update  *update     `json:"update,omitempty"`
	Find    *memberID   `json:"find,omitempty"`
	Rooms   *roomsAfter `json:"rooms,omitempty"`
	Parts   *partsOf    `json:"parts,omitempty"`
}

// signOut disconnects the streams of a session.
type signOut struct {
	User    room.UserID `json:"user"`
	Session []byte      `json:"session"` // may contain any bytes
}

type memberID struct {
	Room room.Name   `json:"room"`
	User room.UserID `json:"user"`
}

type update struct {
	memberID
	Info  json.RawMessage `json:"info"`
	Stamp room.Version    `json:"stamp,omitzero"`
}

type roomsAfter struct {
	After string `json:"after"`
	Limit int    `json:"limit"`
}

// answer is the response of one node to a command.
type answer struct {
	V     int         `json:"v"`
	From  room.NodeID `json:"from"`
	Part  *partPiece  `json:"part,omitempty"`
	Found bool        `json:"found,omitempty"` // the user of Update or Find is on this node
	Rooms []RoomCount `json:"rooms,omitempty"`
	More  bool        `json:"more,omitempty"`
}

// RoomCount is the name of a room in use, with its number of connections and users.
type RoomCount struct {
	Room        string `json:"room"`
	Connections int    `json:"connections"`
	Users       int    `json:"users"`
}

// commandTime is the maximum time that a command waits for the answers of all nodes.
const commandTime = time.Second

// ask sends the command to all nodes, including this one, and calls each for every answer. It
// returns when all nodes have answered, or after commandTime. The error is
// [backplane.ErrUnavailable] if no node has answered.
func (h *Hub) ask(ctx context.Context, c command, each func(answer)) error {
	request, err := compact.Marshal(c) // json.Marshal would change bytes in the info
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

// broadcast is like ask, for a command whose answers carry no data. While the hub is draining, a
// missing answer is not an error, because the connections of this node are closing or closed.
func (h *Hub) broadcast(ctx context.Context, c command) error {
	err := h.ask(ctx, c, func(answer) {})
	if h.draining.Load() && (errors.Is(err, backplane.ErrClosed) || errors.Is(err, backplane.ErrUnavailable)) {
		return nil
	}
	return err
}

// handleCommand applies a command to this node, and returns the encoded answer.
func (h *Hub) handleCommand(request []byte) []byte {
	var c command
	if err := json.Unmarshal(request, &c); err != nil {
		h.config.Warn.Warn(context.Background(), "backplane command malformed", "err", err)
		return nil
	}
	a := answer{V: frameVersion, From: h.node}
	switch {
	case c.Renew != nil:
		h.conns.renew(*c.Renew)
	case c.SignOut != nil:
		h.conns.signOut(c.SignOut.User, string(c.SignOut.Session))
	case c.Update != nil:
		l := h.rooms.find(c.Update.Room)
		a.Found = l != nil && l.update(c.Update.User, c.Update.Info, c.Update.Stamp)
	case c.Find != nil:
		l := h.rooms.find(c.Find.Room)
		a.Found = l != nil && l.has(c.Find.User)
	case c.Rooms != nil:
		a.Rooms, a.More = h.ownRooms(c.Rooms.After, c.Rooms.Limit)
	case c.Parts != nil:
		if a.Part = h.pieceOf(*c.Parts); a.Part == nil {
			return nil
		}
	}
	return encodeFrame(a)
}

// pieceOf returns a piece of this node's part of a room, or nil if this node is not asked.
func (h *Hub) pieceOf(p partsOf) *partPiece {
	if !h.isShared() || len(p.Of) > 0 && !slices.Contains(p.Of, h.node) {
		return nil
	}
	piece := partPiece{Number: h.floor.get()}
	if l := h.rooms.find(p.Room); l != nil {
		piece = l.piece(p.After)
	}
	return &piece
}

// askNodes sends the command to all nodes, and calls each for every answer. It ends when each
// returns false, when ctx ends, or when these nodes have answered; if the list is nil, all live
// peers, once this node knows them.
func (h *Hub) askNodes(ctx context.Context, c command, nodes []room.NodeID, each func(answer) (more bool)) {
	c.V = frameVersion
	answered := map[room.NodeID]bool{}
	isComplete := func() bool {
		wait := nodes
		if nodes == nil {
			if !h.peers.settled(h.config.Clock.Now()) {
				return false
			}
			wait = h.peers.live()
		}
		return !slices.ContainsFunc(wait, func(node room.NodeID) bool { return !answered[node] })
	}
	h.config.Bus.Ask(ctx, backplane.Nodes, encodeFrame(c), func(data []byte) (more bool) {
		var a answer
		if err := parseFrame(data, &a, &a.V); err != nil {
			h.warnFrame(err)
			return true
		}
		if a.From != h.node && !h.renew(a.From, h.config.Clock.Now()) {
			return true
		}
		answered[a.From] = true
		return each(a) && !isComplete()
	})
}

// ownRooms returns up to limit rooms of this node that have users and a name greater than after,
// sorted by name. more reports whether further rooms follow.
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

// Update replaces the info of a member until the member leaves. info must be one compact JSON
// value. The error is [ErrNotInRoom], [ErrDraining], or a backplane error.
func (h *Hub) Update(ctx context.Context, name room.Name, user room.UserID, info json.RawMessage) error {
	if h.draining.Load() {
		return ErrDraining
	}
	found := false
	err := h.ask(ctx, command{Update: &update{memberID{name, user}, info, h.stamp()}}, func(a answer) { found = found || a.Found })
	if err == nil && !found {
		err = ErrNotInRoom
	}
	return err
}

// stamp returns the version of a new record. A node without peers needs none.
func (h *Hub) stamp() room.Version {
	if !h.isShared() {
		return room.Version{}
	}
	return h.peers.stamp()
}

// isPresent reports whether the user is in the room, on any node.
func (h *Hub) isPresent(ctx context.Context, name room.Name, user room.UserID) (found bool, err error) {
	err = h.ask(ctx, command{Find: &memberID{name, user}}, func(a answer) { found = found || a.Found })
	return found, err
}

// Rooms returns up to limit rooms in use on all nodes, with names greater than after, sorted by
// name. The slice is never nil. more reports whether further rooms follow. The counts of different
// rooms may be from different moments.
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

// mergeRooms merges the rooms of all nodes. It sorts them by name, adds up the counts of each room,
// and truncates the result to limit rooms.
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
// by id, and the counts of the room. For a room that does not exist, the page is empty. The only
// error is [ErrDraining].
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
