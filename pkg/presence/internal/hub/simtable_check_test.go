package hub_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/presence/pkg/presence/backplane"
)

// Rows reach each watcher at another time, in order per key. So do deletions.
func TestSimTableLag(t *testing.T) {
	inSimRig(t, 1, 2, func(r *simRig) {
		r.engine.setTableLag(time.Second)
		watchers := []*simSeen{r.watch(0), r.watch(1), r.watch(1)}
		var begin []time.Duration
		for n := range 20 {
			begin = append(begin, time.Since(r.start))
			r.put(0, "a", fmt.Sprint(n), time.Minute)
			r.put(0, fmt.Sprint("b", n), "", 3*time.Second)
			time.Sleep(50 * time.Millisecond)
		}
		time.Sleep(10 * time.Second)
		deleted, swapped := 0, 0
		var arrivals [][]time.Duration
		for _, w := range watchers {
			texts, at := w.take()
			arrivals = append(arrivals, at)
			n, b := 0, -1
			for i, text := range texts {
				if strings.HasPrefix(text, "a=") {
					if text != fmt.Sprint("a=", n) {
						t.Errorf("got %s, want a=%d", text, n)
					}
					if d := at[i] - begin[n]; d > 2*time.Second {
						t.Errorf("%s took %v, want a second, behind earlier rows", text, d)
					}
					n++
				}
				if key, ok := strings.CutPrefix(text, "-b"); ok {
					deleted++
					row := 0
					fmt.Sscan(key, &row)
					if d := at[i] - begin[row] - 3*time.Second; d < 0 || d > 1100*time.Millisecond {
						t.Errorf("the deletion of b%d arrives %v after its end", row, d)
					}
					if row < b {
						swapped++
					}
					b = row
				}
			}
			if n != 20 {
				t.Errorf("got %d rows of one key, want 20", n)
			}
		}
		if deleted != 60 || swapped == 0 || slices.Equal(arrivals[1], arrivals[2]) {
			t.Errorf("%d deletions, %d rows of different keys in another order, times %v", deleted, swapped, arrivals)
		}
	})
}

// Row.Expires is a time of the node's own clock.
func TestSimRowExpires(t *testing.T) {
	inSimRig(t, 1, 2, func(r *simRig) {
		for i, b := range r.nodes {
			var left []time.Duration
			if _, err := b.Watch(func(row backplane.Row) { left = append(left, row.Expires.Sub(b.clock.Now())) }); err != nil {
				t.Fatal(err)
			}
			r.put(0, "a", "", time.Minute)
			time.Sleep(time.Second)
			if len(left) == 0 || left[len(left)-1] < time.Minute-time.Millisecond || left[len(left)-1] > time.Minute {
				t.Errorf("node %d: the row expires in %v, want a minute", i, left)
			}
		}
	})
}

// After a cut, each watcher receives the last state of each key. A watch that begins during the cut
// receives all rows before the status is connected.
func TestSimTableCut(t *testing.T) {
	inSimRig(t, 1, 2, func(r *simRig) {
		r.put(1, "stays", "1", time.Hour)
		r.put(1, "ends", "1", 2*time.Second)
		r.put(1, "changes", "1", time.Hour)
		early := r.watch(0)
		r.want("the rows before the cut", early, "changes=1", "ends=1", "stays=1")
		r.nodes[0].cut()
		time.Sleep(5 * time.Second)
		r.put(1, "changes", "2", time.Hour)
		r.put(1, "new", "1", time.Hour)
		late := r.watch(0)
		r.nodes[0].Notify(func(s backplane.Status) { late.add("%v", s.Connected) })
		r.want("the early watcher during the cut", early)
		r.nodes[0].mend()
		time.Sleep(time.Second)
		r.want("the late watcher", late, "changes=2", "new=1", "stays=1", "true")
		got, _ := early.take()
		if slices.Sort(got); strings.Join(got, " ") != "-ends changes=2 new=1 stays=1" {
			t.Errorf("the early watcher after the cut: got %q", got)
		}
	})
}
