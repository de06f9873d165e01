package room

import (
	"encoding/json"
	"time"
)

// Join adds a connection of the user. If the user is already a member, it keeps its name and info.
func (r *Room) Join(c ConnID, u User, now time.Time) {
	if r.parts != nil {
		r.conns[c] = r.joinPart(u, now)
		return
	}
	m := r.users[u.ID]
	if m == nil {
		m = r.add(u, now.UTC().Truncate(time.Millisecond))
	}
	r.conns[c] = m
	m.Connections++
	m.until = time.Time{}
}

// Leave removes a connection. It does nothing if the room does not have the connection. If it was
// the user's last connection, the grace period starts.
func (r *Room) Leave(c ConnID, why Reason, now time.Time) {
	m, ok := r.conns[c]
	if !ok {
		return
	}
	delete(r.conns, c)
	if r.parts != nil {
		r.leavePart(m.ID, why, now)
		return
	}
	m.Connections--
	if m.Connections == 0 {
		m.reason = why
		m.until = now.Add(r.config.Linger)
		r.graces = append(r.graces, gracePeriod{m, m.until})
		r.Expire(now)
	}
}

// Ban removes the user and all its connections, without a grace period. It returns false if the
// user is not in the room. Until the ban ends, connections on other nodes do not count either. The
// owner of the room must reject the user's connections on this node.
func (r *Room) Ban(u UserID, until, now time.Time) bool {
	m := r.users[u]
	for c, owner := range r.conns {
		if owner == m {
			delete(r.conns, c)
		}
	}
	if r.parts != nil {
		r.banPart(u, until, now)
		return m != nil
	}
	if m == nil {
		return false
	}
	m.Connections, m.reason = 0, Removed
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
	m := r.users[u]
	if m == nil {
		return Version{}, false
	}
	m.Info = info
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
