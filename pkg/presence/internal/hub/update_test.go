package hub_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence/internal/hub"
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
							b.change(func() { b.off = true }) // Members asks no node
						}
						if got := n.list("lobby"); got != "3 2 alice="+want+" bob={}" {
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
