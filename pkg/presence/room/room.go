package room

import (
	"cmp"
	"encoding/json"
	"slices"
	"time"
)

// Conn names one open connection; the owner gives each a number of its own.
type Conn uint64

// UserID is a user's id: a token's sub.
type UserID string

// User is who joins.
type User struct {
	ID   UserID
	Name string
	Info json.RawMessage // one JSON value, compact
}

// Member is a user that is in the room, as the wire has it.
type Member struct {
	ID          UserID          `json:"id"`
	Name        string          `json:"name"`
	Info        json.RawMessage `json:"info"`
	Connections int             `json:"connections"` // 0 while it lingers
	Since       time.Time       `json:"since"`
}

// Reason says why a member left: why its last connection ended.
type Reason string

// The reasons of a leave.
const (
	Closed  Reason = "closed"  // the client went
	Timeout Reason = "timeout" // the client vanished without a word
	Removed Reason = "removed" // an admin removed the user
	Expired Reason = "expired" // its token ended
	Slow    Reason = "slow"    // it stopped reading
)

// Change is one thing to tell about a member.
type Change struct {
	Event  EventName // EventJoin, EventLeave or EventUpdate
	Member Member    // as it is now, and as it was last if it left
	Reason Reason    // of a leave
}

// News is what has happened since the room was last asked.
type News struct {
	// Changes are the joins, updates and leaves, in order.
	Changes []Change
	// Sync says that everybody needs the room's state anew instead of Changes:
	// the member limit was crossed.
	Sync bool
}

// crossing is the shortest time from one crossing of the member limit until
// members are told again.
const crossing = 10 * time.Second

// Config holds a room's settings.
type Config struct {
	Linger      time.Duration // 0: a user leaves with its last connection
	MemberLimit int           // above it counts alone are told
	Start       Place         // the place before the first message
}

// Room is who is in a room, and how far its messages have come.
type Room struct {
	config    Config
	conns     map[Conn]*member
	users     map[UserID]*member
	sorted    []*member  // the users by id, but for those of fresh
	fresh     []*member  // those who came since they were asked for
	gone      int        // how many of both are no longer in the room
	lingering []lingerer // in the order of their time
	untold    []change
	place     Place

	counting bool      // above the limit: counts only
	crossed  time.Time // when counting last changed
}

type member struct {
	Member
	told    bool      // its join was taken as news
	updated bool      // its update waits to be
	gone    bool      // it is no longer in the room
	until   time.Time // when its lingering ends; zero while it has a connection
	ended   Reason    // of its last connection
}

type lingerer struct {
	*member
	until time.Time
}

type change struct {
	*member
	event EventName
}

// New returns an empty room.
func New(c Config) Room {
	return Room{config: c, conns: map[Conn]*member{}, users: map[UserID]*member{}, place: c.Start}
}

// Join adds a connection of the user. Name and info of a user who is in the
// room already stay as they are: its first connection's.
func (r *Room) Join(c Conn, u User, now time.Time) {
	m := r.users[u.ID]
	if m == nil {
		m = &member{Member: Member{ID: u.ID, Name: u.Name, Info: u.Info, Since: now.UTC().Truncate(time.Millisecond)}}
		r.users[u.ID] = m
		r.fresh = append(r.fresh, m)
		r.untold = append(r.untold, change{m, EventJoin})
	}
	r.conns[c] = m
	m.Connections++
	m.until = time.Time{}
}

// Leave takes the connection away, if it is there. A user whose last connection
// it was lingers from now on.
func (r *Room) Leave(c Conn, why Reason, now time.Time) {
	m, ok := r.conns[c]
	if !ok {
		return
	}
	delete(r.conns, c)
	m.Connections--
	if m.Connections == 0 {
		m.ended = why
		m.until = now.Add(r.config.Linger)
		r.lingering = append(r.lingering, lingerer{m, m.until})
		r.Expire(now)
	}
}

// Remove takes the user away at once, with all its connections, and without
// lingering; it reports whether the user was there.
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
	m.Connections, m.ended = 0, Removed
	r.remove(m)
	return true
}

// Update replaces the member's info, one value of compact JSON, until it has
// left; it reports whether the user is there. Of the updates between two calls
// of [Room.News] the last is told.
func (r *Room) Update(u UserID, info json.RawMessage) bool {
	m := r.users[u]
	if m == nil {
		return false
	}
	m.Info = info
	if m.told && !m.updated { // else its join, or the update that waits, tells it
		m.updated = true
		r.untold = append(r.untold, change{m, EventUpdate})
	}
	return true
}

// Expire lets those go whose lingering has ended by now.
func (r *Room) Expire(now time.Time) {
	for len(r.lingering) > 0 {
		l := r.lingering[0]
		if l.stays() {
			if l.until.After(now) {
				return
			}
			r.remove(l.member)
		}
		r.lingering[0] = lingerer{} // let go of the member
		r.lingering = r.lingering[1:]
	}
}

// stays reports whether the entry still speaks of its member: one that came
// back, or came back and ended again, has another or none.
func (l lingerer) stays() bool { return !l.gone && l.member.until.Equal(l.until) }

func (r *Room) remove(m *member) {
	delete(r.users, m.ID)
	m.gone = true
	if r.gone++; r.gone > len(r.users) {
		r.arrange() // or they would stay in memory
	}
	if m.told {
		r.untold = append(r.untold, change{m, EventLeave})
	}
}

// arrange brings all users into sorted. Doing so with each that comes would move
// half of the others each time: 5 µs a join of 16,000.
func (r *Room) arrange() {
	if r.gone > 0 {
		isGone := func(m *member) bool { return m.gone }
		r.sorted, r.fresh = slices.DeleteFunc(r.sorted, isGone), slices.DeleteFunc(r.fresh, isGone)
		r.gone = 0
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

// find returns where the user stands among members by id, or would stand.
func find(sorted []*member, u UserID) (at int, there bool) {
	return slices.BinarySearchFunc(sorted, u, func(m *member, u UserID) int { return cmp.Compare(m.ID, u) })
}

// Due returns the first time after now at which [Room.Expire] or [Room.News] has
// work that it does not have yet; the zero time if there is none.
func (r *Room) Due(now time.Time) time.Time {
	var due time.Time
	for _, l := range r.lingering {
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

func (r *Room) fewAgain() bool { return len(r.users)*10 <= r.config.MemberLimit*8 }

// News takes what has happened since the last call.
func (r *Room) News(now time.Time) News {
	var news News
	for _, c := range r.untold {
		if c.event != EventLeave && c.gone {
			continue // it came and went untold, or its leave follows
		}
		change := Change{Event: c.event, Member: c.Member}
		switch c.event {
		case EventJoin:
			c.told = true
		case EventUpdate:
			c.updated = false
		case EventLeave:
			change.Reason = c.ended
		}
		news.Changes = append(news.Changes, change)
	}
	r.untold = nil
	if r.crosses(now) {
		r.counting, r.crossed, news.Sync = !r.counting, now, true
	}
	return news
}

// HasNews reports whether [Room.News] has something to tell.
func (r *Room) HasNews(now time.Time) bool { return len(r.untold) > 0 || r.crosses(now) }

func (r *Room) crosses(now time.Time) bool {
	if r.counting {
		return r.fewAgain() && !now.Before(r.crossed.Add(crossing))
	}
	return r.Exceeds()
}

// Exceeds reports whether the room has come above its member limit since the last call of
// [Room.News].
func (r *Room) Exceeds() bool { return !r.counting && len(r.users) > r.config.MemberLimit }

// Counting reports whether the room is above its member limit, so that it
// tells counts and no members.
func (r *Room) Counting() bool { return r.counting }

// Connections returns the number of open connections.
func (r *Room) Connections() int { return len(r.conns) }

// Users returns the number of users, lingering ones included.
func (r *Room) Users() int { return len(r.users) }

// Has reports whether the user is in the room.
func (r *Room) Has(u UserID) bool { return r.users[u] != nil }

// Members returns up to limit members in the order of their ids, from the
// first whose id is above after, and whether there are more. The slice is the
// caller's own, empty and not nil if nobody is there.
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

// memberJSON is the bytes of a [Member] as JSON, at least, beside its id, name and info.
const memberJSON = len(`{"id":"","name":"","info":,"connections":0,"since":"2026-11-22T18:00:00Z"}`)

// MembersExceed reports whether the members as JSON take more than that many bytes, by a lower
// bound of each: they may take more if it reports false. It looks at no more members than it
// needs.
func (r *Room) MembersExceed(size int) bool {
	for _, m := range r.users {
		if size -= memberJSON + len(m.ID) + len(m.Name) + len(m.Info); size < 0 {
			return true
		}
	}
	return false
}

// Place returns how far the room's messages have come.
func (r *Room) Place() Place { return r.place }

// Advance returns the place of a new message.
func (r *Room) Advance() Place {
	r.place.Seq++
	return r.place
}
