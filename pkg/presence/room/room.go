package room

import (
	"cmp"
	"encoding/json"
	"slices"
	"time"
)

// ConnID identifies one open connection. The owner of the room assigns it.
type ConnID uint64

// UserID is the id of a user: the sub claim of its token.
type UserID string

// User is a user that joins a room.
type User struct {
	ID   UserID
	Name string
	Info json.RawMessage // one compact JSON value
}

// Member is a user in a room, in its form on the wire.
type Member struct {
	ID          UserID          `json:"id"`
	Name        string          `json:"name"`
	Info        json.RawMessage `json:"info"`
	Connections int             `json:"connections"` // 0 during the grace period
	Since       time.Time       `json:"since"`
}

// Reason is the reason of a leave: why the member's last connection ended.
type Reason string

// The reasons of a leave.
const (
	Closed  Reason = "closed"  // the client disconnected
	Timeout Reason = "timeout" // the client stopped answering
	Removed Reason = "removed" // an admin removed the user
	Expired Reason = "expired" // the token expired
	Slow    Reason = "slow"    // the client was a slow consumer
)

// Change is a join, an update or a leave.
type Change struct {
	Event  EventName // EventJoin, EventLeave or EventUpdate
	Member Member    // its current state; for a leave the last one
	Reason Reason    // of a leave; empty otherwise
}

// News holds the changes since the last call of [Room.News].
type News struct {
	// Changes are the joins, updates and leaves, in order.
	Changes []Change
	// Sync is set when the member limit was crossed: every client needs a snapshot instead of
	// Changes.
	Sync bool
}

// crossing is the shortest time between a crossing of the member limit and the return to members.
const crossing = 10 * time.Second

// Config holds a room's settings.
type Config struct {
	Linger      time.Duration // grace period; 0: a user leaves when its last connection ends
	MemberLimit int           // above it the room sends counts only
}

// Room is the set of members and connections of one room.
type Room struct {
	config  Config
	conns   map[ConnID]*member
	users   map[UserID]*member
	sorted  []*member       // members sorted by id, except those in fresh
	fresh   []*member       // members that joined since the last arrange
	removed int             // entries of sorted and fresh that have left
	graces  []gracePeriod   // ordered by their ends
	pending []pendingChange // changes that News has not returned yet

	counting bool      // above the member limit: counts only
	crossed  time.Time // when counting last changed
}

type member struct {
	Member
	announced bool      // News has returned its join
	updated   bool      // its update is pending
	left      bool      // it has left the room
	until     time.Time // end of its grace period; zero while it has a connection
	reason    Reason    // why its last connection ended
}

type gracePeriod struct {
	*member
	until time.Time
}

type pendingChange struct {
	*member
	event EventName
}

// New returns an empty room.
func New(c Config) Room {
	return Room{config: c, conns: map[ConnID]*member{}, users: map[UserID]*member{}}
}

// Join adds a connection of the user. A member keeps the name and info of its first connection.
func (r *Room) Join(c ConnID, u User, now time.Time) {
	m := r.users[u.ID]
	if m == nil {
		m = &member{Member: Member{ID: u.ID, Name: u.Name, Info: u.Info, Since: now.UTC().Truncate(time.Millisecond)}}
		r.users[u.ID] = m
		r.fresh = append(r.fresh, m)
		r.pending = append(r.pending, pendingChange{m, EventJoin})
	}
	r.conns[c] = m
	m.Connections++
	m.until = time.Time{}
}

// Leave removes a connection, if the room has it. The end of a user's last connection starts its
// grace period.
func (r *Room) Leave(c ConnID, why Reason, now time.Time) {
	m, ok := r.conns[c]
	if !ok {
		return
	}
	delete(r.conns, c)
	m.Connections--
	if m.Connections == 0 {
		m.reason = why
		m.until = now.Add(r.config.Linger)
		r.graces = append(r.graces, gracePeriod{m, m.until})
		r.Expire(now)
	}
}

// Remove removes the user with all its connections, without a grace period. It reports whether the
// user was in the room.
func (r *Room) Remove(u UserID) bool {
	m := r.users[u]
	if m == nil {
		return false
	}
	for c, owner := range r.conns {
		if owner == m {
			delete(r.conns, c)
		}
	}
	m.Connections, m.reason = 0, Removed
	r.remove(m)
	return true
}

// Update replaces the info of a member until it leaves. info is one compact JSON value. Update
// reports whether the user is in the room. Of several updates between two calls of [Room.News] only
// the last counts.
func (r *Room) Update(u UserID, info json.RawMessage) bool {
	m := r.users[u]
	if m == nil {
		return false
	}
	m.Info = info
	if m.announced && !m.updated { // else its pending join or update carries the new info
		m.updated = true
		r.pending = append(r.pending, pendingChange{m, EventUpdate})
	}
	return true
}

// Expire removes the members whose grace period has ended by now.
func (r *Room) Expire(now time.Time) {
	for len(r.graces) > 0 {
		l := r.graces[0]
		if l.stays() {
			if l.until.After(now) {
				return
			}
			r.remove(l.member)
		}
		r.graces[0] = gracePeriod{} // free the member
		r.graces = r.graces[1:]
	}
}

// stays reports whether l is the current grace period of its member. A member that has reconnected
// has a later one, or none.
func (l gracePeriod) stays() bool { return !l.left && l.member.until.Equal(l.until) }

func (r *Room) remove(m *member) {
	delete(r.users, m.ID)
	m.left = true
	if r.removed++; r.removed > len(r.users) {
		r.arrange() // frees the members that have left
	}
	if m.announced {
		r.pending = append(r.pending, pendingChange{m, EventLeave})
	}
}

// arrange merges fresh into sorted, and drops the members that have left. It does not run at each
// join, as it would move half of the members: 5 µs per join at 16,000 members.
func (r *Room) arrange() {
	if r.removed > 0 {
		hasLeft := func(m *member) bool { return m.left }
		r.sorted, r.fresh = slices.DeleteFunc(r.sorted, hasLeft), slices.DeleteFunc(r.fresh, hasLeft)
		r.removed = 0
	}
	slices.SortFunc(r.fresh, func(a, b *member) int { return cmp.Compare(a.ID, b.ID) })
	end := len(r.sorted)
	r.sorted = append(r.sorted, r.fresh...)
	for i, m := range slices.Backward(r.fresh) {
		at, _ := find(r.sorted[:end], m.ID)
		copy(r.sorted[at+i+1:], r.sorted[at:end])
		r.sorted[at+i] = m
		end = at
	}
	r.fresh = nil
	if len(r.sorted) < cap(r.sorted)/4 {
		r.sorted = slices.Clone(r.sorted)
	}
}

// find returns the index of the user in a slice sorted by id, or the index at which to insert it.
func find(sorted []*member, u UserID) (at int, there bool) {
	return slices.BinarySearchFunc(sorted, u, func(m *member, u UserID) int { return cmp.Compare(m.ID, u) })
}

// Due returns the first time after now at which [Room.Expire] or [Room.News] gets new work. It
// returns the zero time if there is none.
func (r *Room) Due(now time.Time) time.Time {
	var due time.Time
	for _, l := range r.graces {
		if l.stays() && l.until.After(now) {
			due = l.until
			break
		}
	}
	if r.counting && r.fewAgain() {
		if end := r.crossed.Add(crossing); end.After(now) && (due.IsZero() || end.Before(due)) {
			due = end
		}
	}
	return due
}

// fewAgain reports whether the room is at 80 % of its member limit or below.
func (r *Room) fewAgain() bool { return len(r.users)*10 <= r.config.MemberLimit*8 }

// News returns the changes since the last call. Changes that cancel out are left out, for example
// the join and the leave of a user that left before the call.
func (r *Room) News(now time.Time) News {
	var news News
	for _, c := range r.pending {
		if c.event != EventLeave && c.left {
			continue // it left before its join was announced, or its leave follows
		}
		change := Change{Event: c.event, Member: c.Member}
		switch c.event {
		case EventJoin:
			c.announced = true
		case EventUpdate:
			c.updated = false
		case EventLeave:
			change.Reason = c.reason
		}
		news.Changes = append(news.Changes, change)
	}
	r.pending = nil
	if r.crosses(now) {
		r.counting, r.crossed, news.Sync = !r.counting, now, true
	}
	return news
}

// HasNews reports whether [Room.News] would return a change or a sync.
func (r *Room) HasNews(now time.Time) bool { return len(r.pending) > 0 || r.crosses(now) }

// crosses reports whether the room changes now between members and counts only. It returns to
// members at 80 % of the limit, and at least 10 s after the last crossing.
func (r *Room) crosses(now time.Time) bool {
	if r.counting {
		return r.fewAgain() && !now.Before(r.crossed.Add(crossing))
	}
	return r.Exceeds()
}

// Exceeds reports whether the room has crossed its member limit upwards since the last call of
// [Room.News].
func (r *Room) Exceeds() bool { return !r.counting && len(r.users) > r.config.MemberLimit }

// Counting reports whether the room sends counts only, because it is above its member limit.
func (r *Room) Counting() bool { return r.counting }

// Connections returns the number of open connections.
func (r *Room) Connections() int { return len(r.conns) }

// Users returns the number of members, including those in their grace period.
func (r *Room) Users() int { return len(r.users) }

// Has reports whether the user is in the room.
func (r *Room) Has(u UserID) bool { return r.users[u] != nil }

// Members returns up to limit members whose ids are above after, sorted by id. more reports whether
// other members follow. The caller owns the slice, which is never nil.
func (r *Room) Members(after UserID, limit int) (page []Member, more bool) {
	r.arrange()
	at, there := find(r.sorted, after)
	if there {
		at++
	}
	rest := r.sorted[at:]
	if more = len(rest) > limit; more {
		rest = rest[:limit]
	}
	page = make([]Member, len(rest))
	for i, m := range rest {
		page[i] = m.Member
	}
	return page, more
}

// memberJSON is the minimum size of a [Member] as JSON, in bytes, without its id, name and info.
const memberJSON = len(`{"id":"","name":"","info":,"connections":0,"since":"2026-11-22T18:00:00Z"}`)

// MembersExceed reports whether the members as JSON are surely larger than size bytes. It adds up a
// lower bound of each member, so they may be larger even if it reports false. It stops at the
// member that exceeds size.
func (r *Room) MembersExceed(size int) bool {
	for _, m := range r.users {
		if size -= memberJSON + len(m.ID) + len(m.Name) + len(m.Info); size < 0 {
			return true
		}
	}
	return false
}
