package hub

import (
	"cmp"
	"container/list"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"example.com/presence/pkg/presence/room"
)

// rooms is the registry of the live rooms: those in use, and those kept for their history. It
// creates, finds and evicts rooms. A room does not know the registry.
type rooms struct {
	limit int

	mu     sync.Mutex          // guards live and closed; acquired before the mutex of a counter
	live   map[room.Name]*live // kept during draining, because connections still leave
	closed bool                // no room is created, evicted or dropped

	// changing counts the rooms that are being opened, evicted or dropped: their subscriptions
	// change. It grows under mu, and not once closed is set.
	changing sync.WaitGroup

	unused unused
}

// live is a room in the registry.
type live struct {
	counter
	noted   uint32                  // number of the newest state passed to note; guarded by unused.mu
	element *list.Element           // in a list of unused; nil if the room is in use; guarded by unused.mu
	opening atomic.Pointer[opening] // nil once the room is open
	ends    ends                    // cancels the subscriptions
}

// ends collects functions that are called once, at the end of a room.
type ends struct {
	mu    sync.Mutex // guards the fields below
	all   []func()
	ended bool
}

// add adds a function. If the room has ended, add calls it.
func (e *ends) add(f func()) {
	e.mu.Lock()
	ended := e.ended
	if !ended {
		e.all = append(e.all, f)
	}
	e.mu.Unlock()
	if ended {
		f()
	}
}

// call calls the functions. Calling it again is a no-op.
func (e *ends) call() {
	e.mu.Lock()
	all := e.all
	e.all, e.ended = nil, true
	e.mu.Unlock()
	for _, f := range all {
		f()
	}
}

// opening is the state of a room that is being opened, or could not be opened.
type opening struct {
	done chan struct{} // closed at the end
	err  error         // set before done is closed
}

// awaitOpening waits until the room is open, and returns the error of opening it.
func (l *live) awaitOpening() error {
	o := l.opening.Load()
	if o == nil {
		return nil
	}
	<-o.done
	return o.err
}

// unsubscribe cancels the subscriptions of a room that is closed. The caller must not hold a lock.
func (l *live) unsubscribe() {
	l.awaitOpening() // its error concerns the caller of open
	l.ends.call()
}

// unused lists the unused rooms. The least recently used room is first. A room that is not settled
// is evicted only if there is no other: its peers may have lost its last frame.
type unused struct {
	mu        sync.Mutex // guards the lists, live.noted and live.element; acquired last
	rooms     list.List  // of *live
	unsettled list.List  // of *live; the rooms that are not settled
}

// note moves an unused room to the end of its list, and removes a room in use. States may arrive
// out of order, so note ignores a state that is older than the newest one.
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
	switch {
	case s.idle.IsZero():
	case s.settled:
		r.element = u.rooms.PushBack(r)
	default:
		r.element = u.unsettled.PushBack(r)
	}
}

// first returns the unused room to evict first, or nil.
func (u *unused) first() *live {
	u.mu.Lock()
	defer u.mu.Unlock()
	if e := cmp.Or(u.rooms.Front(), u.unsettled.Front()); e != nil {
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
		u.rooms.Remove(r.element) // does nothing if the element is in the other list
		u.unsettled.Remove(r.element)
		r.element = nil
	}
}

// get returns the room. If it does not exist, get creates it, and init starts its counter. Then the
// caller must open the room and call changing.Done. If the room limit is reached, get evicts the
// least recently used room and returns it too. The caller must pass that room to leave. The error
// is [ErrDraining] or [ErrTooManyRooms].
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
			return nil, nil, fmt.Errorf("%w (%d)", ErrTooManyRooms, r.limit)
		}
	}
	l = &live{}
	init(l)
	r.live[name] = l
	r.changing.Add(1)
	r.unused.mu.Lock()
	l.element = r.unused.rooms.PushBack(l)
	r.unused.mu.Unlock()
	return l, evicted, nil
}

// evictLocked drops an unused room and returns it. It returns nil if all rooms are in
// use.
func (r *rooms) evictLocked() *live {
	for {
		l := r.unused.first()
		if l == nil {
			return nil
		}
		r.unused.remove(l) // even if the room is in use again: its next state will add it back
		if l.closeUnused(false) {
			delete(r.live, l.name)
			r.changing.Add(1)
			return l
		}
	}
}

// drop removes a room that has been unused for Config.RoomAge. If it returns true, the caller must
// pass the room to leave. It returns false if the room must stay or was already removed.
func (r *rooms) drop(l *live) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.live[l.name] != l || !l.closeUnused(true) {
		return false
	}
	delete(r.live, l.name)
	r.unused.remove(l)
	r.changing.Add(1)
	return true
}

// leave cancels the subscriptions of a room that was evicted or dropped. The caller must not hold a
// lock.
func (r *rooms) leave(l *live) {
	defer r.changing.Done()
	l.unsubscribe()
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

func (r *rooms) find(name room.Name) *live {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.live[name]
}

// all returns the rooms with a name greater than after, sorted by name.
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

func (r *rooms) size() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.live)
}

// close makes get reject the creation of rooms, and keeps the rooms that exist.
func (r *rooms) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
}
