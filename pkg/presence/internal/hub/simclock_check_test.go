package hub_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestSimClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newSimClock(rand.New(rand.NewPCG(1, 1)), -time.Hour)
		if got := c.Now(); !got.Equal(time.Now().Add(-time.Hour)) {
			t.Errorf("Now: got %v, want the time of the bubble minus an hour", got)
		}
		seen := &simSeen{start: time.Now()}
		at := func(d time.Duration, text string) interface {
			Stop() bool
			Reset(time.Duration) bool
		} {
			return c.AfterFunc(d, func() { seen.add("%s", text) })
		}
		stopped, reset := at(time.Second, "stopped"), at(time.Second, "reset")
		at(2*time.Second, "two")
		if !stopped.Stop() || stopped.Stop() || !reset.Reset(3*time.Second) {
			t.Error("Stop and Reset do not report whether the timer was armed")
		}
		time.Sleep(4 * time.Second)
		if got := seen.all(); got != "two reset" {
			t.Errorf("timers: got %q, want \"two reset\"", got)
		}
		if reset.Reset(time.Second) {
			t.Error("Reset of a timer that has fired: got true, want false")
		}
		time.Sleep(2 * time.Second)
		if got := seen.all(); got != "two reset reset" {
			t.Errorf("timers: got %q, want a second call after Reset", got)
		}
	})
}

// While the clock is frozen, no timer fires. Afterwards those that were due fire in order.
func TestSimClockFreeze(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newSimClock(rand.New(rand.NewPCG(1, 1)), 0)
		seen := &simSeen{start: time.Now()}
		after := func(seconds int) func() bool {
			return c.AfterFunc(time.Duration(seconds)*time.Second, func() { seen.add("%d", seconds) }).Stop
		}
		after(3)
		after(1)
		stop := after(2)
		after(6)
		c.freeze()
		time.Sleep(4 * time.Second)
		if got := seen.all(); got != "" {
			t.Errorf("frozen: got the timers %s, want none", got)
		}
		if !stop() {
			t.Error("Stop of a timer that is due while the clock is frozen: got false, want true")
		}
		c.thaw()
		time.Sleep(time.Millisecond)
		if got := seen.all(); got != "1 3" {
			t.Errorf("thawed: got %q, want \"1 3\"", got)
		}
		time.Sleep(3 * time.Second)
		c.stop()
		after(1)
		time.Sleep(3 * time.Second)
		if got := seen.all(); got != "1 3 6" {
			t.Errorf("stopped after 6: got %q, want \"1 3 6\"", got)
		}
	})
}

// No two timers fire at one instant, and none at a multiple of a microsecond.
func TestSimInstants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rnd := rand.New(rand.NewPCG(1, 1))
		e := newSimEngine(rnd, nil)
		defer e.close()
		var mu sync.Mutex
		fired, count := map[time.Time]bool{}, 0
		for i := range 4 {
			c := newSimClock(rnd, 0)
			e.handle(fmt.Sprint(i), c)
			for range 500 {
				c.AfterFunc(time.Second, func() {
					mu.Lock()
					defer mu.Unlock()
					fired[time.Now()] = true
					if count++; time.Now().Nanosecond()%1000 == 0 {
						t.Error("a timer fires at a multiple of a microsecond")
					}
				})
			}
		}
		time.Sleep(2 * time.Second)
		mu.Lock()
		defer mu.Unlock()
		if len(fired) != 2000 || count != 2000 {
			t.Errorf("%d timers fired at %d instants, want 2000 at 2000", count, len(fired))
		}
	})
}

// A step changes the time that the clock shows, but neither the time between two readings nor the
// timers.
func TestSimClockStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newSimClock(rand.New(rand.NewPCG(1, 1)), time.Minute)
		before, fired := c.Now(), make(chan time.Time, 1)
		c.AfterFunc(time.Second, func() { fired <- time.Now() })
		c.step(-time.Hour)
		time.Sleep(time.Second)
		after := c.Now()
		if want := time.Now().Add(time.Minute - time.Hour); !after.Round(0).Equal(want) || after.Unix() != want.Unix() || !after.Equal(want) {
			t.Errorf("after the step: got %v, want %v", after, want)
		}
		if got := after.Sub(before); got != time.Second {
			t.Errorf("time between two readings: got %v, want 1s", got)
		}
		if late := time.Until(<-fired); late > time.Millisecond || late < -time.Millisecond {
			t.Errorf("timer: %v late", late)
		}
	})
}
