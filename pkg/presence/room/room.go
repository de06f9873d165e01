package room

import (
	"cmp"
	"encoding/json"
	"slices"
	"time"

	"example.com/presence/pkg/presence/internal/index"
)

// Change is a single change of a room: a join, an update or a leave.
type Change struct {
	Event  EventName // EventJoin, EventLeave or EventUpdate
	Member Member    // current state of the member; for a leave, its last state
	Reason Reason    // reason of a leave; otherwise empty
	// Renamed is set if the name of the member has changed too. A member that has a better record
	// on another node may get another name.
	Renamed bool
}

// News holds the changes since the last call of [Room.News].
type News struct {
	// Changes are the joins, updates and leaves, in order.
	Changes []Change
	// Sync is set if the room has crossed the member limit. Every client then needs a snapshot
	// instead of Changes.
	Sync bool
}

// minCounting is the minimum time for which a room sends only counts after it has exceeded its
// member limit.
const minCounting = 10 * time.Second

// Config holds a room's settings.
type Config struct {
	Linger      time.Duration // grace period; 0: a user leaves when its last connection closes
	MemberLimit int           // a room with more members sends only counts
}

// Room holds the members and connections of one room.
type Room struct {
	config  Config
	users   index.Index[UserID, *member]
	conns   int             // sum of the sizes of all member.conns, changed with each of them, because a count must not visit all members
	sorted  []*member       // members sorted by id, except those in fresh
	fresh   []*member       // members that joined since the last call of arrange
	removed int             // number of members in sorted and fresh that have left
	graces  []gracePeriod   // ordered by their end
	pending []pendingChange // changes that News has not returned yet

	counting  bool      // the room sends only counts
	partial   bool      // a part is missing, so the room sends only counts
	completed bool      // no part is missing any more, and News has not returned Sync since
	crossed   time.Time // time of the last change of counting

	parts *parts // nil on a node without peers
}

// member is a user in the room. A server may have a member per connection, so it is small.
type member struct {
	id          UserID
	name        string
	info        json.RawMessage
	since       int64    // Member.Since in Unix milliseconds
	conns       connSet  // its connections on this node
	absence     *absence // how the member leaves or may leave; nil: it has a connection, or other nodes may have the room
	connections int32    // Member.Connections
	announced   bool     // News has returned its join
	updated     bool     // an update is pending
	renamed     bool     // the pending update has another name
	left        bool     // the member has left the room
}

// absence is the grace period of a member, or its removal. In a room that other nodes have too, a
// member has one only when it is removed: the parts have the grace periods.
type absence struct {
	until  time.Time // end of the grace period; zero: the member was removed
	reason Reason    // why the last connection closed
}

type gracePeriod struct {
	*member
	*absence
}

// Key returns the id of the member, for the index of the users.
func (m *member) Key() UserID { return m.id }

// public returns the member as clients receive it.
func (m *member) public() Member {
	return Member{ID: m.id, Name: m.name, Info: m.info, Connections: int(m.connections), Since: time.UnixMilli(m.since).UTC()}
}

type pendingChange struct {
	*member
	event EventName
}

// New returns an empty room.
func New(c Config) Room {
	return Room{config: c}
}

// NewShared returns an empty room that other nodes have too. node is the id of this node. The room
// merges the parts of all nodes. margin extends each grace period, so that a user that moves to
// another node in time does not leave.
func NewShared(c Config, node NodeID, margin time.Duration) Room {
	r := New(c)
	r.parts = newParts(node, margin)
	return r
}

// add creates a member.
func (r *Room) add(u User, since time.Time) *member {
	m := &member{id: u.ID, name: u.Name, info: u.Info, since: since.UnixMilli()}
	r.users.Put(m)
	r.fresh = append(r.fresh, m)
	r.pending = append(r.pending, pendingChange{m, EventJoin})
	return m
}

// updated records an update, unless the pending join or update includes it.
func (r *Room) updated(m *member) {
	if m.announced && !m.updated {
		m.updated = true
		r.pending = append(r.pending, pendingChange{m, EventUpdate})
	}
}

// isCurrent reports whether g is the current grace period of its member. If the member has
// reconnected, it has a later grace period, or none.
func (g gracePeriod) isCurrent() bool { return !g.left && g.member.absence == g.absence }

func (r *Room) remove(m *member) {
	r.users.Delete(m.id)
	m.left = true
	if r.removed++; r.removed > r.users.Len() {
		r.arrange() // free the members that have left
	}
	if m.announced {
		r.pending = append(r.pending, pendingChange{m, EventLeave})
	}
}

// arrange merges fresh into sorted, and drops the members that have left. It does not run on every
// join, because it would move half of the members each time: 5 µs per join at 16,000 members.
func (r *Room) arrange() {
	if r.removed > 0 {
		hasLeft := func(m *member) bool { return m.left }
		r.sorted, r.fresh = slices.DeleteFunc(r.sorted, hasLeft), slices.DeleteFunc(r.fresh, hasLeft)
		r.removed = 0
	}
	slices.SortFunc(r.fresh, func(a, b *member) int { return cmp.Compare(a.id, b.id) })
	end := len(r.sorted)
	r.sorted = append(r.sorted, r.fresh...)
	for i, m := range slices.Backward(r.fresh) {
		at, _ := find(r.sorted[:end], m.id)
		copy(r.sorted[at+i+1:], r.sorted[at:end])
		r.sorted[at+i] = m
		end = at
	}
	r.fresh = nil
	if len(r.sorted) < cap(r.sorted)/4 {
		r.sorted = slices.Clone(r.sorted)
	}
}

// find returns the index of the user in a slice sorted by id, or the index at which the user would
// be inserted.
func find(sorted []*member, u UserID) (at int, there bool) {
	return slices.BinarySearchFunc(sorted, u, func(m *member, u UserID) int { return cmp.Compare(m.id, u) })
}

// Due returns the first time after now at which [Room.Expire] or [Room.News] will have new work, or
// the zero time if there is none. The caller must have called Expire with the same time.
func (r *Room) Due(now time.Time) time.Time {
	var due time.Time
	for _, g := range r.graces {
		if g.isCurrent() && g.until.After(now) {
			due = g.until
			break
		}
	}
	if r.parts != nil {
		if e := r.parts.ends.first(); e != nil && e.at.After(now) {
			due = e.at
		}
	}
	if r.counting && !r.partial && r.wellBelowLimit() {
		if end := r.crossed.Add(minCounting); end.After(now) && (due.IsZero() || end.Before(due)) {
			due = end
		}
	}
	return due
}

// wellBelowLimit reports whether the room has at most 80 % of its member limit.
func (r *Room) wellBelowLimit() bool { return r.users.Len()*10 <= r.config.MemberLimit*8 }

// News returns the changes since the last call. It omits changes that cancel out, for example if a
// user has joined and left since that call.
func (r *Room) News(now time.Time) News {
	var news News
	for _, c := range r.pending {
		if c.event != EventLeave && c.left {
			continue // the join was never announced, or a leave follows
		}
		change := Change{Event: c.event, Member: c.public()}
		switch c.event {
		case EventJoin:
			c.announced = true
		case EventUpdate:
			change.Renamed = c.renamed
			c.updated, c.renamed = false, false
		case EventLeave:
			change.Reason = c.absence.reason
		}
		news.Changes = append(news.Changes, change)
	}
	r.pending = nil
	if r.crosses(now) {
		r.counting, r.crossed, news.Sync = !r.counting, now, true
	}
	r.completed = false
	return news
}

// HasNews reports whether [Room.News] would return a change or a sync.
func (r *Room) HasNews(now time.Time) bool { return len(r.pending) > 0 || r.crosses(now) }

// crosses reports whether the room must now switch between sending members and sending only counts.
// It switches to only counts above the member limit. It switches back at 80 % of the limit, but at
// least 10 s after the last switch.
func (r *Room) crosses(now time.Time) bool {
	switch {
	case !r.counting:
		return r.Exceeds()
	case r.partial:
		return false
	case r.completed:
		return r.users.Len() <= r.config.MemberLimit
	}
	return r.wellBelowLimit() && !now.Before(r.crossed.Add(minCounting))
}

// SetPartial records whether the parts of some nodes are missing. Such a room sends only counts.
// When no part is missing any more, every client needs a snapshot. A room may become partial only
// before its first member is announced.
func (r *Room) SetPartial(partial bool) {
	if partial {
		r.counting = true
	}
	r.completed = r.partial && !partial
	r.partial = partial
}

// Exceeds reports whether the room has exceeded its member limit since the last call of
// [Room.News].
func (r *Room) Exceeds() bool { return !r.counting && r.users.Len() > r.config.MemberLimit }

// Counting reports whether the room sends only counts.
func (r *Room) Counting() bool { return r.counting }

// Connections returns the number of open connections.
func (r *Room) Connections() int {
	if r.parts != nil {
		return r.parts.connections
	}
	return r.conns
}

// Users returns the number of members, including those in their grace period.
func (r *Room) Users() int { return r.users.Len() }

// Has reports whether the user is a member of the room.
func (r *Room) Has(u UserID) bool { return r.users.Get(u) != nil }

// Heir returns a member with a connection, unless the given user is one: then ok is false.
func (r *Room) Heir(owner UserID) (heir UserID, ok bool) {
	if m := r.users.Get(owner); m != nil && m.connections > 0 {
		return "", false
	}
	for m := range r.users.All() {
		if m.connections > 0 {
			return m.id, true
		}
	}
	return "", false
}

// InGrace reports whether the user is a member without a connection, on any node.
func (r *Room) InGrace(u UserID) bool {
	m := r.users.Get(u)
	return m != nil && m.connections == 0
}

// Members returns up to limit members with ids greater than after, sorted by id. more reports
// whether further members follow. The caller owns the slice, which is never nil.
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
		page[i] = m.public()
	}
	return page, more
}

// memberJSON is the minimum size in bytes of a [Member] encoded as JSON, without its id, name and
// info.
const memberJSON = len(`{"id":"","name":"","info":,"connections":0,"since":"2026-11-22T18:00:00Z"}`)

// MembersSize returns the minimum size in bytes of the members encoded as JSON.
func (r *Room) MembersSize() (size int) {
	for m := range r.users.All() {
		size += memberJSON + len(m.id) + len(m.name) + len(m.info)
	}
	return size
}

// MembersExceed reports whether the members encoded as JSON are certainly larger than size bytes.
// It adds up a lower bound per member and stops as soon as the sum exceeds size. Even if it returns
// false, the members may be larger.
func (r *Room) MembersExceed(size int) bool {
	for m := range r.users.All() {
		if size -= memberJSON + len(m.id) + len(m.name) + len(m.info); size < 0 {
			return true
		}
	}
	return false
}
