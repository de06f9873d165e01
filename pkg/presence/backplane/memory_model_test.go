package backplane_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/room"
)

// clock is a fake clock for use on one goroutine. advance runs the timers that are due.
type clock struct {
	now    time.Time
	timers []*clockTimer
}

type clockTimer struct {
	at time.Time
	f  func()
}

func newClock() *clock { return &clock{now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time { return c.now }

func (c *clock) AfterFunc(d time.Duration, f func()) (stop func() bool) {
	t := &clockTimer{c.now.Add(d), f}
	c.timers = append(c.timers, t)
	return func() bool {
		i := slices.Index(c.timers, t)
		if i >= 0 {
			c.timers = slices.Delete(c.timers, i, i+1)
		}
		return i >= 0
	}
}

func (c *clock) advance(d time.Duration) {
	end := c.now.Add(d)
	for len(c.timers) > 0 {
		next := slices.MinFunc(c.timers, func(a, b *clockTimer) int { return a.at.Compare(b.at) })
		if next.at.After(end) {
			break
		}
		c.timers = slices.DeleteFunc(c.timers, func(t *clockTimer) bool { return t == next })
		if next.at.After(c.now) {
			c.now = next.at
		}
		next.f()
	}
	c.now = end
}

// model is a simple reference implementation of a memory bus. Each operation scans all data.
type model struct {
	config  backplane.MemoryConfig
	now     time.Time
	all     []modelEntry // oldest first
	evicted uint64       // entries dropped at the byte limit
	last    map[room.Name]uint64
	subs    map[room.Name]int
	floor   uint64
	keys    map[string]modelKey // the map keys are "room/key"
	rows    map[string]backplane.Row
}

type modelEntry struct {
	room     room.Name
	sender   room.UserID
	position uint64
	at       time.Time
	size     int
}

type modelKey struct {
	position uint64
	at       time.Time
}

func (m *model) of(name room.Name) (positions []uint64) { return of(m.all, name) }

func of(entries []modelEntry, name room.Name) (positions []uint64) {
	for _, e := range entries {
		if e.room == name {
			positions = append(positions, e.position)
		}
	}
	return positions
}

// weigh returns the bytes of each sender in each room, of each sender in all rooms, and of all
// senders.
func weigh(entries []modelEntry) (shares map[backplane.SenderInRoom]int, senders map[room.UserID]int, total int) {
	shares, senders = map[backplane.SenderInRoom]int{}, map[room.UserID]int{}
	for _, e := range entries {
		size, h := e.size, backplane.SenderInRoom{Sender: e.sender, Room: e.room}
		if shares[h] == 0 {
			size += 200 + len(e.sender)
		}
		shares[h] += size
		senders[e.sender] += size
		total += size
	}
	return shares, senders, total
}

// evict applies the byte limit. Because shares may be equal, it returns all correct results.
func evict(entries []modelEntry, limit int) (results [][]modelEntry) {
	shares, senders, total := weigh(entries)
	if total <= limit {
		return [][]modelEntry{entries}
	}
	most := 0
	for _, n := range senders {
		most = max(most, n)
	}
	largest := map[room.UserID]int{} // the largest share of each sender that uses the most
	for h, n := range shares {
		if senders[h.Sender] == most {
			largest[h.Sender] = max(largest[h.Sender], n)
		}
	}
	rooms := map[room.Name]bool{}
	for h, n := range shares {
		if n == largest[h.Sender] {
			rooms[h.Room] = true
		}
	}
	for name := range rooms {
		first := slices.IndexFunc(entries, func(e modelEntry) bool { return e.room == name })
		results = append(results, evict(slices.Delete(slices.Clone(entries), first, first+1), limit)...)
	}
	return results
}

// settle applies the limits. It also drops expired keys, and logs that have neither entries nor
// subscriptions. If several results are correct, settle uses the one for which is returns true.
func (m *model) settle(is func(entries []modelEntry) bool) {
	count := map[room.Name]int{}
	var kept []modelEntry
	for _, e := range slices.Backward(m.all) {
		if count[e.room]++; count[e.room] <= m.config.Messages && m.now.Sub(e.at) < m.config.Age {
			kept = append(kept, e)
		}
	}
	slices.Reverse(kept)
	results := evict(kept, m.config.Bytes)
	m.all = results[0]
	if i := slices.IndexFunc(results, is); i > 0 {
		m.all = results[i]
	}
	m.evicted += uint64(len(kept) - len(m.all))
	for name, last := range m.last {
		if m.subs[name] == 0 && len(m.of(name)) == 0 {
			delete(m.last, name)
			m.floor = max(m.floor, last)
		}
	}
	for k, v := range m.keys {
		if m.now.Sub(v.at) >= backplane.KeyAge {
			delete(m.keys, k)
		}
	}
}

func (m *model) open(name room.Name) {
	if _, ok := m.last[name]; !ok {
		m.last[name] = m.floor
	}
}

func (m *model) append(name room.Name, sender room.UserID, key string, size int) (position uint64, duplicate bool) {
	if k, ok := m.keys[string(name)+"/"+key]; ok && key != "" {
		return k.position, true
	}
	m.open(name)
	m.last[name]++
	m.all = append(m.all, modelEntry{name, sender, m.last[name], m.now, size + 200})
	if key != "" {
		m.keys[string(name)+"/"+key] = modelKey{m.last[name], m.now}
	}
	return m.last[name], false
}

func (m *model) end(name room.Name) uint64 {
	if last, ok := m.last[name]; ok {
		return last
	}
	return m.floor
}

// read returns the positions above after. complete reports whether they include every position up
// to the last one.
func (m *model) read(name room.Name, after uint64) (positions []uint64, complete bool) {
	if after > m.end(name) {
		return nil, false
	}
	for _, p := range m.of(name) {
		if p > after {
			positions = append(positions, p)
		}
	}
	return positions, uint64(len(positions)) == m.end(name)-after
}

func (m *model) clear(name room.Name) {
	m.all = slices.DeleteFunc(m.all, func(e modelEntry) bool { return e.room == name })
}

// run executes the same random operations on a memory bus and on its model.
type run struct {
	*testing.T
	rnd   *rand.Rand
	clock *clock
	bus   *backplane.Memory
	model model
	steps int
	// The actual and the expected calls of all subscriptions and the watcher, as text.
	got, want []string
	cancels   map[room.Name][]func()
}

func newRun(t *testing.T, seed uint64) *run {
	c := newClock()
	config := backplane.MemoryConfig{Messages: 20, Age: 3 * time.Minute, Bytes: 40_000, MaxRows: 1000, Now: c.Now, AfterFunc: c.AfterFunc}
	r := &run{T: t, rnd: rand.New(rand.NewPCG(seed, 0)), clock: c, bus: backplane.NewMemory(config), cancels: map[room.Name][]func(){}}
	r.model = model{config: config, now: c.now, last: map[room.Name]uint64{}, subs: map[room.Name]int{},
		keys: map[string]modelKey{}, rows: map[string]backplane.Row{}}
	if _, err := r.bus.Watch(func(row backplane.Row) { r.got = append(r.got, rowText(row)) }); err != nil {
		t.Fatal(err)
	}
	return r
}

func rowText(r backplane.Row) string { return fmt.Sprint(r.Key, " ", string(r.Value), " ", r.Deleted) }

func (r *run) step() {
	r.steps++
	ctx := r.Context()
	name := room.Name(fmt.Sprint("r", r.rnd.IntN(5)))
	switch n := r.rnd.IntN(100); {
	case n < 45:
		r.append(name)
	case n < 60:
		row := backplane.Row{Key: fmt.Sprint("k", r.rnd.IntN(8)), Value: fmt.Append(nil, r.steps)}
		ttl := time.Duration(r.rnd.IntN(100))*time.Second + time.Duration(r.steps) // so that no two rows expire at the same time
		row.Expires = r.clock.now.Add(ttl)
		r.model.rows[row.Key] = row
		r.want = append(r.want, rowText(row))
		r.check(r.bus.Put(ctx, row.Key, row.Value, ttl))
	case n < 63:
		key := fmt.Sprint("k", r.rnd.IntN(8))
		if _, ok := r.model.rows[key]; ok {
			delete(r.model.rows, key)
			r.want = append(r.want, rowText(backplane.Row{Key: key, Deleted: true}))
		}
		r.check(r.bus.Delete(ctx, key))
	case n < 75:
		r.advance(time.Duration(r.rnd.Int64N(int64(20 * time.Second))))
	case n < 80:
		r.subscribe(name)
	case n < 86:
		if cancels := r.cancels[name]; len(cancels) > 0 {
			cancels[0]()
			r.cancels[name] = cancels[1:]
			if r.model.subs[name]--; r.model.subs[name] == 0 {
				r.model.clear(name)
			}
		}
	case n < 90:
		r.check(r.bus.Clear(ctx, name))
		r.model.clear(name)
	case n == 90 && r.steps%7 == 0:
		r.bus.Recreate()
		r.model.all, r.model.floor = nil, 0
		clear(r.model.keys)
		for name := range r.model.last {
			r.model.last[name] = 0
		}
	}
	r.model.settle(r.has)
	for i := range 5 {
		r.compare(room.Name(fmt.Sprint("r", i)))
	}
	r.compareStats()
}

// has reports whether the log of the bus has exactly these entries.
func (r *run) has(entries []modelEntry) bool {
	for i := range 5 {
		name := room.Name(fmt.Sprint("r", i))
		if positions, _ := r.positions(name, 0); !slices.Equal(positions, of(entries, name)) {
			return false
		}
	}
	return true
}

// positions reads the positions above after from the bus.
func (r *run) positions(name room.Name, after uint64) (positions []uint64, complete bool) {
	r.Helper()
	entries, complete, err := r.bus.Read(r.Context(), name, after)
	r.check(err)
	for _, e := range entries {
		positions = append(positions, e.Position)
	}
	return positions, complete
}

func (r *run) check(err error) {
	r.Helper()
	if err != nil {
		r.Fatalf("step %d: %v", r.steps, err)
	}
}

func (r *run) append(name room.Name) {
	key := ""
	if r.rnd.IntN(2) == 0 {
		key = fmt.Sprint(r.rnd.IntN(30))
	}
	data := fmt.Append(nil, r.steps, strings.Repeat(".", r.rnd.IntN(2000)))
	if r.rnd.IntN(200) == 0 {
		data = make([]byte, 50_000) // exceeds the byte limit of all rooms
	}
	sender := room.UserID("senders"[:r.rnd.IntN(4)*r.rnd.IntN(2)]) // often the server
	want, wantDuplicate := r.model.append(name, sender, key, len(data))
	if !wantDuplicate {
		for range r.model.subs[name] {
			r.want = append(r.want, fmt.Sprint(name, want, len(data)))
		}
	}
	position, duplicate, err := r.bus.AppendFrom(r.Context(), name, sender, key, data)
	if position != want || duplicate != wantDuplicate || err != nil {
		r.Fatalf("step %d: append %q to %s: got %d, %v, %v, want %d, %v", r.steps, key, name, position, duplicate, err, want, wantDuplicate)
	}
}

func (r *run) subscribe(name room.Name) {
	r.model.open(name)
	r.model.subs[name]++
	cancel, err := r.bus.Subscribe(name, backplane.Handler{Entry: func(e backplane.Entry) {
		r.got = append(r.got, fmt.Sprint(name, e.Position, len(e.Data)))
	}})
	r.check(err)
	r.cancels[name] = append(r.cancels[name], cancel)
}

// advance moves the clock forward and removes expired rows from the model, in the order of their
// expiry.
func (r *run) advance(d time.Duration) {
	r.clock.advance(d)
	r.model.now = r.clock.now
	var ended []backplane.Row
	for key, row := range r.model.rows {
		if !row.Expires.After(r.model.now) {
			ended = append(ended, row)
			delete(r.model.rows, key)
		}
	}
	slices.SortFunc(ended, func(a, b backplane.Row) int { return a.Expires.Compare(b.Expires) })
	for _, row := range ended {
		r.want = append(r.want, rowText(backplane.Row{Key: row.Key, Deleted: true}))
	}
}

// compare checks that the bus and the model have the same state.
func (r *run) compare(name room.Name) {
	r.Helper()
	ctx := r.Context()
	last, err := r.bus.Last(ctx, name)
	if want := r.model.end(name); last != want || err != nil {
		r.Fatalf("step %d: last of %s: got %d, %v, want %d", r.steps, name, last, err, want)
	}
	for _, after := range []uint64{0, last, last + 1, last - uint64(r.rnd.IntN(25))} {
		positions, complete := r.positions(name, after)
		want, wantComplete := r.model.read(name, after)
		if !slices.Equal(positions, want) || complete != wantComplete {
			r.Fatalf("step %d: %s after %d of %d: got %d, %v, want %d, %v", r.steps, name, after, last, positions, complete, want, wantComplete)
		}
	}
	if !slices.Equal(r.got, r.want) {
		r.Fatalf("step %d: got calls %q, want %q", r.steps, r.got, r.want)
	}
	r.got, r.want = nil, nil
}

// compareStats checks that the bus and the model have the same sizes: in total, and of each sender
// in each room.
func (r *run) compareStats() {
	r.Helper()
	shares, _, bytes := weigh(r.model.all)
	if got := r.bus.Shares(); !maps.Equal(got, shares) {
		r.Fatalf("step %d: got shares %v, want %v", r.steps, got, shares)
	}
	want := backplane.MemoryStats{Bytes: bytes, Keys: len(r.model.keys), Rows: len(r.model.rows), Evictions: r.model.evicted}
	if got := r.bus.Stats(); got != want {
		r.Fatalf("step %d: got stats %+v, want %+v", r.steps, got, want)
	}
	if len(r.clock.timers) > 1 {
		r.Fatalf("step %d: got %d timers, want at most 1", r.steps, len(r.clock.timers))
	}
}

// FuzzMemory compares a memory bus with its model in random runs. The fuzz input is the random
// seed.
func FuzzMemory(f *testing.F) {
	for range 8 {
		f.Add(rand.Uint64())
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		t.Logf("seed %d", seed)
		r := newRun(t, seed)
		for range 3000 {
			r.step()
		}
		r.advance(10 * time.Minute)
		for _, cancels := range r.cancels {
			for _, cancel := range cancels {
				cancel()
			}
		}
		if len(r.clock.timers) != 0 {
			t.Errorf("%d timers run although nothing can expire", len(r.clock.timers))
		}
		r.bus.Close()
	})
}
