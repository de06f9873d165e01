package hub_test

import (
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence/internal/hub"
)

// TestSimulateClocks is TestSimulate with wall clocks that jump by an hour, forward and back.
func TestSimulateClocks(t *testing.T) {
	t.Parallel()
	seeds := uint64(*simSeeds / 25)
	if testing.Short() {
		seeds = min(seeds, 5)
	}
	for seed := range seeds {
		s := drawScript(seed, []string{simClocks}, *simNodes, *simSteps)
		if failures, _ := simulate(t, s, false); len(failures) > 0 {
			t.Fatalf("seed %d, weather %s:\n%s", seed, simClocks, strings.Join(failures, "\n"))
		}
	}
}

// A lease ends by the wall clock: within a minute if the clock jumps forward, and later if it jumps
// back.
func TestLeaseAfterClockStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := newSimClock(rand.New(rand.NewPCG(1, 1)), 0)
		n := newNode(t, memory(), func(c *hub.Config) { c.Clock = clock })
		client := n.join("lobby", "alice", hub.Lease{Expires: time.Now().Add(30 * time.Minute)}, "")
		clock.step(-time.Hour)
		time.Sleep(time.Hour)
		if got := client.take(); strings.Contains(got, "expir") {
			t.Errorf("an hour later, at 0:00 by the wall clock, got %q, want no end at 0:30", got)
		}
		clock.step(time.Hour)
		time.Sleep(time.Minute + time.Second)
		if got := client.take(); got != `goodbye:{"reason":"expired"}` {
			t.Errorf("a minute after the clock jumped past the end: got %q, want expired", got)
		}
		n.end()
	})
}

// A ban lasts as long as its duration, even if the wall clock jumps.
func TestBanAfterClockStep(t *testing.T) {
	for _, step := range []time.Duration{time.Hour, -time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			e := newSimEngine(rand.New(rand.NewPCG(1, 1)), nil)
			defer e.close()
			clock := newSimClock(rand.New(rand.NewPCG(2, 1)), 0)
			n := newNode(t, e.handle("A", clock), func(c *hub.Config) { c.Clock = clock })
			time.Sleep(5 * time.Second)
			n.join("lobby", "alice", hub.Lease{}, "")
			if err := n.Kick(t.Context(), "lobby", "alice", time.Minute); err != nil {
				t.Fatal(err)
			}
			clock.step(step)
			time.Sleep(50 * time.Second)
			if n.BanEnd("lobby", "alice").IsZero() {
				t.Errorf("step of %v: the ban of a minute has ended after 50 s", step)
			}
			time.Sleep(15 * time.Second)
			if end := n.BanEnd("lobby", "alice"); !end.IsZero() {
				t.Errorf("step of %v: the ban of a minute has not ended after 65 s, but ends at %v", step, end)
			}
			n.end()
		})
	}
}
