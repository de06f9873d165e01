package room

import (
	"encoding/json"
	"time"
)

// Join adds a connection of the user, unless the room has it. If the user is already a member, it
// keeps its name and info.
func (r *Room) Join(c ConnID, u User, now time.Time) {
	m := r.users.Get(u.ID)
	if m != nil && m.conns.has(c) {
		return
	}
	switch {
	case r.parts != nil:
		m = r.joinPart(u, now)
	case m == nil:
		m = r.add(u, now)
	}
	if m.conns.add(c) {
		r.conns++
	}
	if r.parts == nil {
		m.connections, m.absence = int32(m.conns.len()), nil
	}
}

// Leave removes a connection of the user. It does nothing if the room does not have the connection.
// If it was the user's last connection, the grace period starts.
func (r *Room) Leave(c ConnID, u UserID, why Reason, now time.Time) {
	m := r.users.Get(u)
	if m == nil || !m.conns.remove(c) {
		return
	}
	r.conns--
	if r.parts != nil {
		r.leavePart(u, why, now)
		return
	}
	if m.connections = int32(m.conns.len()); m.connections == 0 {
		m.absence = &absence{now.Add(r.config.Linger), why}
		r.graces = append(r.graces, gracePeriod{m, m.absence})
		r.Expire(now)
	}
}

// Ban removes the user and all its connections, without a grace period. It returns false if the
// user is not in the room. Until the ban ends, connections on other nodes do not count either. The
// owner of the room must reject the user's connections on this node.
func (r *Room) Ban(u UserID, until, now time.Time) bool {
	m := r.users.Get(u)
	if m != nil {
		r.conns -= m.conns.len()
		m.conns = connSet{}
	}
	if r.parts != nil {
		r.banPart(u, until, now)
		return m != nil
	}
	if m == nil {
		return false
	}
	m.connections, m.absence = 0, &absence{reason: Removed}
	r.remove(m)
	return true
}

// Update replaces the info of a member until the member leaves. info must be one compact JSON
// value. stamp is the version of the new record; a node without peers ignores it. A record with
// that version or a higher one stays. Update returns the version of the record after that. here is
// false if the user is not in the room, or is only on other nodes. If a member is updated several
// times between two calls of [Room.News], only the last update is returned.
func (r *Room) Update(u UserID, info json.RawMessage, stamp Version, now time.Time) (record Version, here bool) {
	if r.parts != nil {
		return r.updatePart(u, info, stamp, now)
	}
	m := r.users.Get(u)
	if m == nil {
		return Version{}, false
	}
	m.info = info
	r.updated(m)
	return Version{}, true
}

// Expire removes the members whose grace period has ended by now.
func (r *Room) Expire(now time.Time) {
	if r.parts != nil {
		r.expireParts(now)
	}
	for len(r.graces) > 0 {
		g := r.graces[0]
		if g.isCurrent() {
			if g.until.After(now) {
				return
			}
			r.remove(g.member)
		}
		r.graces[0] = gracePeriod{} // free the member
		r.graces = r.graces[1:]
	}
}
