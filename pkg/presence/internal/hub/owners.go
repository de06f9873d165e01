package hub

import (
	"sync"

	"example.com/presence/pkg/presence/internal/fair"
	"example.com/presence/pkg/presence/internal/index"
	"example.com/presence/pkg/presence/room"
)

// owners charges each room to the user that created it, or to one that uses it since that user has
// no connection in it any more, and lists the unused rooms of each user. So it finds the room to
// evict: that of the user with the most rooms, not that of its victim. A room that is not settled
// is evicted only if the user has no other: its peers may have lost its last frame.
type owners struct {
	mu        sync.Mutex                       // guards the fields below, each owner, and live.holding; acquired last
	all       index.Index[room.UserID, *owner] // those with a room
	settled   fair.Ranking[*owner]             // those with an unused room that is settled
	unsettled fair.Ranking[*owner]             // those with an unused room that is not settled
	uses      uint64                           // number of rooms that were added to a list so far
}

// count returns the number of rooms that the user owns.
func (o *owners) count(user room.UserID) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	if u := o.all.Get(user); u != nil {
		return u.rooms
	}
	return 0
}

// add charges a new room to the user. The room is unused.
func (o *owners) add(l *live, user room.UserID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	u := o.chargeLocked(l, user)
	o.listLocked(l, u, &u.settled)
	o.rankLocked(u)
}

// move charges a room to another user. It does nothing if the room was dropped, or is unused.
func (o *owners) move(l *live, user room.UserID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	before := l.holding.owner
	if before == nil || before.id == user || l.holding.element != nil {
		return
	}
	o.dischargeLocked(l)
	o.rankLocked(o.chargeLocked(l, user))
}

// of returns the user that the room is charged to.
func (o *owners) of(l *live) (user room.UserID, known bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if u := l.holding.owner; u != nil {
		return u.id, true
	}
	return "", false
}

func (o *owners) chargeLocked(l *live, user room.UserID) *owner {
	u := o.all.Get(user)
	if u == nil {
		u = &owner{id: user}
		o.all.Put(u)
	}
	u.rooms++
	l.holding.owner = u
	l.stream.Charge(&u.unsent)
	return u
}

func (o *owners) dischargeLocked(l *live) {
	u := l.holding.owner
	l.holding.owner = nil
	u.rooms--
	o.rankLocked(u)
	if u.rooms == 0 {
		o.all.Delete(u.id)
	}
}

// release ends the charge for a room that was dropped. Calling it again is a no-op.
func (o *owners) release(l *live) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if l.holding.owner == nil {
		return
	}
	l.unlistLocked()
	o.dischargeLocked(l)
}

// note moves an unused room to the end of its list, and removes a room in use. States may arrive
// out of order, so note ignores a state that is older than the newest one. It also ignores a room
// that was dropped.
func (o *owners) note(l *live, s state) {
	if !s.changed {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	h := &l.holding
	if h.owner == nil || int32(s.number-h.noted) <= 0 {
		return
	}
	h.noted = s.number
	l.unlistLocked()
	switch {
	case s.idle.IsZero():
	case s.settled:
		o.listLocked(l, h.owner, &h.owner.settled)
	default:
		o.listLocked(l, h.owner, &h.owner.unsettled)
	}
	o.rankLocked(h.owner)
}

// take removes the unused room to evict first from its list, and returns it, or nil if all rooms
// are in use. It is the least recently used room of the user that owns the most rooms.
func (o *owners) take() *live { return o.takeOfLarger(0) }

// takeOfLarger is like take, but returns nil if that user owns less than this number of rooms.
func (o *owners) takeOfLarger(least int) *live {
	o.mu.Lock()
	defer o.mu.Unlock()
	rank := o.settled.Largest()
	if other := o.unsettled.Largest(); rank == nil || other != nil && other.Value.rooms > rank.Value.rooms {
		rank = other
	}
	if rank == nil || rank.Value.rooms < least {
		return nil
	}
	return o.takeLocked(rank.Value)
}

// takeOf is like take, but for the rooms of one user, which must own a room.
func (o *owners) takeOf(user room.UserID) *live {
	o.mu.Lock()
	defer o.mu.Unlock()
	u := o.all.Get(user)
	if u == nil { // its last room counts for another user since the caller looked
		return nil
	}
	return o.takeLocked(u)
}

func (o *owners) takeLocked(u *owner) *live {
	e := u.first()
	if e == nil {
		return nil
	}
	l := e.Value.(*live)
	l.unlistLocked()
	o.rankLocked(u)
	return l
}

// listLocked adds a room to one of the lists of its owner.
func (o *owners) listLocked(l *live, u *owner, in **unused) {
	if *in == nil {
		*in = &unused{rank: fair.Rank[*owner]{Value: u}}
	}
	o.uses++
	l.holding.used = o.uses
	l.holding.element = (*in).rooms.PushBack(l)
}

// rankLocked ranks an owner after a change of its rooms or its lists. It drops the empty lists.
func (o *owners) rankLocked(u *owner) {
	u.settled = u.settled.ranked(&o.settled, u.rooms)
	u.unsettled = u.unsettled.ranked(&o.unsettled, u.rooms)
}
