package room

import (
	"bytes"
	"cmp"
	"encoding/json"
	"maps"
	"math"
	"slices"
	"time"
)

// settle updates a member after one of its stakes or its ban has changed.
func (r *Room) settle(u UserID, now time.Time) {
	ps := r.parts
	connections, until, reason := 0, time.Time{}, Closed
	var best *stake
	var since time.Time
	for i := range ps.stakes[u] {
		s := &ps.stakes[u][i]
		connections += s.Connections
		if s.Connections == 0 && !s.Until.Before(until) {
			until, reason = s.Until, s.Reason
		}
		if s.ended(now) {
			continue
		}
		if best == nil || s.beats(best) {
			best = s
		}
		if since.IsZero() || s.Since.Before(since) {
			since = s.Since
		}
	}
	banned := ps.bans[u].After(now)
	if banned {
		reason = Removed
	} else {
		delete(ps.bans, u)
	}
	if m := r.users.Get(u); best == nil || banned {
		if m != nil {
			r.parts.connections -= int(m.connections)
			m.connections, m.absence = 0, &absence{reason: cmp.Or(reason, Closed)}
			r.remove(m)
		}
	} else {
		r.show(m, best.Presence, connections, since)
		r.adopt(best.Presence, since, now)
	}
	ps.forgetEnded(u, now)
	ps.ends.set(u, ps.nextEnd(u, now))
}

// show changes or creates the member.
func (r *Room) show(m *member, p Presence, connections int, since time.Time) {
	if m == nil {
		m = r.add(User{ID: p.ID, Name: p.Name, Info: p.Info}, since)
	} else if m.name != p.Name || !bytes.Equal(m.info, p.Info) {
		m.renamed = m.renamed || m.name != p.Name
		m.name, m.info = p.Name, p.Info
		r.updated(m)
	}
	m.since = since.UnixMilli()
	connections = min(connections, math.MaxInt32) // the frames of a faulty peer could add up to more
	r.parts.connections += connections - int(m.connections)
	m.connections = int32(connections)
}

// adopt gives this node's stake the best record and the earliest time, unless the stake has ended.
func (r *Room) adopt(best Presence, since, now time.Time) {
	own := r.parts.of(r.parts.node, best.ID)
	if own == nil || own.ended(now) {
		return
	}
	if own.Version == best.Version && own.Since.Equal(since) && own.Name == best.Name && bytes.Equal(own.Info, best.Info) {
		return
	}
	own.Name, own.Info, own.Version, own.Since = best.Name, best.Info, best.Version, since
	r.parts.changed[best.ID] = ""
}

// joinPart counts a connection of this node.
func (r *Room) joinPart(u User, now time.Time) *member {
	delete(r.parts.bans, u.ID) // the owner has admitted it
	p := Presence{ID: u.ID, Name: u.Name, Info: u.Info, Since: now.UTC().Truncate(time.Millisecond)}
	if own := r.parts.of(r.parts.node, u.ID); own != nil && !own.ended(now) {
		p = own.Presence
	} else if m := r.users.Get(u.ID); m != nil {
		p.Name, p.Info, p.Since = m.name, m.info, m.public().Since
	}
	p.Connections++
	p.Until, p.Reason = time.Time{}, ""
	r.setOwn(p, "", now)
	return r.users.Get(u.ID)
}

// leavePart removes a connection of this node.
func (r *Room) leavePart(u UserID, why Reason, now time.Time) {
	p := r.parts.of(r.parts.node, u).Presence
	if p.Connections--; p.Connections == 0 {
		p.Until, p.Reason = now.Add(r.config.Linger+r.parts.margin), why
	}
	r.setOwn(p, "", now)
}

func (r *Room) setOwn(p Presence, gone Reason, now time.Time) {
	r.parts.set(r.parts.node, p)
	r.parts.changed[p.ID] = gone
	r.settle(p.ID, now)
}

// banPart removes the user from the room until the ban ends, even if another node's part still has
// it.
func (r *Room) banPart(u UserID, until, now time.Time) {
	r.parts.bans[u] = until
	if own := r.parts.of(r.parts.node, u); own != nil {
		r.setOwn(Presence{ID: u, Reason: Removed}, Removed, now)
	}
	r.settle(u, now)
}

// expireParts ends the grace periods and bans that have ended by now.
func (r *Room) expireParts(now time.Time) {
	for e := r.parts.ends.first(); e != nil && !e.at.After(now); e = r.parts.ends.first() {
		r.settle(e.user, now) // sets the next end of the user
	}
}

// Lift ends a ban before its time.
func (r *Room) Lift(u UserID, now time.Time) {
	delete(r.parts.bans, u)
	r.settle(u, now)
}

// Apply stores changed presences of another node's part.
func (r *Room) Apply(node NodeID, changed []Presence, now time.Time) {
	for _, p := range changed {
		r.parts.set(node, p)
		r.settle(p.ID, now)
	}
}

// Replace replaces another node's part. Users that all does not contain have left it.
func (r *Room) Replace(node NodeID, all []Presence, now time.Time) {
	gone := map[UserID]struct{}{}
	if n := r.parts.nodes[node]; n != nil {
		gone = maps.Clone(n.users)
	}
	for _, p := range all {
		delete(gone, p.ID)
	}
	for _, u := range slices.Sorted(maps.Keys(gone)) {
		r.parts.set(node, Presence{ID: u, Reason: Closed})
		r.settle(u, now)
	}
	r.Apply(node, all, now)
}

// Drop ends the connections of a node that has died or has shut down, for the reason why. Its users
// are in their grace period until the given time.
func (r *Room) Drop(node NodeID, until time.Time, why Reason, now time.Time) {
	n := r.parts.nodes[node]
	if n == nil {
		return
	}
	for _, u := range slices.Sorted(maps.Keys(n.users)) {
		if p := r.parts.of(node, u).Presence; p.Connections > 0 {
			p.Connections, p.Until, p.Reason = 0, until, why
			r.parts.set(node, p)
			r.settle(u, now)
		}
	}
}

// Totals returns the number of users with a connection in the node's part, and the number of their
// connections.
func (r *Room) Totals(node NodeID) (users, connections int) {
	if n := r.parts.nodes[node]; n != nil {
		return n.connected, n.connections
	}
	return 0, 0
}

// HasDelta reports whether [Room.Delta] would return a change.
func (r *Room) HasDelta() bool { return r.parts != nil && len(r.parts.changed) > 0 }

// Delta returns up to limit presences of this node's part that it has not returned since they
// changed, sorted by user. A user that has left the part has neither a connection nor a grace
// period.
func (r *Room) Delta(limit int, now time.Time) []Presence {
	users := slices.Sorted(maps.Keys(r.parts.changed))
	users = users[:min(limit, len(users))]
	delta := make([]Presence, 0, len(users))
	for _, u := range users {
		p := Presence{ID: u, Reason: cmp.Or(r.parts.changed[u], Closed)}
		if own := r.parts.of(r.parts.node, u); own != nil && !own.ended(now) {
			p = own.Presence
		}
		delta = append(delta, p)
		delete(r.parts.changed, u)
	}
	return delta
}

// Own returns up to limit presences of this node's part with ids greater than after, sorted by
// user. more reports whether further presences follow.
func (r *Room) Own(after UserID, limit int, now time.Time) (page []Presence, more bool) {
	r.arrange()
	at, there := find(r.sorted, after)
	if there {
		at++
	}
	for _, m := range r.sorted[at:] {
		if own := r.parts.of(r.parts.node, m.id); own != nil && !own.ended(now) {
			if len(page) == limit {
				return page, true
			}
			page = append(page, own.Presence)
		}
	}
	return page, false
}

// OwnUsers returns the number of users in this node's part, including those in their grace period.
func (r *Room) OwnUsers() int {
	if r.parts == nil {
		return r.users.Len()
	}
	return r.PartUsers(r.parts.node)
}

// PartUsers returns the number of users in the part of a node, including those in their grace
// period.
func (r *Room) PartUsers(node NodeID) int {
	if r.parts == nil || r.parts.nodes[node] == nil {
		return 0
	}
	return len(r.parts.nodes[node].users)
}

// OwnConnections returns the number of connections in this node's part.
func (r *Room) OwnConnections() int { return r.conns }

// updatePart replaces the info of a user in this node's part. The new record has the version stamp.
// A record with that version or a higher one stays.
func (r *Room) updatePart(u UserID, info json.RawMessage, stamp Version, now time.Time) (record Version, here bool) {
	own, m := r.parts.of(r.parts.node, u), r.users.Get(u)
	if own == nil || own.ended(now) || m == nil {
		return Version{}, false
	}
	p := own.Presence
	if p.Version.Compare(stamp) >= 0 {
		return p.Version, true
	}
	p.Name, p.Info, p.Version = m.name, info, stamp
	r.setOwn(p, "", now)
	return stamp, true
}
