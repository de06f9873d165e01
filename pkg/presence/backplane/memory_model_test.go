package backplane_test

import (
	"fmt"
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
	position uint64
	at       time.Time
	size     int
}

type modelKey struct {
	position uint64
	at       time.Time
}

func (m *model) of(name room.Name) (positions []uint64) {
	for _, e := range m.all {
		if e.room == name {
			positions = append(positions, e.position)
		}
	}
	return positions
}

// settle applies the limits, starting with the newest entry. It also drops expired keys, and logs
// that have neither entries nor subscriptions.
func (m *model) settle() {
	var kept []modelEntry
	count, bytes := map[room.Name]int{}, 0
	for _, e := range slices.Backward(m.all) {
		if count[e.room]++; count[e.room] > m.config.Messages || m.now.Sub(e.at) >= m.config.Age {
			continue
		}
		if bytes += e.size; bytes > m.config.Bytes {
			m.evicted++
			continue
		}
		kept = append(kept, e)
	}
	slices.Reverse(kept)
	m.all = kept
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

func (m *model) append(name room.Name, key string, size int) (position uint64, duplicate bool) {
	if k, ok := m.keys[string(name)+"/"+key]; ok && key != "" {
		return k.position, true
	}
	m.open(name)
	m.last[name]++
	m.all = append(m.all, modelEntry{name, m.last[name], m.now, size + 200})
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
	r.model.settle()
	r.compare(room.Name(fmt.Sprint("r", r.rnd.IntN(5))))
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
	want, wantDuplicate := r.model.append(name, key, len(data))
	if !wantDuplicate {
		for range r.model.subs[name] {
			r.want = append(r.want, fmt.Sprint(name, want, len(data)))
		}
	}
	position, duplicate, err := r.bus.Append(r.Context(), name, key, data)
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
		entries, complete, err := r.bus.Read(ctx, name, after)
		r.check(err)
		var positions []uint64
		for _, e := range entries {
			positions = append(positions, e.Position)
		}
		want, wantComplete := r.model.read(name, after)
		if !slices.Equal(positions, want) || complete != wantComplete {
			r.Fatalf("step %d: %s after %d of %d: got %d, %v, want %d, %v", r.steps, name, after, last, positions, complete, want, wantComplete)
		}
	}
	if !slices.Equal(r.got, r.want) {
		r.Fatalf("step %d: got calls %q, want %q", r.steps, r.got, r.want)
	}
	r.got, r.want = nil, nil
	bytes := 0
	for _, e := range r.model.all {
		bytes += e.size
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
