package hub_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"example.com/presence/pkg/presence/backplane"
)

// Two runs with the same seed are equal, event by event. Runs with other seeds differ.
func TestSimRepeats(t *testing.T) {
	first, again, other := simTranscript(t, 1), simTranscript(t, 1), simTranscript(t, 2)
	if len(first) < 2000 {
		t.Errorf("got %d lines, want the events of a minute", len(first))
	}
	for i, line := range first {
		if i >= len(again) || again[i] != line {
			t.Fatalf("line %d of %d: got %q and then %q", i, len(first), line, slices.Concat(again[i:], []string{"nothing"})[0])
		}
	}
	if len(again) > len(first) || slices.Equal(first, other) {
		t.Errorf("the second run has %d lines, the first %d; equal to another seed: %v", len(again), len(first), slices.Equal(first, other))
	}
}

// simTranscript returns all traces and deliveries of a minute with every fault.
func simTranscript(t *testing.T, seed uint64) (lines []string) {
	inSimRig(t, seed, 3, func(r *simRig) {
		e := r.engine
		e.setDelay(0, 100*time.Millisecond)
		e.setLoss(0.1)
		e.setDuplicates(0.1)
		e.setEntryLoss(0.1)
		e.setAppendTimeouts(0.2)
		e.setReadFaults(0.3)
		e.setTableLag(200 * time.Millisecond)
		var seen []*simSeen
		for i, b := range r.nodes {
			seen = append(seen, r.subscribe(i, backplane.Nodes), r.subscribe(i, "a"), r.watch(i))
			beat(r, b, 0)
		}
		rnd := rand.New(rand.NewPCG(seed, 3))
		for range 60 {
			time.Sleep(time.Second)
			b := r.nodes[rnd.IntN(3)]
			switch rnd.IntN(12) {
			case 0:
				b.cut()
			case 1:
				b.freeze()
				b.clock.freeze()
			case 2:
				e.recreate()
			default:
				b.thaw()
				b.clock.thaw()
				b.mend()
			}
		}
		for _, b := range r.nodes {
			b.Close()
			b.clock.stop()
		}
		time.Sleep(3 * time.Second) // the running calls end
		for i, s := range seen {
			texts, at := s.take()
			for j, text := range texts {
				lines = append(lines, fmt.Sprint(i, at[j], text))
			}
		}
		lines = append(lines, r.trace...)
	})
	return lines
}

// beat makes a node act each 100 ms, until its clock stops.
func beat(r *simRig, b *simBus, n int) {
	b.clock.AfterFunc(100*time.Millisecond, func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		text := fmt.Appendf(nil, "%s%d", b.name, n)
		b.Publish(ctx, backplane.Nodes, text)
		switch n % 5 {
		case 0:
			b.Append(ctx, "a", string(text), text)
		case 1:
			b.Read(ctx, "a", 0)
		case 2:
			b.Put(ctx, string(text), text, 2*time.Second)
		case 3:
			b.Ask(ctx, "a", text, func([]byte) bool { return true })
		}
		beat(r, b, n+1)
	})
}
