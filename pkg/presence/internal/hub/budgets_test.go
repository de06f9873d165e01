package hub_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence/internal/hub"
	"example.com/presence/pkg/presence/internal/stream"
)

// The snapshot budget bounds the memory of unsent snapshots. If it is exceeded, the clients of the
// older half are dropped. Snapshots that were sent do not count.
func TestSnapshotBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 2000
		n := openNode(t, memory(), func(c *hub.Config) { c.MaxSnapshots = limit })
		for i := range 20 {
			c := n.join(fmt.Sprint("taken", i), "alice", hub.Lease{}, "")
			time.Sleep(time.Second)
			c.take()
		}
		if s := n.Stats(); s.SnapshotsUnsent != 0 || s.SnapshotBytesUnsent != 0 {
			t.Fatalf("%d unsent snapshots of %d bytes, want 0: all were sent", s.SnapshotsUnsent, s.SnapshotBytesUnsent)
		}
		var held []*fakeClient
		for range 40 {
			c := n.join(fmt.Sprint("held", len(held)), "alice", hub.Lease{}, "", func(c *fakeClient) { c.holds = true })
			held = append(held, c)
			time.Sleep(time.Second)
			synctest.Wait()
			dropped := 0
			for i, c := range held {
				if c.end() == stream.Slow {
					if dropped++; dropped != i+1 {
						t.Fatalf("client %d of %d was dropped before an older client", i, len(held))
					}
				}
			}
			s := n.Stats()
			if s.SnapshotBytesUnsent > limit || s.SnapshotsUnsent != len(held)-dropped {
				t.Fatalf("%d unsent snapshots of %d bytes for %d clients", s.SnapshotsUnsent, s.SnapshotBytesUnsent, len(held)-dropped)
			}
			if dropped > 0 {
				if older := len(held) - 1; dropped != (older+1)/2 {
					t.Errorf("%d older snapshots: %d dropped, want %d", older, dropped, (older+1)/2)
				}
				return
			}
		}
		t.Error("no snapshot dropped above the limit")
	})
}

// A replay counts toward the budget from 100 ms after its start until its end.
func TestReplayBudgetOverTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := openNode(t, memory(), func(c *hub.Config) { c.MaxReplay = 250 << 10 })
		first := map[string]string{}
		for _, name := range []string{"a", "b", "c", "d"} {
			first[name] = n.send(name, "alice", "0")
			n.send(name, "alice", `"`+strings.Repeat("x", 100<<10)+`"`)
		}
		stuck := func(name string) *fakeClient {
			return n.join(name, "bob", hub.Lease{}, first[name], func(c *fakeClient) { c.holds = true })
		}
		for range 10 { // one replay at a time is under the limit
			for _, name := range []string{"a", "b", "c", "d"} {
				c := stuck(name)
				time.Sleep(time.Second)
				if synctest.Wait(); c.end() != "" {
					t.Fatalf("a single replay under the limit: ended %q", c.end())
				}
				c.Drop(stream.Closed)
			}
		}
		held := []*fakeClient{stuck("a"), stuck("b")}
		time.Sleep(time.Second)
		for _, c := range held {
			if synctest.Wait(); c.end() != "" {
				t.Errorf("one of two replays under the limit: ended %q", c.end())
			}
			c.Drop(stream.Closed)
		}
		synctest.Wait()
		held = []*fakeClient{stuck("a")}
		time.Sleep(60 * time.Millisecond)
		held = append(held, stuck("b"), stuck("c"))
		time.Sleep(200 * time.Millisecond)
		synctest.Wait()
		if held[0].end() != stream.Slow || held[2].end() != "" {
			t.Errorf("three replays above the limit: oldest ended %q, newest %q; want slow and not ended", held[0].end(), held[2].end())
		}
	})
}
