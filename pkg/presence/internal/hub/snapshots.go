package hub

import (
	"sync"

	"example.com/presence/pkg/presence/internal/fair"
	"example.com/presence/pkg/presence/room"
)

// snapshots is the snapshot budget. It limits the total size of the unsent snapshots that are
// larger than maxSnapshot, over all rooms. A flush interval with joiners encodes one snapshot,
// which its joiners share.
//
// The first joiner of an interval reserves the size of its snapshot. A joiner is refused if its
// user holds more than is free, unless the end of stalled clients frees enough.
type snapshots struct {
	clock Clock

	mu       sync.Mutex             // guards the fields below; acquired under a counter's mutex
	budget   fair.Budget            // in bytes; a snapshot counts for each user that it was not sent to yet
	underWay map[*snapshot]struct{} // reserved or unsent
	search   search
}

// snapshot tracks one snapshot that is reserved or unsent.
type snapshot struct {
	size    int
	by      room.UserID              // holds the reservation
	started bool                     // no longer reserved
	to      map[*Connection]struct{} // joiners to which the snapshot was not sent yet
	users   map[room.UserID]int      // number of their connections
}

func newSnapshots(limit int, clock Clock) snapshots {
	return snapshots{clock: clock, budget: fair.NewBudget(limit), underWay: map[*snapshot]struct{}{}}
}

// reserve admits a joiner. n is the snapshot that other joiners of the interval have reserved, or
// nil: then reserve reserves a new one of this size. The caller must disconnect the connections in
// stalled. The error is [ErrSnapshots].
func (s *snapshots) reserve(n *snapshot, user room.UserID, size int) (reserved *snapshot, stalled []*Connection, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	more := size
	if n != nil {
		more = 0
	}
	if stalled, err = s.fitLocked(user, more); err != nil {
		return n, stalled, err
	}
	if n == nil {
		n = &snapshot{size: size, by: user}
		s.underWay[n] = struct{}{}
		s.budget.Grow(size)
		s.budget.Hold(string(user), size)
	}
	return n, stalled, nil
}

// fits returns [ErrSnapshots] if reserve would fail without a new snapshot of another joiner.
func (s *snapshots) fits(user room.UserID, size int) (stalled []*Connection, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fitLocked(user, size)
}

// fitLocked makes space for a user. It ends the snapshots of stalled clients until there is enough,
// but not those of users that hold less than this one.
func (s *snapshots) fitLocked(user room.UserID, more int) (stalled []*Connection, err error) {
	fits := func() bool { return s.budget.Fits(string(user), more) }
	least := s.budget.Held(string(user))
	switch {
	case fits():
		return nil, nil
	case !s.search.begin(s.clock.Now(), least):
		return nil, ErrSnapshots
	}
	all, of := holders{}, map[*Connection]*snapshot{}
	for n := range s.underWay {
		for conn := range n.to {
			all.add(conn, 0, conn.client.Held().Stalled)
			of[conn] = n
		}
	}
	stalled = all.release(&s.budget, least, fits, func(conn *Connection) { s.sentLocked(of[conn], conn) })
	if !fits() {
		return stalled, ErrSnapshots
	}
	return stalled, nil
}

// start records that a snapshot was encoded for the joiners. n is the reserved snapshot, or nil.
func (s *snapshots) start(n *snapshot, size int, joiners []joiner) *snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n == nil {
		n = new(snapshot)
		s.underWay[n] = struct{}{}
	}
	s.budget.Hold(string(n.by), -n.size) // its joiners hold it from now on
	s.budget.Grow(size - n.size)
	n.size, n.started = size, true
	n.to, n.users = make(map[*Connection]struct{}, len(joiners)), map[room.UserID]int{}
	for _, j := range joiners {
		n.to[j.Connection] = struct{}{}
		if n.users[j.user]++; n.users[j.user] == 1 {
			s.budget.Hold(string(j.user), size)
		}
	}
	return n
}

// sent records that the snapshot was sent to the connection, or that the connection is closed. A
// second call does nothing.
func (s *snapshots) sent(n *snapshot, conn *Connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sentLocked(n, conn)
}

func (s *snapshots) sentLocked(n *snapshot, conn *Connection) {
	if _, there := n.to[conn]; !there {
		return
	}
	delete(n.to, conn)
	if n.users[conn.user]--; n.users[conn.user] == 0 {
		delete(n.users, conn.user)
		s.budget.Hold(string(conn.user), -n.size)
	}
	if len(n.to) == 0 {
		s.endLocked(n)
	}
}

// release ends a reservation that no joiner needs any more. n may be nil.
func (s *snapshots) release(n *snapshot) {
	if n == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !n.started {
		s.budget.Hold(string(n.by), -n.size)
		s.endLocked(n)
	}
}

func (s *snapshots) endLocked(n *snapshot) {
	if _, there := s.underWay[n]; there {
		delete(s.underWay, n)
		s.budget.Grow(-n.size)
	}
}

func (s *snapshots) held() (count, bytes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.underWay), s.budget.Total()
}
