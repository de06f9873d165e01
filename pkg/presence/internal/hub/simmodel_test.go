package hub_test

import (
	"errors"
	"fmt"
	"maps"
	"time"

	"example.com/presence/pkg/presence/internal/hub"
)

// simModel is the plain model of a simulation: which connections are open, which users are in their
// grace period, and which records and bans they may have. It knows neither nodes nor frames. All of
// its state belongs to simRun.mu.
//
// The model knows when a call started and when it ended, but not when it took effect. Therefore it
// keeps ranges: a user is surely a member, or may be one, and a set of records may be its record.
// After each quiet moment the ranges are narrow again.
type simModel struct {
	linger     time.Duration
	margin     time.Duration // added to the grace period in a cluster
	lag        time.Duration // of the table
	quietAt    time.Time     // last quiet moment
	skewed     bool          // the clocks of the nodes differ by more than the time between two joins
	members    map[simPlace]*simMember
	lossy      bool          // publications were lost since the last quiet moment
	inRow      int           // as many in a row, at most
	heavy      bool          // a node was cut off, frozen or blocked, or has crashed since the last quiet moment
	faultBy    time.Time     // when all nodes must agree after such a fault
	faultSlack time.Duration // the longest bound of such a fault since the last quiet moment
	unsure     bool          // like heavy, or a node has shut down: nodes may differ on users in their grace period
	fail       func(format string, args ...any)
}

// simPlace is a user in a room, by their numbers.
type simPlace struct{ room, user int }

func (p simPlace) String() string { return fmt.Sprintf("%s in %s", simUsers[p.user], simRooms[p.room]) }

// simMember is the state of a user in a room.
type simMember struct {
	conns    map[*simConn]bool
	joining  int       // calls of Join that have not returned
	since    time.Time // when the last connection was added that is the only one
	earliest time.Time // without connections: until then the user is surely a member
	latest   time.Time // without connections: from then on it is surely none
	left     bool      // the last connection has closed since the last quiet moment
	session  int       // number of times that the last connection has closed

	infos     map[string]bool // infos that the member may have
	stale     map[string]bool // infos that the last PUT has replaced
	put       bool            // the info is that of a PUT, which a token cannot replace
	changedAt time.Time       // last change of infos
	changes   int             // joins that started, and PUTs that ended

	puts    int       // PUTs that have not returned
	started int       // PUTs that have started
	closed  time.Time // when a connection has closed last
	late    time.Time // a failed PUT may take effect until then

	bans       int       // calls of Kick and Ban that have started
	kicks      int       // those of them that have not returned
	shortest   time.Time // earliest end of a ban of these calls, and of those that ran at the same time
	ban, maybe simSpan   // the user is surely banned, or may be banned
	banEnd     time.Time // latest end of a ban whose call has returned
	lifts      int       // calls of Unban that have not returned
	lifted     time.Time // when one of them has returned last
	recent     bool      // a ban was changed since the last quiet moment
}

// simSpan is a time from start to end.
type simSpan struct{ start, end time.Time }

func (s simSpan) contains(start, end time.Time) bool {
	return !start.Before(s.start) && end.Before(s.end)
}
func (s simSpan) touches(start, end time.Time) bool {
	return !end.Before(s.start) && start.Before(s.end)
}

func (m *simModel) member(p simPlace) *simMember {
	if m.members[p] == nil {
		m.members[p] = &simMember{conns: map[*simConn]bool{}, infos: map[string]bool{}}
	}
	return m.members[p]
}

// The bounds of promise 1: the time after which every node must have the last change. A node that
// was cut off or frozen has the bound of a death, because the others may count it as dead in its
// last moment, and because a frame of a dead node may reach it when it is connected again, and
// renew that node's lease. A node whose publications blocked has the bound of a loss.
const (
	simQuick = time.Second     // nothing was lost
	simLost  = 2 * time.Second // a publication was lost, and the next one arrives
	simDead  = 6 * time.Second // after a death, or if the repeat was lost too
)

// slack is the time after which a change must have reached every node, if the fault of a node
// happened at the same time.
func (m *simModel) slack() time.Duration { return max(m.changeSlack(), m.faultSlack) }

// changeSlack is the time after which a change must have reached every node that is not affected by
// the fault of a node.
func (m *simModel) changeSlack() time.Duration {
	switch {
	case m.inRow > 1:
		return simDead
	case m.lossy:
		return simLost
	}
	return simQuick
}

// quietAfter returns when all nodes must agree after the last change.
func (m *simModel) quietAfter(changed time.Time) time.Time {
	return later(changed.Add(m.changeSlack()), m.faultBy).Add(m.lag)
}

// isKnown reports whether all live nodes know at the time now of a change. As long as frames are
// lost, the requests that repair this may be lost too.
func (m *simModel) isKnown(change, now time.Time) bool {
	if m.lossy {
		return change.Before(m.quietAt)
	}
	return now.Sub(change) > m.slack()
}

// surely reports whether every node that knows the latest changes has the user as a member.
func (u *simMember) surely(now time.Time) bool { return len(u.conns) > 0 || now.Before(u.earliest) }

// possibly reports whether a node may have the user as a member.
func (u *simMember) possibly(now time.Time) bool {
	return len(u.conns) > 0 || u.joining > 0 || !now.After(u.latest)
}

// disturb records a fault that can end the presence of users on a node's view, or prolong it.
func (m *simModel) disturb(now time.Time) {
	m.unsure = true
	for _, u := range m.members {
		if len(u.conns) == 0 && u.possibly(now) {
			u.earliest, u.latest = now, later(u.latest, now.Add(m.slack()+m.linger))
		}
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// simJoin is a call of Join.
type simJoin struct {
	start          time.Time
	sure, absent   bool // the user was surely a member at the start, or surely none
	session, count int
}

func (m *simModel) joinStarts(p simPlace, now time.Time) simJoin {
	u := m.member(p)
	j := simJoin{start: now, sure: u.surely(now) && !m.unsure, absent: !u.possibly(now) && !(m.lossy && u.left), session: u.session}
	u.joining++
	u.changes++
	j.count = u.changes
	return j
}

func (m *simModel) joinFails(c *simConn, err error, now time.Time) {
	u := m.member(c.place)
	u.joining--
	if errors.Is(err, hub.ErrBanned) && !m.mayBan(c, now) {
		m.fail("tab %d: %v was rejected as banned, without a ban", c.tab.id, c.place)
	}
}

// joinDies records that the node has crashed while Join ran.
func (m *simModel) joinDies(c *simConn, now time.Time) {
	u := m.member(c.place)
	u.joining--
	u.infos[c.tab.info], u.changedAt = true, now
	u.latest = later(u.latest, now.Add(m.linger+m.slack()))
}

// joined records that Join has returned without an error. If frames are lost, the node of the
// connection may not know the record of the user, and the record of the connection may win: because
// that of a skewed clock is older, or because the grace period of the former connection ends first.
func (m *simModel) joined(c *simConn, now time.Time) {
	u := m.member(c.place)
	u.joining--
	if u.ban.contains(c.join.start, now) && !m.heavy && !m.lossy {
		m.fail("tab %d: %v was admitted in spite of its ban", c.tab.id, c.place)
	}
	settled := u.put || m.isKnown(u.changedAt, c.join.start)
	sure := c.join.sure && u.session == c.join.session && u.surely(now)
	if !sure { // the grace period may have ended meanwhile, and with it the record of a PUT that runs
		u.session++
	}
	blind := m.lossy && (m.skewed || len(u.conns) == 0)
	switch {
	case sure && settled && !m.unsure && !blind:
	case c.join.absent && u.changes == c.join.count && !m.unsure && !c.join.start.Before(u.late):
		u.infos, u.put, u.changedAt = map[string]bool{c.tab.info: true}, false, now
	default:
		if blind && !m.isKnown(u.changedAt, c.join.start) { // the node of c may not know the last PUT
			maps.Copy(u.infos, u.stale)
		}
		u.infos[c.tab.info], u.changedAt = true, now
		u.put = false // the record of the PUT may have ended, and then other tokens count
	}
	if len(u.conns) == 0 {
		u.since = now
	}
	u.conns[c] = true
	c.since = now
}

// left records that a connection has closed.
func (m *simModel) left(c *simConn, removed bool, now time.Time) {
	u := m.member(c.place)
	if !u.conns[c] {
		return
	}
	delete(u.conns, c)
	u.closed = now
	if m.lossy && !m.isKnown(u.changedAt, now) { // the node of c may be the only one that knows the PUT
		maps.Copy(u.infos, u.stale)
	}
	for other := range u.conns {
		if m.lossy && !m.isKnown(other.since, now) { // its node may not know the record of c
			u.infos[other.tab.info] = true
		}
	}
	if len(u.conns) > 0 {
		return
	}
	u.left = true
	u.session++
	u.earliest, u.latest = now.Add(m.linger), later(u.latest, now.Add(m.linger+m.margin+m.slack()))
	if removed || m.unsure || u.maybe.touches(now, now) { // a ban ends the grace period
		u.earliest = now
	}
}

// simPut is a call of Update.
type simPut struct {
	place            simPlace
	info             string
	start            time.Time
	sure, overlapped bool
	session, number  int
}

func (m *simModel) putStarts(p simPlace, info string, now time.Time) *simPut {
	u := m.member(p)
	u.started++
	put := &simPut{place: p, info: info, start: now, sure: u.surely(now), session: u.session, number: u.started,
		overlapped: u.puts > 0 || now.Before(u.late)}
	u.puts++
	return put
}

func (m *simModel) putEnds(p *simPut, err error, now time.Time) {
	u := m.member(p.place)
	u.puts--
	u.changes++
	clear := !m.unsure && !m.lossy
	known := clear || m.isKnown(u.changedAt, p.start) && u.closed.Before(p.start) // else only the closed connection's node may know it
	sure := p.sure && u.surely(now) && u.session == p.session
	switch missing := errors.Is(err, hub.ErrNotInRoom); {
	case missing && clear && sure && len(u.conns) > 0 && p.start.Sub(u.since) > m.slack():
		m.fail("PUT of %v: got %v, want success, as it has a connection for %v", p.place, err, p.start.Sub(u.since))
	case missing && clear: // a repeated request may reach a node after a join
		if u.infos[p.info], u.late = true, now.Add(time.Second); len(u.conns) > 0 {
			u.changedAt = now
		}
	case err == nil && sure && !m.unsure && !p.overlapped && u.started == p.number && known:
		u.stale, u.infos, u.put, u.changedAt = u.infos, map[string]bool{p.info: true}, true, now
	default:
		u.infos[p.info], u.changedAt = true, now
		if err != nil {
			u.late = now.Add(time.Second)
		}
	}
}

func (m *simModel) kickStarts(p simPlace, d time.Duration, now time.Time) {
	u := m.member(p)
	if end := now.Add(d); u.kicks == 0 || end.Before(u.shortest) {
		u.shortest = end
	}
	u.bans++
	u.kicks++
	u.recent = true
	u.ban.end = now
	if len(u.conns) == 0 {
		u.earliest = now
	}
	if !now.Before(u.maybe.end) {
		u.maybe.start = now
	}
	u.maybe.end = now.Add(time.Hour) // until the calls have returned
}

// mayBan reports whether a node may have had a ban of the connection's user while it was open. A
// node that was stopped or cut off receives the row late, even after the end of the ban.
func (m *simModel) mayBan(c *simConn, now time.Time) bool {
	u := m.member(c.place)
	return u.maybe.touches(c.join.start, now) || m.heavy && u.recent
}

// settled narrows the model after a quiet moment.
func (m *simModel) settled(now time.Time) {
	m.quietAt = now
	m.heavy, m.unsure, m.lossy, m.inRow, m.faultSlack, m.lag = false, false, false, 0, 0, 0
	for _, u := range m.members {
		u.recent, u.left = false, false
	}
}

// banRound is the time by which an engine may prolong a row.
const banRound = 1100 * time.Millisecond

func (m *simModel) kickEnds(p simPlace, d time.Duration, start, now time.Time, err error) {
	u := m.member(p)
	u.kicks--
	if u.banEnd = later(u.banEnd, now.Add(d+banRound+m.lag+time.Second)); u.kicks == 0 {
		u.maybe.end = u.banEnd
	}
	if len(u.conns) == 0 {
		u.earliest = now
	}
	switch missing := errors.Is(err, hub.ErrNotInRoom); {
	case err == nil && (u.lifts > 0 || u.lifted.Add(time.Second).After(start)): // the lift may be the later one
	case err == nil:
		u.ban = simSpan{now.Add(m.lag + 300*time.Millisecond), start.Add(d)}
		if u.shortest.Before(u.ban.end) { // the row of another call may have replaced that of this one
			u.ban.end = u.shortest
		}
	case missing && !m.unsure && !m.lossy && len(u.conns) > 0 && start.Sub(u.since) > m.slack():
		m.fail("kick of %v: got %v, want success, as it has a connection for %v", p, err, start.Sub(u.since))
	}
}

// simLift is a call of Unban.
type simLift struct {
	place simPlace
	sure  bool // the user was surely banned at the start
	alone bool // no call of Kick ran at the start
	bans  int
}

func (m *simModel) liftStarts(p simPlace, now time.Time) simLift {
	u := m.member(p)
	l := simLift{p, u.ban.contains(now, now) && !m.heavy, u.kicks == 0, u.bans}
	u.lifts++
	u.recent = true
	if u.ban.end.After(now) {
		u.ban.end = now
	}
	return l
}

// liftEnds records the end of a call of Unban. From then on nodes admit the user, unless a node is
// cut off, or the user was banned meanwhile.
func (m *simModel) liftEnds(l simLift, err error, now time.Time) {
	u := m.member(l.place)
	u.lifts--
	u.lifted = now
	switch {
	case errors.Is(err, hub.ErrNotBanned) && l.sure:
		m.fail("unban of %v: got %v, want success", l.place, err)
	case err == nil && l.alone && l.bans == u.bans && !m.heavy:
		u.banEnd = now.Add(m.lag + 300*time.Millisecond)
		u.maybe.end = u.banEnd
	}
}
