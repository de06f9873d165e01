package hub

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/room"
)

// ownedRoom is a room of the model.
type ownedRoom struct {
	name             room.Name
	owner            room.UserID
	inUse            bool
	listed, asListed bool // the room is in a list of unused rooms; as settled
	used             int  // step in which it was added to the list
	noted            uint32
	gone             bool
}

// ownersModel is a plain model of the registry. It looks at each room in each step.
type ownersModel struct {
	limit, userLimit int
	rooms            []*ownedRoom
	step             int
}

func (m *ownersModel) count(user room.UserID) (n int) {
	for _, r := range m.rooms {
		if r.owner == user {
			n++
		}
	}
	return n
}

func (m *ownersModel) find(name room.Name) *ownedRoom {
	for _, r := range m.rooms {
		if r.name == name {
			return r
		}
	}
	return nil
}

func (m *ownersModel) remove(r *ownedRoom) {
	r.gone = true
	m.rooms = slices.DeleteFunc(m.rooms, func(o *ownedRoom) bool { return o == r })
}

// note adds a room to a list, or removes it from one, unless the state is older than the last one.
func (m *ownersModel) note(r *ownedRoom, number uint32, listed, settled bool) {
	if !r.gone && number > r.noted {
		m.step++
		r.noted, r.listed, r.asListed, r.used = number, listed, settled, m.step
	}
}

// evict removes the room to evict, and returns its name. It is one of the given user's, or of any.
// It evicts none of a user that owns less than least rooms.
func (m *ownersModel) evict(least int, of func(*ownedRoom) bool) room.Name {
	for {
		var first *ownedRoom
		for _, r := range m.rooms {
			if !r.listed || !of(r) {
				continue
			}
			if first == nil {
				first = r
				continue
			}
			n, most := m.count(r.owner), m.count(first.owner)
			switch {
			case n != most:
				if n > most {
					first = r
				}
			case r.asListed != first.asListed:
				if r.asListed {
					first = r
				}
			case r.used < first.used:
				first = r
			}
		}
		switch {
		case first == nil, m.count(first.owner) < least:
			return ""
		case first.inUse: // its next state adds it back
			first.listed = false
		default:
			m.remove(first)
			return first.name
		}
	}
}

// create creates a room, and returns the name of the evicted room.
func (m *ownersModel) create(name room.Name, user room.UserID) (evicted room.Name, err error) {
	owned, free := m.count(user), m.limit-len(m.rooms)
	switch {
	case user != "" && m.userLimit > 0 && owned >= m.userLimit:
		if evicted = m.evict(0, func(r *ownedRoom) bool { return r.owner == user }); evicted == "" {
			return "", ErrUserRooms
		}
	case user != "" && owned > free:
		if evicted = m.evict(owned, func(*ownedRoom) bool { return true }); evicted == "" {
			return "", ErrUserRooms
		}
	case free == 0:
		if evicted = m.evict(0, func(*ownedRoom) bool { return true }); evicted == "" {
			return "", ErrTooManyRooms
		}
	}
	m.step++
	m.rooms = append(m.rooms, &ownedRoom{name: name, owner: user, listed: true, asListed: true, used: m.step})
	return evicted, nil
}

// registry is a registry whose rooms go in and out of use as the test demands.
type registry struct {
	rooms
	shared shared
}

func newRegistry(t *testing.T, limit, userLimit int) *registry {
	bus := backplane.NewMemory(backplane.MemoryConfig{Messages: 1, Age: time.Minute, Bytes: 1})
	t.Cleanup(func() { bus.Close() })
	r := &registry{rooms: newRooms(limit, userLimit)}
	r.shared.config = Config{Streams: silentStreams{}, Clock: system{}, Count: (*room.Room).Connections, Bus: bus}
	return r
}

// create creates the room, and returns the evicted room.
func (r *registry) create(name room.Name, user room.UserID) (evicted room.Name, err error) {
	_, gone, err := r.get(name, user, func(l *live) {
		l.start(name, &r.shared, func() {})
		l.stopTimerLocked()
	})
	if err == nil {
		r.changing.Done()
	}
	if gone == nil {
		return "", err
	}
	r.leave(gone)
	return gone.name, err
}

// use changes whether the room is in use. The result is for note.
func (r *registry) use(name room.Name, inUse, settled bool) (*live, state) {
	l := r.find(name)
	l.counter.mu.Lock()
	defer l.counter.mu.Unlock()
	since := time.Now().Add(-time.Second)
	l.streams = 0
	if inUse {
		since, l.streams = time.Time{}, 1
	}
	l.setIdleLocked(since)
	return l, state{changed: true, number: l.changes, idle: since, settled: settled}
}

// check compares the accounts of the owners with the model.
func (r *registry) check(m *ownersModel) error {
	type account struct{ rooms, settled, unsettled int }
	want, got := map[room.UserID]account{}, map[room.UserID]account{}
	for _, o := range m.rooms {
		a := want[o.owner]
		a.rooms++
		if o.listed && o.asListed {
			a.settled++
		} else if o.listed {
			a.unsettled++
		}
		want[o.owner] = a
	}
	for u := range r.owners.all.All() {
		settled, weight := listed(u.settled)
		unsettled, other := listed(u.unsettled)
		a := account{u.rooms, settled, unsettled}
		if got[u.id] = a; weight != a.rooms*min(1, settled) || other != a.rooms*min(1, unsettled) {
			return fmt.Errorf("owner %q: got weights %d and %d of %+v", u.id, weight, other, a)
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) || r.size() != len(m.rooms) {
		return fmt.Errorf("got %d rooms, %v; want %d, %v", r.size(), got, len(m.rooms), want)
	}
	return nil
}

// listed returns the number of rooms in a list, and its weight in the ranking.
func listed(list *unused) (rooms, weight int) {
	if list == nil {
		return 0, 0
	}
	return list.rooms.Len(), list.rank.Weight()
}

// Random owners create rooms, which go in and out of use. A plain model decides which room is
// evicted, and which error a creation has. At the end, no account is left.
func TestOwnersAgreeWithModel(t *testing.T) {
	for seed := range uint64(60) {
		random := rand.New(rand.NewPCG(seed, 7))
		limit, userLimit, users := 1+random.IntN(20), max(0, random.IntN(8)-3), 1+random.IntN(8)
		r, m := newRegistry(t, limit, userLimit), &ownersModel{limit: limit, userLimit: userLimit}
		var late []func() // states that are not noted yet
		for step := range 2000 {
			if err := turn(r, m, random, users, &late); err != nil {
				t.Fatalf("seed %d (%d rooms, %d per user), step %d: %v", seed, limit, userLimit, step, err)
			}
		}
		for _, o := range slices.Clone(m.rooms) {
			l, s := r.use(o.name, false, true)
			if r.owners.note(l, s); !r.drop(l) {
				t.Fatalf("seed %d: room %s was not dropped", seed, o.name)
			}
			r.leave(l)
			r.owners.note(l, state{changed: true, number: s.number + 1, idle: s.idle}) // too late
		}
		for _, f := range late {
			f()
		}
		if n := r.owners.all.Len(); n > 0 || r.owners.settled.Largest() != nil || r.owners.unsettled.Largest() != nil {
			t.Errorf("seed %d: %d owners of no room, want none", seed, n)
		}
	}
}

// turn takes one random step in the registry and in the model.
func turn(r *registry, m *ownersModel, random *rand.Rand, users int, late *[]func()) error {
	if random.IntN(3) == 0 || len(m.rooms) == 0 {
		name, user := room.Name(fmt.Sprint("room-", random.IntN(100_000))), room.UserID(fmt.Sprint("user-", random.IntN(users)))
		if user == "user-0" {
			user = ""
		}
		if m.find(name) != nil {
			return nil
		}
		want, wantErr := m.create(name, user)
		if got, err := r.create(name, user); got != want || !errors.Is(err, wantErr) {
			return fmt.Errorf("%q creates %s: evicted %q, %v; want %q, %v", user, name, got, err, want, wantErr)
		}
		return r.check(m)
	}
	o := m.rooms[random.IntN(len(m.rooms))]
	switch random.IntN(12) {
	case 0:
		for _, f := range *late {
			f()
		}
		*late = nil
	case 1:
		l := r.find(o.name)
		if got := r.drop(l); got != !o.inUse {
			return fmt.Errorf("drop of %s: got %v, want %v", o.name, got, !o.inUse)
		}
		if !o.inUse {
			m.remove(o)
			r.leave(l)
		}
	case 2:
		l := r.find(o.name)
		r.discard(l)
		r.discard(l)
		m.remove(o)
	default:
		o.inUse = random.IntN(3) > 0
		l, s := r.use(o.name, o.inUse, random.IntN(4) > 0)
		note := func() {
			m.note(o, s.number, !s.idle.IsZero(), s.settled)
			r.owners.note(l, s)
		}
		if random.IntN(5) == 0 {
			*late = append(*late, note)
		} else {
			note()
		}
	}
	return r.check(m)
}

// A user whose last room was charged to another user meanwhile has no room to evict.
func TestTakeOfNoOwner(t *testing.T) {
	var o owners
	if l := o.takeOf("alice"); l != nil {
		t.Errorf("got %v, want none", l)
	}
}
