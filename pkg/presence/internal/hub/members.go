package hub

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/room"
)

// Rooms returns up to limit rooms in use on all nodes, with names greater than after, sorted by
// name. limit is at most 1000. The slice is never nil. more reports whether further rooms follow.
// The counts of different rooms may be of different times. The error is [ErrDraining] or a
// backplane error. It is [ErrIncomplete] if rooms of other nodes may be missing; the other results
// are valid then.
func (h *Hub) Rooms(ctx context.Context, after string, limit int) (page []RoomCount, more bool, err error) {
	if h.closing.Load() {
		return nil, false, ErrDraining
	}
	page, limit = []RoomCount{}, min(limit, maxRooms)
	add := func(rooms []RoomCount, further bool) { page, more = append(page, rooms...), more || further }
	err = h.ask(ctx, command{Rooms: &roomsAfter{after, limit}}, func(a answer) (enough bool) {
		add(a.Rooms, a.More)
		return false
	})
	switch {
	case h.isShared() && errors.Is(err, backplane.ErrUnavailable):
		add(h.ownRooms(after, limit)) // the answer of this node may be missing too
		err = ErrIncomplete
	case err != nil:
		return nil, false, err
	}
	page, cut := mergeRooms(page, limit)
	return page, more || cut, err
}

// mergeRooms merges the rooms of all nodes, and truncates the result to limit rooms. Every node
// that has users in a room reports the users on all nodes. So of several reports of a room,
// mergeRooms keeps the largest: the others are older, or a frame is on its way to their node.
func mergeRooms(page []RoomCount, limit int) (merged []RoomCount, cut bool) {
	slices.SortFunc(page, func(a, b RoomCount) int {
		return cmp.Or(cmp.Compare(a.Room, b.Room), cmp.Compare(b.Connections, a.Connections), cmp.Compare(b.Users, a.Users))
	})
	merged = slices.CompactFunc(page, func(a, b RoomCount) bool { return a.Room == b.Room })
	return merged[:min(limit, len(merged))], len(merged) > limit
}

// Members returns up to limit members of the room with ids greater than after, sorted by id, and
// the counts of the room. For a room without members, the page is empty. If the room has users only
// on other nodes, Members opens it on this node.
//
// The error is [ErrDraining]; if other nodes are asked, it may also be [ErrTooManyRooms] or a
// backplane error. It is [ErrIncomplete] if members on other nodes may be missing; the page has the
// members that this node knows then.
func (h *Hub) Members(ctx context.Context, name room.Name, after room.UserID, limit int) (Page, error) {
	known, err := h.find(name)
	l, missing := known, h.isCut()
	if err != ErrDraining && h.isShared() && !missing {
		if l, err = h.openExisting(ctx, name, known); errors.Is(err, backplane.ErrUnavailable) {
			l, err, missing = known, ErrNotInRoom, true
		}
	}
	page := Page{Members: []room.Member{}}
	switch {
	case l != nil:
		page = l.members(after, limit)
		missing = missing || page.partial
	case err != ErrNotInRoom:
		return Page{}, err
	}
	if missing {
		return page, ErrIncomplete
	}
	return page, nil
}

// Sizes returns the connections and users of the room, on all nodes. They are 0 if the room is not
// on this node.
func (h *Hub) Sizes(name room.Name) (connections, users int) {
	if l := h.rooms.find(name); l != nil {
		return l.sizes()
	}
	return 0, 0
}

// openExisting opens the room if it is live on this node or has users on another one. l is the live
// room or nil; if another goroutine is opening it, openExisting waits. The error may be
// [ErrNotInRoom].
func (h *Hub) openExisting(ctx context.Context, name room.Name, l *live) (*live, error) {
	if l == nil {
		switch found, err := h.isPresent(ctx, name, ""); {
		case err != nil:
			return nil, err
		case !found:
			return nil, ErrNotInRoom
		}
	}
	return h.openWhole(ctx, name, "")
}

// isPresent reports whether the user is in the room, on any node. An empty user stands for any
// user. One node that has the user is enough; but that no node has it needs the answers of all.
func (h *Hub) isPresent(ctx context.Context, name room.Name, user room.UserID) (found bool, err error) {
	err = h.ask(ctx, command{Find: &memberID{name, user}}, func(a answer) (enough bool) {
		found = found || a.Found
		return found
	})
	return found, err
}
