package hub_test

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"example.com/presence/pkg/presence/internal/hub"
)

// simInstants gives each event of a simulation its own instant, so that the order of all events
// follows from the seed. No instant is a multiple of a microsecond: these are free for the test.
type simInstants struct {
	mu   sync.Mutex // guards used
	used map[int64]struct{}
}

func newSimInstants() *simInstants { return &simInstants{used: map[int64]struct{}{}} }

// claim returns the first unused instant that is not before t.
func (s *simInstants) claim(t time.Time) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.used) >= 1<<12 {
		now := time.Now().UnixNano()
		for n := range s.used {
			if n < now {
				delete(s.used, n)
			}
		}
	}
	for n := t.UnixNano(); ; n++ {
		if _, used := s.used[n]; !used && n%1000 != 0 {
			s.used[n] = struct{}{}
			return t.Add(time.Duration(n - t.UnixNano()))
		}
	}
}

// simClock implements hub.Clock. It shows the time of the bubble plus an offset. While it is
// frozen, no timer fires. As with package time, its times have a monotonic reading, which is used
// to compare two of them, and which a step of the clock does not change.
type simClock struct {
	offset    time.Duration
	stepped   atomic.Int64 // sum of all steps, in nanoseconds
	steppedAt atomic.Int64 // time of the last step, in Unix nanoseconds; 0: none

	mu       sync.Mutex // guards the fields below and the timers
	rnd      *rand.Rand
	instants *simInstants // that of the engine, once the clock belongs to one
	frozen   bool
	stopped  bool
	waiting  []simDue // timers that were due while the clock was frozen
}

// simTimer is a timer of a simClock.
type simTimer struct {
	clock  *simClock
	f      func()
	timer  *time.Timer // of the current schedule
	number uint64      // of the current schedule; it changes with Stop and Reset
	armed  bool
}

// simDue is a schedule of a timer that was due while its clock was frozen.
type simDue struct {
	timer  *simTimer
	number uint64
}

func newSimClock(rnd *rand.Rand, offset time.Duration) *simClock {
	return &simClock{offset: offset, rnd: rand.New(rand.NewPCG(rnd.Uint64(), 0)), instants: newSimInstants()}
}

func (c *simClock) Now() time.Time {
	now := time.Now()
	return withMonotonic(now.Add(c.ahead()), now.UnixNano())
}

// ahead returns by how much the wall clock is ahead of the time of the bubble.
func (c *simClock) ahead() time.Duration { return c.offset + time.Duration(c.stepped.Load()) }

// step makes the wall clock jump.
func (c *simClock) step(d time.Duration) {
	c.stepped.Add(int64(d))
	c.steppedAt.Store(time.Now().UnixNano())
}

// withMonotonic adds a monotonic reading to a time. The times of a bubble have none, and package
// time has no function for it, so this depends on the layout of time.Time.
func withMonotonic(t time.Time, reading int64) time.Time {
	const sinceYear1885 = 2_682_288_000 // seconds from 1885 to 1970
	made := (*struct {
		wall     uint64
		ext      int64
		location *time.Location
	})(unsafe.Pointer(&t))
	made.wall = 1<<63 | uint64(t.Unix()+sinceYear1885)<<30 | uint64(t.Nanosecond())
	made.ext = reading
	return t
}

func (c *simClock) AfterFunc(d time.Duration, f func()) hub.Timer {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := &simTimer{clock: c, f: f}
	t.scheduleLocked(d)
	return t
}

func (t *simTimer) scheduleLocked(d time.Duration) {
	if t.clock.stopped {
		return
	}
	now := time.Now()
	extra := time.Duration(1 + t.clock.rnd.IntN(900))
	at := t.clock.instants.claim(now.Add(max(d, 0) + extra))
	t.number++
	t.armed = true
	number := t.number
	t.timer = time.AfterFunc(at.Sub(now), func() { t.fire(number) })
}

func (t *simTimer) fire(number uint64) {
	c := t.clock
	c.mu.Lock()
	switch {
	case t.number != number || c.stopped:
		c.mu.Unlock()
	case c.frozen:
		c.waiting = append(c.waiting, simDue{t, number})
		c.mu.Unlock()
	default:
		t.armed = false
		c.mu.Unlock()
		t.f()
	}
}

func (t *simTimer) Stop() (armed bool) {
	t.clock.mu.Lock()
	defer t.clock.mu.Unlock()
	return t.stopLocked()
}

func (t *simTimer) stopLocked() (armed bool) {
	armed, t.armed = t.armed, false
	t.number++
	if t.timer != nil {
		t.timer.Stop()
	}
	return armed
}

func (t *simTimer) Reset(d time.Duration) (armed bool) {
	t.clock.mu.Lock()
	defer t.clock.mu.Unlock()
	armed = t.stopLocked()
	t.scheduleLocked(d)
	return armed
}

// freeze stops all timers until thaw. The time goes on, as it does for a stopped process.
func (c *simClock) freeze() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.frozen = true
}

// thaw ends a freeze. The timers that were due meanwhile fire now, in their order.
func (c *simClock) thaw() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.frozen = false
	for i, due := range c.waiting {
		if due.timer.number == due.number {
			due.timer.scheduleLocked(time.Duration(i) * time.Microsecond)
		}
	}
	c.waiting = nil
}

// stop stops all timers for good.
func (c *simClock) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = true
}

// join makes the clock use the instants of an engine.
func (c *simClock) join(instants *simInstants) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.instants = instants
}
