package presence

import (
	"cmp"
	"container/list"
	"math"
	"net/http"
	"slices"
	"sync"
	"time"

	"example.com/presence/pkg/presence/room"
)

// rooms are the rooms in which somebody is, and those that are kept for their
// history.
type rooms struct {
	mu   sync.Mutex             // guards what follows; taken before any counter's
	open map[room.Name]*counter // nil once the server drains
	// floor is the highest place of a room that was dropped. A new room starts
	// there, so that no id is given twice. Who comes back to a room that was
	// dropped may hear a reset for another room's messages, and misses none.
	floor uint64

	unused unused
}

// unused are the rooms that nobody is in, those first of which nothing was heard
// for longest. Its lock is taken last.
type unused struct {
	mu    sync.Mutex // guards rooms
	rooms list.List  // of *counter
}

func (u *unused) add(c *counter) *list.Element {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.rooms.PushBack(c)
}

func (u *unused) touch(e *list.Element) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.rooms.MoveToBack(e)
}

func (u *unused) remove(e *list.Element) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.rooms.Remove(e)
}

// first returns the first; nil if there is none.
func (u *unused) first() *counter {
	u.mu.Lock()
	defer u.mu.Unlock()
	if e := u.rooms.Front(); e != nil {
		return e.Value.(*counter)
	}
	return nil
}

// close returns the rooms; from then on there are none.
func (r *rooms) close() map[room.Name]*counter {
	r.mu.Lock()
	defer r.mu.Unlock()
	open := r.open
	r.open = nil
	return open
}

// counter returns the counter of a room, which it makes if there is none; if
// there are too many, in the place of one that nobody is in. The error is
// [ErrDraining] or [ErrTooManyRooms].
func (s *Server) counter(name room.Name) (*counter, error) {
	r := &s.rooms
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.open[name]
	switch {
	case r.open == nil:
		return nil, ErrDraining
	case c == nil && len(r.open) >= s.config.MaxRooms && !s.makeRoomLocked():
		return nil, ErrTooManyRooms
	case c == nil:
		c = newCounter(name, &s.shared, r.floor, &r.unused, s.drop)
		r.open[name] = c
	}
	return c, nil
}

// find returns the counter of a room. The error is [ErrDraining], as who is
// here goes, and where to is not known here, or [ErrNotInRoom] if there is no
// such room.
func (s *Server) find(name room.Name) (*counter, error) {
	if s.draining.Load() {
		return nil, ErrDraining
	}
	s.rooms.mu.Lock()
	defer s.rooms.mu.Unlock()
	if c := s.rooms.open[name]; c != nil {
		return c, nil
	}
	return nil, ErrNotInRoom
}

// drop forgets a room in which nobody has been for a while, and its history.
func (s *Server) drop(c *counter) {
	r := &s.rooms
	r.mu.Lock()
	defer r.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); c.unusedLocked(now) {
		s.dropLocked(c, now)
	} else {
		c.tellLocked(now) // sets the timer, which wake left to us
	}
}

// dropLocked is called with both locks held.
func (s *Server) dropLocked(c *counter, now time.Time) {
	c.closeLocked(now)
	s.rooms.floor = max(s.rooms.floor, c.room.Place().Seq)
	delete(s.rooms.open, c.name)
	s.memory.drop(c.name)
}

// makeRoomLocked drops the room that has been unused for longest, and reports
// whether there was one.
func (s *Server) makeRoomLocked() bool {
	for {
		c := s.rooms.unused.first()
		if c == nil {
			return false
		}
		c.mu.Lock()
		unused := !c.idle.IsZero() // or somebody has come meanwhile, and it is no longer the first
		if unused {
			s.dropLocked(c, time.Now())
		}
		c.mu.Unlock()
		if unused {
			return true
		}
	}
}

// RoomCount is a room in which somebody is.
type RoomCount struct {
	Room        string `json:"room"`
	Connections int    `json:"connections"`
	Users       int    `json:"users"`
}

// Rooms returns the rooms in which somebody is, by name; never nil. Each has its
// numbers of a moment, and not all of the same one.
func (s *Server) Rooms() []RoomCount {
	page, _ := s.roomsAfter("", math.MaxInt)
	return page
}

// roomsAfter returns up to limit rooms in which somebody is, by name, from the
// first above after, and whether there are more.
func (s *Server) roomsAfter(after string, limit int) (page []RoomCount, more bool) {
	s.rooms.mu.Lock()
	var counters []*counter
	for name, c := range s.rooms.open {
		if string(name) > after {
			counters = append(counters, c)
		}
	}
	s.rooms.mu.Unlock()
	slices.SortFunc(counters, func(a, b *counter) int { return cmp.Compare(a.name, b.name) })
	page = []RoomCount{}
	for _, c := range counters {
		c.mu.Lock()
		count := RoomCount{string(c.name), c.room.Connections(), c.room.Users()}
		c.mu.Unlock()
		switch {
		case count.Users == 0:
		case len(page) == limit:
			return page, true
		default:
			page = append(page, count)
		}
	}
	return page, false
}

// getRooms tells an admin which rooms are in use, a page at a time, by name:
//
//	{"rooms":[{"room":"lobby","connections":3,"users":2}],"next":"lobby"}
//
// next is there if rooms follow; it is the after of their page.
func (s *Server) getRooms(w http.ResponseWriter, r *http.Request) error {
	query, err := s.admin(r, "limit", "after")
	if err != nil {
		return err
	}
	limit, err := pageLimit(query)
	if err != nil {
		return err
	}
	if s.draining.Load() {
		return ErrDraining
	}
	var page struct {
		Rooms []RoomCount `json:"rooms"`
		Next  string      `json:"next,omitempty"`
	}
	var more bool
	if page.Rooms, more = s.roomsAfter(query.Get("after"), limit); more {
		page.Next = page.Rooms[limit-1].Room
	}
	return writeJSON(w, http.StatusOK, page)
}
