package hub

import "slices"

// handleCommand applies a command to this node, and returns the encoded answer. It returns nil if
// this node must not answer: the command is malformed, has an unknown version or no known field, or
// is for other nodes. A command does not renew the lease of its node, because a node that shuts
// down may still repeat one. Its work is bounded by the size of the command and of this node's
// state.
func (h *Hub) handleCommand(request []byte) []byte {
	c, err := parseCommand(request)
	if err != nil {
		h.warnFrame(err)
		return nil
	}
	if len(c.Of) > 0 && !slices.Contains(c.Of, h.node) {
		return nil
	}
	a := answer{V: frameVersion, From: h.node}
	if !h.apply(c, &a) {
		return nil
	}
	return encodeFrame(a)
}

// apply applies a command and fills in the answer. It returns false if there is none.
func (h *Hub) apply(c command, a *answer) bool {
	switch {
	case c.Renew != nil:
		h.conns.renew(*c.Renew)
	case c.SignOut != nil:
		h.conns.signOut(c.SignOut.User, string(c.SignOut.Session))
	case c.Update != nil:
		h.applyUpdate(*c.Update, a)
	case c.Find != nil:
		l := h.rooms.find(c.Find.Room)
		a.Found = l != nil && (l.has(c.Find.User) || c.Find.User == "" && l.hasOwn())
	case c.Rooms != nil:
		a.Rooms, a.More = h.ownRooms(c.Rooms.After, c.Rooms.Limit)
	case c.Confirm != nil:
		a.Confirmed, _ = h.bans.applied(c.Confirm.Room, c.Confirm.User, c.Confirm.ID, h.config.Clock.Now())
	case c.Parts != nil:
		a.Part = h.pieceOf(*c.Parts)
		return a.Part != nil
	default: // of a later release: an answer would confirm it
		return false
	}
	return true
}

// applyUpdate applies an update to the user on this node. A room that is closed publishes nothing,
// so its user must be updated on its next node.
func (h *Hub) applyUpdate(u update, a *answer) {
	if h.isShared() {
		h.witness(u.Stamp.Counter)
	}
	l := h.rooms.find(u.Room)
	if l == nil {
		return
	}
	if a.Record, a.Found = l.update(u.User, u.Info, u.Stamp); !a.Found && h.isShared() {
		a.Draining = h.closing.Load() && l.has(u.User)
	}
}

// pieceOf returns a piece of this node's part of a room, or nil if this node is not asked.
func (h *Hub) pieceOf(p partsOf) *partPiece {
	if !h.isShared() {
		return nil
	}
	piece := partPiece{Number: h.floor.get()}
	if l := h.rooms.find(p.Room); l != nil {
		piece = l.piece(p.After)
	}
	return &piece
}

// maxRooms is the maximum number of rooms in an answer. A room has at most 200 bytes there.
const maxRooms = 1000

// ownRooms returns up to limit rooms with a name greater than after, sorted by name. It returns the
// rooms that have users on this node; their counts include the users on all nodes. more reports
// whether further rooms follow.
func (h *Hub) ownRooms(after string, limit int) (page []RoomCount, more bool) {
	limit = min(max(limit, 0), maxRooms)
	for _, l := range h.rooms.all(after) {
		connections, users := l.sizes()
		switch {
		case users == 0 || !l.hasOwn():
		case len(page) == limit:
			return page, true
		default:
			page = append(page, RoomCount{string(l.name), connections, users})
		}
	}
	return page, false
}
