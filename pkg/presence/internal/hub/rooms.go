package hub

import (
	"cmp"
	"fmt"
	"slices"
	"sync"

	"example.com/presence/pkg/presence/internal/index"
	"example.com/presence/pkg/presence/room"
)

// rooms is the registry of the live rooms: those in use, and those kept for their history. It
// creates, finds and evicts rooms. A room does not know the registry.
type rooms struct {
	limit     int
	userLimit int // maximum per owner; 0: no limit of its own

	mu     sync.Mutex                    // guards live and closed; acquired before the mutex of a counter
	live   index.Index[room.Name, *live] // kept during draining, because connections still leave
	closed bool                          // no room is created, evicted or dropped

	// changing counts the rooms that are being opened, evicted or dropped: their subscriptions
	// change. It grows under mu, and not once closed is set.
	changing sync.WaitGroup

	owners owners
}

func newRooms(limit, userLimit int) rooms {
	return rooms{limit: limit, userLimit: userLimit}
}

// get returns the room. If it does not exist, get creates it for the user creator, and init starts
// its counter. Then the caller must open the room and call changing.Done. If a limit is reached,
// get evicts an unused room and returns it too. The caller must pass that room to leave. The error
// is [ErrDraining], [ErrTooManyRooms] or [ErrUserRooms].
func (r *rooms) get(name room.Name, creator room.UserID, init func(*live)) (l, evicted *live, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, nil, ErrDraining
	}
	if l := r.live.Get(name); l != nil {
		return l, nil, nil
	}
	if evicted, err = r.makeWayLocked(creator); err != nil {
		return nil, nil, err
	}
	l = &live{}
	init(l)
	r.live.Put(l)
	r.changing.Add(1)
	r.owners.add(l, creator)
	return l, evicted, nil
}

// makeWayLocked evicts an unused room if the user may otherwise create none, and returns it:
//
//   - A user that owns userLimit rooms evicts one of its own.
//   - If the user owns more rooms than are free, or none is free, the user that owns the most rooms
//     loses one. But a user that owns more than that one creates none. So one user alone leaves
//     nearly half of all rooms free, however many it wants.
//
// The server itself, as the empty user, has no limit of its own.
func (r *rooms) makeWayLocked(creator room.UserID) (evicted *live, err error) {
	owned, free := r.owners.count(creator), r.limit-r.live.Len()
	limited := creator != ""
	switch {
	case limited && r.userLimit > 0 && owned >= r.userLimit:
		evicted = r.evictLocked(func() *live { return r.owners.takeOf(creator) })
		if evicted == nil {
			return nil, fmt.Errorf("%w (%d)", ErrUserRooms, owned)
		}
	case limited && owned > free:
		evicted = r.evictLocked(func() *live { return r.owners.takeOfLarger(owned) })
		if evicted == nil {
			return nil, fmt.Errorf("%w (%d)", ErrUserRooms, owned)
		}
	case free <= 0:
		if evicted = r.evictLocked(r.owners.take); evicted == nil {
			return nil, fmt.Errorf("%w (%d)", ErrTooManyRooms, r.limit)
		}
	}
	return evicted, nil
}

// evictLocked drops an unused room and returns it. It returns nil if all rooms are in use. take
// returns the room to try next. It has removed the room from its list, even if the room is in use
// again: the next state of the room will add it back.
func (r *rooms) evictLocked(take func() *live) *live {
	for {
		l := take()
		if l == nil {
			return nil
		}
		if l.closeUnused(false) {
			r.removeLocked(l)
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
	if r.closed || r.live.Get(l.name) != l || !l.closeUnused(true) {
		return false
	}
	r.removeLocked(l)
	r.changing.Add(1)
	return true
}

// removeLocked removes a room from the registry. Calling it again is a no-op.
func (r *rooms) removeLocked(l *live) {
	if r.live.Get(l.name) == l {
		r.live.Delete(l.name)
	}
	r.owners.release(l)
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
	r.removeLocked(l)
	l.close()
}

func (r *rooms) find(name room.Name) *live {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.live.Get(name)
}

// all returns the rooms with a name greater than after, sorted by name.
func (r *rooms) all(after string) []*live {
	r.mu.Lock()
	var all []*live
	for l := range r.live.All() {
		if string(l.name) > after {
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
	return r.live.Len()
}

// close makes get reject the creation of rooms, and keeps the rooms that exist.
func (r *rooms) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
}
