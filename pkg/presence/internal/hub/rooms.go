package hub

import (
	"cmp"
	"container/list"
	"slices"
	"sync"

	"example.com/presence/pkg/presence/room"
)

// rooms is the registry of the live rooms: those in use, and those that are kept for their history.
// It creates, finds and evicts rooms. A room does not know it.
type rooms struct {
	limit int

	mu     sync.Mutex          // guards what follows; taken before a counter's
	live   map[room.Name]*live // kept while draining: connections leave
	closed bool                // no room is created

	unused unused
}

// live is a room of the registry.
type live struct {
	counter
	opening sync.Once
	noted   uint32        // the number of the last state that was noted; guarded by unused.mu
	element *list.Element // of unused.rooms; guarded by unused.mu
	failed  *error        // why it could not be opened; nil if it could
	cancel  func()        // ends the subscription; nil before
}

// unused are the rooms that nobody uses, the longest unused first. Its lock is taken last.
type unused struct {
	mu    sync.Mutex
	rooms list.List // of *live
}

// note moves a room that is unused now to the end, and removes one in use. States may come in
// another order than the changes: the newest counts.
func (u *unused) note(r *live, s state) {
	if !s.changed {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if int32(s.number-r.noted) <= 0 {
		return
	}
	r.noted = s.number
	u.removeLocked(r)
	if !s.idle.IsZero() {
		r.element = u.rooms.PushBack(r)
	}
}

// first returns the longest unused room; nil if there is none.
func (u *unused) first() *live {
	u.mu.Lock()
	defer u.mu.Unlock()
	if e := u.rooms.Front(); e != nil {
		return e.Value.(*live)
	}
	return nil
}

func (u *unused) remove(r *live) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.removeLocked(r)
}

func (u *unused) removeLocked(r *live) {
	if r.element != nil {
		u.rooms.Remove(r.element)
		r.element = nil
	}
}

// get returns a room, and creates it if there is none: init starts its counter. At the limit the
// room takes the place of the longest unused one, which get returns. The error is [ErrDraining] or
// [ErrTooManyRooms].
func (r *rooms) get(name room.Name, init func(*live)) (l, evicted *live, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, nil, ErrDraining
	}
	if l := r.live[name]; l != nil {
		return l, nil, nil
	}
	if len(r.live) >= r.limit {
		if evicted = r.evictLocked(); evicted == nil {
			return nil, nil, ErrTooManyRooms
		}
	}
	l = &live{}
	init(l)
	r.live[name] = l
	r.unused.mu.Lock()
	l.element = r.unused.rooms.PushBack(l)
	r.unused.mu.Unlock()
	return l, evicted, nil
}

// evictLocked drops the room that has been unused for longest; nil if there is none.
func (r *rooms) evictLocked() *live {
	for {
		l := r.unused.first()
		if l == nil {
			return nil
		}
		r.unused.remove(l) // also of one that is in use again: its next state notes it
		if l.closeUnused(false) {
			delete(r.live, l.name)
			return l
		}
	}
}

// drop removes a room that has been unused for Config.RoomAge, and reports whether it did.
func (r *rooms) drop(l *live) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.live[l.name] != l || !l.closeUnused(true) {
		return false
	}
	delete(r.live, l.name)
	r.unused.remove(l)
	return true
}

// discard removes a room that could not be opened.
func (r *rooms) discard(l *live) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.live[l.name] == l {
		delete(r.live, l.name)
	}
	r.unused.remove(l)
	l.close()
}

// find returns a room; nil if there is none.
func (r *rooms) find(name room.Name) *live {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.live[name]
}

// all returns the rooms whose names come after a name, sorted by name.
func (r *rooms) all(after string) []*live {
	r.mu.Lock()
	var all []*live
	for name, l := range r.live {
		if string(name) > after {
			all = append(all, l)
		}
	}
	r.mu.Unlock()
	slices.SortFunc(all, func(a, b *live) int { return cmp.Compare(a.name, b.name) })
	return all
}

// size returns the number of rooms.
func (r *rooms) size() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.live)
}

// close has no room created from now on.
func (r *rooms) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
}
