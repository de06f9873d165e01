package hub_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/backplane/backplanetest"
)

// Without faults, the simulated engine is a correct engine.
func TestSimEngine(t *testing.T) { testSimEngine(t, 1, func(*simEngine) {}) }

// Delays, lags and failures that the contract allows do not make the engine incorrect.
func TestSimEngineSlow(t *testing.T) {
	for seed := range uint64(10) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			testSimEngine(t, seed, func(e *simEngine) {
				e.setDelay(0, 40*time.Millisecond)
				e.setTableLag(100 * time.Millisecond)
				e.setAppendTimeouts(0.05)
			})
		})
	}
}

func testSimEngine(t *testing.T, seed uint64, faults func(e *simEngine)) {
	backplanetest.RunInBubble(t, func(t *testing.T) backplanetest.Engine {
		rnd := rand.New(rand.NewPCG(seed, 1))
		e := newSimEngine(rnd, t.Logf)
		e.messages = 20
		faults(e)
		t.Cleanup(e.close)
		a, b := e.handle("A", newSimClock(rnd, 0)), e.handle("B", newSimClock(rnd, 0))
		return backplanetest.Engine{Nodes: []backplane.Bus{a, b}, Messages: 20, Recreate: e.recreate, Drop: func(during func()) {
			a.cut()
			during()
			a.mend()
		}}
	})
}
