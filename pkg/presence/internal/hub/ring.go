package hub

import (
	"slices"
	"sort"
	"sync"
	"time"

	"example.com/presence/pkg/presence/backplane"
)

// rings keeps the recent log entries of the live rooms, so that a client can resume without a read
// of the log. It is used only if the bus is shared.
//
// A room keeps at most messages entries, each for at most age. At the byte limit, the entries that
// were stored first are evicted, regardless of their room. The log follows the same rule, and an
// eviction loses no message: the next client that needs the entry reads it from the log.
//
// An entry older than age may stay in memory until the next entry of any room, but no client
// receives it.
type rings struct {
	messages int
	age      time.Duration
	limit    int // bytes; each entry counts as its data plus messageCost
	clock    Clock

	mu     sync.Mutex // guards the fields below and all rings
	oldest ringEntry  // head of the list of all entries, in the order in which they were stored
	bytes  int
}

// ring contains the recent entries of one room. Every entry of the log between the position from
// and the position of the room is in the ring, as far as the subscription has missed none.
type ring struct {
	from    uint64
	entries []*ringEntry // sorted by position; all are above from
}

type ringEntry struct {
	backplane.Entry
	stored     time.Time // by the clock of this node; the engine's clock may differ
	of         *ring
	prev, next *ringEntry
}

func newRings(c Config) *rings {
	r := &rings{messages: c.RingMessages, age: c.RingAge, limit: c.RingBytes, clock: c.Clock}
	r.oldest.prev, r.oldest.next = &r.oldest, &r.oldest
	return r
}

// add appends an entry to a ring.
func (r *rings) add(g *ring, e backplane.Entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.addLocked(g, e)
	r.evictLocked(g)
}

// restart empties a ring. From now on, it is complete from this position.
func (r *rings) restart(g *ring, from uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.removeLocked(g, len(g.entries))
	g.from = from
}

// start returns the position from which a ring is complete.
func (r *rings) start(g *ring) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return g.from
}

// after returns the entries above a position. ok is false if the ring is not complete from there.
func (r *rings) after(g *ring, position uint64) (entries []backplane.Entry, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expireLocked(g)
	return g.afterLocked(position)
}

// newest returns the newest entries below a position: at most n, oldest first.
func (r *rings) newest(g *ring, position uint64, n int) (entries []backplane.Entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expireLocked(g)
	i, _ := g.findLocked(position)
	for _, e := range g.entries[max(0, i-n):i] {
		entries = append(entries, e.Entry)
	}
	return entries
}

// before returns the greatest position below the given one from which a read of the log can be
// compared with the ring. missing is true if the ring should contain the position, but does not.
func (r *rings) before(g *ring, position uint64) (before uint64, missing bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i, found := g.findLocked(position)
	if found || position <= g.from {
		return 0, false
	}
	return g.belowLocked(i), true
}

// below returns the greatest position below the given one from which a read of the log can be
// compared with the ring. If the ring starts later, it returns its start.
func (r *rings) below(g *ring, position uint64) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	i, _ := g.findLocked(position)
	return g.belowLocked(i)
}

// extend stores the result of a read in front of the entries of a ring. The read must be complete
// above the position after. extend returns all entries above that position, even if the ring cannot
// keep them. ok is false if the read ends before the ring begins: it is older than the ring, and
// the entries between them are unknown. ok is also false if the positions do not increase: the
// engine is broken, and the search in a ring needs their order.
func (r *rings) extend(g *ring, after uint64, read []backplane.Entry) (entries []backplane.Entry, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if after >= g.from {
		return g.afterLocked(after)
	}
	if len(read) == 0 || read[len(read)-1].Position < g.from || !increase(after, read) {
		return nil, false
	}
	n := sort.Search(len(read), func(i int) bool { return read[i].Position > g.from })
	kept, _ := g.afterLocked(g.from)
	entries = slices.Concat(read[:n], kept)
	r.removeLocked(g, len(g.entries))
	g.from = after
	for _, e := range entries { // they become the newest of all rooms, because clients need them now
		r.addLocked(g, e)
	}
	r.evictLocked(g)
	return entries, true
}

// increase reports whether the positions of the entries increase, from after on.
func increase(after uint64, entries []backplane.Entry) bool {
	for _, e := range entries {
		if e.Position <= after {
			return false
		}
		after = e.Position
	}
	return true
}

// lower moves the beginning of a ring from start back to after, because the log has no entry
// between the two. It does nothing if the ring has another beginning by now.
func (r *rings) lower(g *ring, after, start uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if g.from == start {
		g.from = min(g.from, after)
	}
}

func (r *rings) addLocked(g *ring, e backplane.Entry) {
	n := &ringEntry{Entry: e, stored: r.clock.Now(), of: g, prev: r.oldest.prev, next: &r.oldest}
	n.prev.next, n.next.prev = n, n
	g.entries = append(g.entries, n)
	r.bytes += len(e.Data) + messageCost
}

// evictLocked enforces the limits after an addition to a ring.
func (r *rings) evictLocked(g *ring) {
	r.removeLocked(g, max(0, len(g.entries)-r.messages))
	r.expireLocked(g)
	for now := r.clock.Now(); r.oldest.next != &r.oldest; {
		e := r.oldest.next
		if r.bytes <= r.limit && now.Sub(e.stored) < r.age {
			break
		}
		i, _ := e.of.findLocked(e.Position)
		r.removeLocked(e.of, i+1)
	}
}

// expireLocked removes the entries of a ring that have reached the maximum age.
func (r *rings) expireLocked(g *ring) {
	now, n := r.clock.Now(), 0
	for n < len(g.entries) && now.Sub(g.entries[n].stored) >= r.age {
		n++
	}
	r.removeLocked(g, n)
}

// removeLocked removes the n oldest entries of a ring.
func (r *rings) removeLocked(g *ring, n int) {
	if n == 0 {
		return
	}
	for _, e := range g.entries[:n] {
		e.prev.next, e.next.prev = e.next, e.prev
		r.bytes -= len(e.Data) + messageCost
		g.from = e.Position
	}
	clear(g.entries[:n])
	if g.entries = g.entries[n:]; len(g.entries) == 0 {
		g.entries = nil
	}
}

// findLocked returns the index of the first entry that is not below the position, and reports
// whether it is at the position.
func (g *ring) findLocked(position uint64) (i int, found bool) {
	i = sort.Search(len(g.entries), func(i int) bool { return g.entries[i].Position >= position })
	return i, i < len(g.entries) && g.entries[i].Position == position
}

// belowLocked returns the position before the entry with this index.
func (g *ring) belowLocked(i int) uint64 {
	if i == 0 {
		return g.from
	}
	return g.entries[i-1].Position
}

func (g *ring) afterLocked(position uint64) (entries []backplane.Entry, ok bool) {
	if position < g.from {
		return nil, false
	}
	i, found := g.findLocked(position)
	if found {
		i++
	}
	for _, e := range g.entries[i:] {
		entries = append(entries, e.Entry)
	}
	return entries, true
}
