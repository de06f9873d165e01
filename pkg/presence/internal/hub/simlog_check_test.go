package hub_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"example.com/presence/pkg/presence/backplane"
)

// A lost entry reaches no subscription of the node, and Lost is not called. The log has the entry.
func TestSimEntryLoss(t *testing.T) {
	inSimRig(t, 1, 2, func(r *simRig) {
		seen := r.subscribe(1, "a")
		r.engine.setEntryLoss(1)
		r.append(0, "a", "x")
		time.Sleep(5 * time.Second)
		r.want("the subscription", seen)
		entries, complete, err := r.nodes[1].Read(r.t.Context(), "a", 0)
		if len(entries) != 1 || !complete || err != nil {
			t.Errorf("Read: got %v, complete %v, error %v, want one entry, complete", entries, complete, err)
		}
		r.engine.setEntryLoss(0.5)
		for n := range 100 {
			r.append(0, "a", fmt.Sprint("y", n))
		}
		time.Sleep(time.Second)
		if texts, _ := seen.take(); len(texts) < 30 || len(texts) > 70 || slices.Contains(texts, "lost") {
			t.Errorf("with a loss of one half: got %d of 100 entries: %q", len(texts), texts)
		}
	})
}

// The rooms share one sequence of positions. Entries arrive in log order, once, also with delays.
func TestSimPositions(t *testing.T) {
	inSimRig(t, 1, 3, func(r *simRig) {
		r.engine.setDelay(0, 200*time.Millisecond)
		seen := r.subscribe(2, "a")
		for n := range 20 {
			for node := range 2 {
				go r.append(node, "a", fmt.Sprintf("%d-%d", node, n))
				go r.append(node, "b", fmt.Sprintf("%d-%d", node, n))
			}
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(time.Second)
		entries, _, _ := r.nodes[0].Read(r.t.Context(), "a", 0)
		var want []string
		gaps := 0
		for i, e := range entries {
			want = append(want, fmt.Sprintf("%d:%s", e.Position, e.Data))
			if i > 0 && e.Position > entries[i-1].Position+1 {
				gaps++
			}
		}
		if len(entries) != 40 || gaps == 0 {
			t.Errorf("got %d entries with %d gaps between them, want 40, some", len(entries), gaps)
		}
		r.want("the subscription", seen, want...)
	})
}

// Half of the Appends that fail are accepted, some of them after Append has returned.
func TestSimAppendTimeouts(t *testing.T) {
	inSimRig(t, 1, 1, func(r *simRig) {
		r.engine.setAppendTimeouts(1)
		unavailable, ended, late, accepted := 0, 0, 0, 0
		for n := range 40 {
			ctx, cancel := context.WithTimeout(r.t.Context(), []time.Duration{3 * time.Second, 300 * time.Millisecond}[n%2])
			_, _, err := r.nodes[0].Append(ctx, "a", fmt.Sprint(n), nil)
			cancel()
			before, _ := r.nodes[0].Last(r.t.Context(), "a")
			switch {
			case errors.Is(err, backplane.ErrUnavailable):
				unavailable++
			case !errors.Is(err, context.DeadlineExceeded):
				t.Errorf("Append: got %v, want ErrUnavailable or DeadlineExceeded", err)
			case n%2 == 0:
				ended++
			default:
				time.Sleep(1500 * time.Millisecond)
			}
			if after, _ := r.nodes[0].Last(r.t.Context(), "a"); after != before {
				late++
			}
		}
		r.engine.setAppendTimeouts(0)
		for n := range 40 {
			if _, duplicate, err := r.nodes[0].Append(r.t.Context(), "a", fmt.Sprint(n), nil); err != nil {
				t.Errorf("Append without faults: %v", err)
			} else if duplicate {
				accepted++
			}
		}
		if unavailable < 8 || ended < 4 || late < 2 || accepted < 12 || accepted > 28 {
			t.Errorf("of 40: %d unavailable, %d at the end of 3 s, %d accepted late, %d accepted", unavailable, ended, late, accepted)
		}
	})
}

// A read fails, is slow, or returns a result that was right up to 200 ms before.
func TestSimReadFaults(t *testing.T) {
	inSimRig(t, 1, 1, func(r *simRig) {
		ctx, cancel := context.WithCancel(r.t.Context())
		var writer sync.WaitGroup
		defer writer.Wait()
		defer cancel()
		writer.Go(func() { // ends with ctx
			for n := 0; ctx.Err() == nil; n++ {
				r.append(0, "a", fmt.Sprint(n))
				time.Sleep(20 * time.Millisecond)
			}
		})
		time.Sleep(time.Second)
		r.engine.setReadFaults(1)
		failed, slow, stale, refused := 0, 0, 0, 0
		for range 60 {
			begin, now := time.Now(), uint64(time.Since(r.start)/(20*time.Millisecond))
			entries, complete, err := r.nodes[0].Read(r.t.Context(), "a", now-3)
			switch d := time.Since(begin); {
			case err != nil:
				failed++
			case d > 1500*time.Millisecond+time.Millisecond:
				t.Errorf("a read took %v, want 1.5 s at most", d)
			case d > time.Millisecond:
				slow++
			case !complete:
				if refused++; len(entries) > 0 {
					t.Errorf("Read above the last position: got %v, want no entries", entries)
				}
			case uint64(len(entries)) < 3:
				stale++
			}
			for i, e := range entries {
				if e.Position != now-3+uint64(i)+1 {
					t.Errorf("Read after %d: got position %d at %d", now-3, e.Position, i)
				}
			}
			time.Sleep(100 * time.Millisecond)
		}
		if failed == 0 || slow == 0 || stale == 0 || refused == 0 {
			t.Errorf("got %d failed, %d slow, %d stale and %d refused reads, want some of each", failed, slow, stale, refused)
		}
	})
}

// A stale result is exactly the log of an earlier moment, also for removed entries.
func TestSimStaleRead(t *testing.T) {
	inSimRig(t, 1, 1, func(r *simRig) {
		r.engine.messages = 2
		for n := range 3 {
			r.append(0, "a", fmt.Sprint(n))
			time.Sleep(100 * time.Millisecond)
		}
		l := r.engine.log.room("a")
		for ago, want := range map[time.Duration]string{
			50: "3 [2 3] false", 150: "2 [1 2] true", 250: "1 [1] true", 350: "0 [] true",
		} {
			at := time.Now().Add(-ago * time.Millisecond)
			entries, complete := l.read(0, at)
			positions := []uint64{}
			for _, e := range entries {
				positions = append(positions, e.Position)
			}
			if got := fmt.Sprint(l.lastAt(at), positions, complete); got != want {
				t.Errorf("%d ms ago: got %s, want %s", ago, got, want)
			}
		}
	})
}

// A position that Append returns belongs to the epoch that Status returns before and after the
// call, even if the log is recreated during the call.
func TestSimRecreate(t *testing.T) {
	inSimRig(t, 1, 2, func(r *simRig) {
		r.engine.setDelay(0, 100*time.Millisecond)
		seen := r.subscribe(0, "a")
		var writers sync.WaitGroup
		for w := range 4 {
			writers.Go(func() {
				last := map[string]uint64{}
				for n := range 100 {
					before := r.nodes[0].Status().Epoch
					position := r.append(0, "a", fmt.Sprint(w, n))
					if r.nodes[0].Status().Epoch != before {
						continue
					}
					if position <= last[before] {
						t.Errorf("position %d follows %d in epoch %s", position, last[before], before)
					}
					last[before] = position
				}
			})
		}
		for range 20 {
			time.Sleep(500 * time.Millisecond)
			r.engine.recreate()
		}
		writers.Wait()
		checkSimEntries(t, seen)
	})
}

// checkSimEntries checks that positions increase between two calls of Lost.
func checkSimEntries(t *testing.T, seen *simSeen) {
	texts, _ := seen.take()
	last := 0
	for _, text := range texts {
		position := 0
		if fmt.Sscanf(text, "%d:", &position); text != "lost" && position <= last {
			t.Errorf("position %d follows %d without Lost between them", position, last)
		}
		last = position
	}
}
