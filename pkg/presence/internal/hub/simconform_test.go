package hub_test

import (
	"math/rand/v2"
	"testing"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/backplane/backplanetest"
)

// Without faults, the simulated engine is a correct engine.
func TestSimEngine(t *testing.T) {
	backplanetest.RunInBubble(t, func(t *testing.T) backplanetest.Engine {
		rnd := rand.New(rand.NewPCG(1, 1))
		e := newSimEngine(rnd, t.Logf)
		e.messages = 20
		t.Cleanup(e.close)
		a, b := e.handle("A", newSimClock(rnd, 0)), e.handle("B", newSimClock(rnd, 0))
		return backplanetest.Engine{Nodes: []backplane.Bus{a, b}, Messages: 20, Recreate: e.recreate, Drop: func(during func()) {
			a.cut()
			during()
			a.mend()
		}}
	})
}
