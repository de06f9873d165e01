package backplanetest

import (
	"context"
	"slices"
	"time"

	"example.com/presence/pkg/presence/room"
)

// awaitRoutes publishes probes until the recorders receive those of each node.
func (e *env) awaitRoutes(rs []*recorder, topic room.Name) {
	for i := range e.Nodes {
		text := probe + e.newKey()
		e.awaitProbe(rs, text, arrival/100, func() { e.publish(i, topic, text) })
	}
}

// awaitLog is like awaitRoutes for the entries of a room's log. Node i appends the probes.
func (e *env) awaitLog(i int, name room.Name, rs ...*recorder) {
	text := probe + e.newKey()
	e.awaitProbe(rs, text, arrival/20, func() {
		e.try("Append", func(ctx context.Context) error {
			_, _, err := e.node(i).Append(ctx, name, "", []byte(text))
			return err
		})
	})
}

// awaitProbe sends a probe, again after each pause, until the recorders have received it. It does
// so only if Engine.Late is set.
func (e *env) awaitProbe(rs []*recorder, text string, pause time.Duration, send func()) {
	if !e.Late {
		return
	}
	arrived := func() bool {
		return !slices.ContainsFunc(rs, func(r *recorder) bool { return !r.probed[text] })
	}
	for n := time.Duration(0); n == 0 || !e.wait(pause, arrived); n++ {
		if n*pause >= arrival {
			e.fatalf("timeout after %v waiting for %q", arrival, text)
		}
		send()
	}
}
