package hub_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/internal/hub"
	"example.com/presence/pkg/presence/room"
)

// An update that has succeeded wins over every earlier one, at whichever nodes they were asked,
// although commands and answers are lost, and although repeated commands arrive after later ones.
func TestUpdatesInOrder(t *testing.T) {
	for seed := range uint64(10) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rnd := rand.New(rand.NewPCG(seed, 2))
				nodes, buses := openCluster(t, 3)
				for _, n := range nodes[:2] { // the third node has another user
					n.join("lobby", "alice", hub.Lease{}, "")
				}
				nodes[2].join("lobby", "bob", hub.Lease{}, "")
				time.Sleep(time.Second)
				var mu sync.Mutex // guards losses
				losses := rand.New(rand.NewPCG(seed, 3))
				for _, b := range buses {
					b.set(func(string) fate {
						mu.Lock()
						defer mu.Unlock()
						k := losses.IntN(10)
						return fate{lost: k < 2, mute: k == 2, late: max(0, time.Duration(k-7)) * 150 * time.Millisecond}
					})
				}
				want := "{}"
				for i := range 60 {
					info := fmt.Sprintf(`{"n":%d}`, i)
					if err := nodes[rnd.IntN(3)].Update(t.Context(), "lobby", "alice", []byte(info)); err != nil {
						want = "" // the info may have been replaced
						continue
					}
					if want = info; rnd.IntN(4) > 0 {
						continue
					}
					time.Sleep(5 * time.Second)
					for j, n := range nodes {
						for _, b := range buses {
							b.change(func() { b.off = true }) // Members asks no node, so its result is incomplete
						}
						if got := n.list("lobby"); got != "3 2 alice="+want+" bob={} incomplete" {
							t.Fatalf("after update %d node %d has %q, want %s", i, j, got, want)
						}
						for _, b := range buses {
							b.change(func() { b.off = false })
						}
					}
				}
				for _, b := range buses {
					b.set(nil)
				}
			})
		})
	}
}

// An update wins even if the asked node has just started, and draws stamps that are too low.
func TestUpdateOfNewNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes, buses := openCluster(t, 2)
		nodes[0].join("lobby", "alice", hub.Lease{}, "")
		nodes[1].join("lobby", "alice", hub.Lease{}, "")
		time.Sleep(time.Second)
		for i := range 5 {
			if err := nodes[i%2].Update(t.Context(), "lobby", "alice", fmt.Append(nil, i)); err != nil {
				t.Fatal(err)
			}
		}
		deaf := &lossyBus{Bus: buses[0].Bus, deaf: true} // it would learn the stamps from heartbeats
		late := openNode(t, deaf)
		if err := late.Update(t.Context(), "lobby", "alice", []byte(`"new"`)); err != nil {
			t.Fatal(err)
		}
		deaf.change(func() { deaf.deaf = false })
		time.Sleep(time.Second)
		for _, n := range append(nodes, late) {
			if got := n.list("lobby"); got != `2 1 alice="new"` {
				t.Errorf("got %q, want the info of the last update", got)
			}
		}
	})
}

// One heartbeat with a counter that no node reaches does not harm the updates, neither those of the
// nodes that receive it nor those of a node that starts later.
func TestUpdateAfterHighClock(t *testing.T) {
	for _, clock := range []uint64{1 << 40, 1 << 61, 1<<61 + 1, 1 << 62} {
		synctest.Test(t, func(t *testing.T) {
			nodes, buses := openCluster(t, 2)
			nodes[0].join("lobby", "alice", hub.Lease{}, "")
			time.Sleep(2 * time.Second)
			publish(t, buses[0], backplane.Nodes, `{"v":1,"from":"x","clock":%d}`, clock)
			time.Sleep(10 * time.Second) // the lease of x ends
			updates := 0
			update := func(n *node) {
				updates++
				if err := n.Update(t.Context(), "lobby", "alice", fmt.Append(nil, updates)); err != nil {
					t.Errorf("clock %d: update %d: %v", clock, updates, err)
				}
			}
			for i := range 50 {
				update(nodes[i%2])
			}
			late := openNode(t, &lossyBus{Bus: buses[0].Bus})
			time.Sleep(3 * time.Second)
			for _, n := range []*node{late, nodes[0], nodes[1], late} {
				update(n)
			}
			if got := nodes[0].list("lobby"); got != "1 1 alice=54" {
				t.Errorf("clock %d: got %q, want the info of the last update", clock, got)
			}
		})
	}
}

// publish publishes a frame as another node would.
func publish(t *testing.T, bus backplane.Bus, topic room.Name, format string, args ...any) {
	t.Helper()
	if err := bus.Publish(t.Context(), topic, fmt.Appendf(nil, format, args...)); err != nil {
		t.Fatal(err)
	}
}

// A peer that reports a higher record after each attempt of an update is asked about every 50 ms.
// One that reports a record which no stamp exceeds is asked once.
func TestUpdateOvertaken(t *testing.T) {
	for _, test := range []struct {
		name   string
		record func(stamp uint64) uint64
		most   int64 // requests
	}{
		{"next", func(stamp uint64) uint64 { return stamp + 1 }, 21},
		{"highest", func(uint64) uint64 { return 1 << 62 }, 1},
		{"far", func(stamp uint64) uint64 { return stamp + 1<<41 }, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			nodes, buses := openCluster(t, 1)
			nodes[0].join("lobby", "alice", hub.Lease{}, "")
			time.Sleep(2 * time.Second)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var asked atomic.Int64
			end, err := buses[0].Bus.Subscribe(backplane.Nodes, backplane.Handler{Message: func([]byte) {}, Ask: func(request []byte) []byte {
				var c struct{ Update *struct{ Stamp room.Version } }
				if json.Unmarshal(request, &c) != nil || c.Update == nil {
					return nil
				}
				if asked.Add(1) > 100 {
					cancel() // in a loop without a pause the time stands still
				}
				return fmt.Appendf(nil, `{"v":1,"from":"x","found":true,"record":{"counter":%d,"node":"x"}}`, test.record(c.Update.Stamp.Counter))
			}})
			if err != nil {
				t.Fatal(err)
			}
			defer end()
			publish(t, buses[0], backplane.Nodes, `{"v":1,"from":"x"}`)
			if err := nodes[0].Update(ctx, "lobby", "alice", []byte("1")); !errors.Is(err, backplane.ErrUnavailable) {
				t.Errorf("%s: got %v, want %v", test.name, err, backplane.ErrUnavailable)
			}
			if got := asked.Load(); got < 1 || got > test.most {
				t.Errorf("%s: got %d requests, want at most %d", test.name, got, test.most)
			}
		})
	}
}
