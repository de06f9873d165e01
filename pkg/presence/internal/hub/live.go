package hub

import (
	"container/list"
	"sync"
	"sync/atomic"

	"example.com/presence/pkg/presence/internal/fair"
	"example.com/presence/pkg/presence/internal/stream"
	"example.com/presence/pkg/presence/room"
)

// live is a room in the registry.
type live struct {
	counter
	holding holding
	opening atomic.Pointer[opening] // nil once the room is open
	ends    ends                    // cancels the subscriptions
}

// holding is a room as its owner holds it. The mutex of owners guards it.
type holding struct {
	owner   *owner        // nil once the room was dropped
	noted   uint32        // number of the newest state passed to note
	element *list.Element // in a list of the owner; nil if the room is in use
	used    uint64        // when the room was added to that list, as a number of owners.uses
}

// unlistLocked removes the room from the list of its owner. The mutex of owners is held.
func (l *live) unlistLocked() {
	if h := &l.holding; h.element != nil {
		for _, list := range []*unused{h.owner.settled, h.owner.unsettled} {
			if list != nil {
				list.rooms.Remove(h.element) // does nothing if the element is in the other list
			}
		}
		h.element = nil
	}
}

// Key returns the name of the room, for the registry.
func (l *live) Key() room.Name { return l.name }

// owner is a user with the rooms that it created. The empty user is the server itself.
type owner struct {
	id                 room.UserID
	rooms              int            // all of them, also those in use
	settled, unsettled *unused        // nil while empty, as for most owners
	unsent             stream.Account // of these rooms
}

// Key returns the id of the owner, for the index of the owners.
func (u *owner) Key() room.UserID { return u.id }

// first returns the element of the unused room to evict first, or nil if there is none.
func (u *owner) first() *list.Element {
	for _, list := range []*unused{u.settled, u.unsettled} {
		if list != nil && list.rooms.Len() > 0 {
			return list.rooms.Front()
		}
	}
	return nil
}

// unused lists the unused rooms of an owner that are settled, or those that are not. The least
// recently used room is first. Of owners with the same number of rooms, the one with the least
// recently used room is ranked first.
type unused struct {
	rooms list.List // of *live
	rank  fair.Rank[*owner]
}

// ranked places the list of an owner that owns n rooms in the ranking. It returns the list, or nil
// if the list is nil or empty.
func (u *unused) ranked(in *fair.Ranking[*owner], n int) *unused {
	if u == nil {
		return nil
	}
	first := u.rooms.Front()
	if first == nil {
		in.Place(&u.rank, 0, 0)
		return nil
	}
	in.Place(&u.rank, n, first.Value.(*live).holding.used)
	return u
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
