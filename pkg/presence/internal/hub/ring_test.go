package hub

import (
	"slices"
	"testing"
	"time"

	"example.com/presence/pkg/presence/backplane"
)

// ringClock is a clock without timers.
type ringClock struct {
	Clock
	now time.Time
}

func (c *ringClock) Now() time.Time { return c.now }

func testRings(messages, bytes int) (*rings, *ringClock) {
	clock := &ringClock{now: time.Unix(1000, 0)}
	return newRings(Config{RingMessages: messages, RingAge: time.Minute, RingBytes: bytes, Clock: clock}), clock
}

// addAll adds entries with 100 bytes of data, which count as 300 bytes each.
func (r *rings) addAll(g *ring, positions ...uint64) {
	for _, p := range positions {
		r.add(g, entryAt(p, r.clock.Now()))
	}
}

func entryAt(position uint64, at time.Time) backplane.Entry {
	return backplane.Entry{Position: position, At: at, Data: make([]byte, 100)}
}

// expect checks the position from which a ring is complete, and the positions of its entries.
func (r *rings) expect(t *testing.T, when string, g *ring, from uint64, want ...uint64) {
	t.Helper()
	var got []uint64
	entries, ok := r.after(g, from)
	for _, e := range entries {
		got = append(got, e.Position)
	}
	if !ok || !slices.Equal(got, want) {
		t.Errorf("%s: got %d, complete %v after %d, want %d", when, got, ok, from, want)
	}
	if _, ok := r.after(g, from-1); from > 0 && ok {
		t.Errorf("%s: ring is complete after %d, want only after %d", when, from-1, from)
	}
}

// A read whose positions do not increase comes from a broken engine. A ring does not take it over.
func TestUnorderedRead(t *testing.T) {
	for _, positions := range [][]uint64{{9, 3, 4}, {2, 2, 5}, {1, 5}} {
		r, clock := testRings(100, 500) // evicts entries when it has two
		var g ring
		r.restart(&g, 4)
		r.add(&g, entryAt(10, clock.now))
		var read []backplane.Entry
		for _, p := range positions {
			read = append(read, entryAt(p, clock.now))
		}
		if got, ok := r.extend(&g, 1, read); ok {
			t.Errorf("read of %d after 1: got %d entries, want none", positions, len(got))
		}
		r.expect(t, "unordered read", &g, 4, 10)
	}
}

// A ring keeps its limits: entries per room, age, and bytes of all rooms. After an eviction, it is
// complete only from the evicted entry.
func TestRingLimits(t *testing.T) {
	r, clock := testRings(3, 5*300)
	var a, b ring
	r.restart(&a, 5)
	r.addAll(&a, 10, 20)
	r.expect(t, "no limit reached", &a, 5, 10, 20)
	r.addAll(&a, 30, 40)
	r.expect(t, "fourth entry at a limit of 3", &a, 10, 20, 30, 40)

	r.addAll(&b, 1, 2, 3)
	r.expect(t, "sixth entry of all rooms at a limit of 5", &a, 20, 30, 40)
	r.expect(t, "other room", &b, 0, 1, 2, 3)

	clock.now = clock.now.Add(30 * time.Second)
	r.addAll(&b, 4)
	clock.now = clock.now.Add(30 * time.Second)
	r.expect(t, "age of one minute, without an addition", &a, 40)
	r.addAll(&b, 5)
	r.expect(t, "age of one minute", &b, 3, 4, 5)
	if r.bytes != 2*300 {
		t.Errorf("got %d bytes, want 600", r.bytes)
	}
	r.restart(&b, 7)
	r.expect(t, "restart", &b, 7)
	if r.bytes != 0 || r.oldest.next != &r.oldest {
		t.Errorf("got %d bytes after the last ring was emptied, want 0 and no entry", r.bytes)
	}
}

// A read is stored in front of the entries of a ring, without the entries that both contain.
func TestRingExtend(t *testing.T) {
	read := func(positions ...uint64) (entries []backplane.Entry) {
		for _, p := range positions {
			entries = append(entries, entryAt(p, time.Unix(1000, 0)))
		}
		return entries
	}
	for _, c := range []struct {
		name  string
		after uint64
		read  []uint64
		want  []uint64 // nil: the read is too old
		ring  []uint64 // the entries of the ring afterwards
	}{
		{"up to the ring", 5, []uint64{10, 20, 30}, []uint64{10, 20, 30, 40, 50}, []uint64{10, 20, 30, 40, 50}},
		{"into the ring", 5, []uint64{10, 20, 30, 40}, []uint64{10, 20, 30, 40, 50}, []uint64{10, 20, 30, 40, 50}},
		{"before the ring", 5, []uint64{10, 20}, nil, []uint64{40, 50}},
		{"nothing", 5, nil, nil, []uint64{40, 50}},
		{"within the ring", 40, nil, []uint64{50}, []uint64{40, 50}},
		{"more than the limit", 0, []uint64{1, 2, 3, 10, 20, 30}, []uint64{1, 2, 3, 10, 20, 30, 40, 50}, []uint64{3, 10, 20, 30, 40, 50}},
	} {
		r, _ := testRings(6, 6*300)
		var g, other ring
		r.restart(&g, 30)
		r.addAll(&g, 40)
		r.addAll(&other, 1)
		r.addAll(&g, 50)
		entries, ok := r.extend(&g, c.after, read(c.read...))
		var got, kept []uint64
		for _, e := range entries {
			got = append(got, e.Position)
		}
		for _, e := range g.entries {
			kept = append(kept, e.Position)
		}
		if ok != (c.want != nil) || !slices.Equal(got, c.want) || !slices.Equal(kept, c.ring) {
			t.Errorf("%s: got %d, %v and a ring of %d, want %d and %d", c.name, got, ok, kept, c.want, c.ring)
		}
		if want := 300 * (len(g.entries) + len(other.entries)); r.bytes != want {
			t.Errorf("%s: got %d bytes, want %d", c.name, r.bytes, want)
		}
	}
}

// A position that a ring should contain, but does not, is missing. A read that is compared with the
// ring begins at the entry before it.
func TestRingBefore(t *testing.T) {
	r, _ := testRings(10, 1<<20)
	var g ring
	r.restart(&g, 5)
	r.addAll(&g, 10, 20)
	for _, c := range []struct {
		position, before uint64
		missing          bool
	}{{4, 0, false}, {5, 0, false}, {10, 0, false}, {20, 0, false}, {7, 5, true}, {15, 10, true}} {
		if before, missing := r.before(&g, c.position); before != c.before || missing != c.missing {
			t.Errorf("position %d: got %d, %v, want %d, %v", c.position, before, missing, c.before, c.missing)
		}
	}
}
