package hub_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence/internal/stream"
)

var simMoves = flag.Int("moves", 2000, "number of moves of TestSimulateMoves")

// movesPerRun is the number of moves in one bubble.
const movesPerRun = 500

// TestSimulateMoves moves users from node to node within their grace period. Frames are delayed by
// up to 200 ms, and none is lost. No client may see a leave of a user that moves.
func TestSimulateMoves(t *testing.T) {
	var next atomic.Int64
	for i := range runtime.GOMAXPROCS(0) {
		t.Run(fmt.Sprint("worker", i), func(t *testing.T) {
			t.Parallel()
			for seed := next.Add(1); int(seed-1)*movesPerRun < *simMoves && !t.Failed(); seed = next.Add(1) {
				synctest.Test(t, func(t *testing.T) {
					if failures := simulateMoves(t, uint64(seed), max(2, *simNodes)); len(failures) > 0 {
						t.Errorf("seed %d:\n%s", seed, strings.Join(failures, "\n"))
					}
				})
			}
		})
	}
}

// simulateMoves moves all users but the last one, which watches on every node.
func simulateMoves(t *testing.T, seed uint64, nodes int) []string {
	rnd := rand.New(rand.NewPCG(seed, 5))
	s := simScript{Seed: seed, Nodes: nodes, Rooms: 1, Users: len(simUsers), Linger: pick(rnd, simMillis(1000), 5000),
		MemberLimit: 500, RoomAge: 60_000, MaxDelay: 200, Messages: 100}
	r := newSimRun(t, s, *simTrace)
	r.onEvent = func(c *simConn, event string, data []byte) {
		if event == "leave" || event == "reset" {
			r.Errorf("%v on %s got %s %s", c, c.on.name, event, data)
		}
	}
	time.Sleep(2 * time.Second)
	movers := len(simUsers) - 1
	for i := range nodes {
		r.open(simStep{Tab: 100 + i}, simPlace{user: movers}, r.nodes[i])
	}
	for user := range movers {
		r.open(simStep{Tab: user + 1}, simPlace{user: user}, r.nodes[rnd.IntN(nodes)])
	}
	time.Sleep(2 * time.Second)
	var moving sync.WaitGroup
	for user := range movers {
		tab, dice := r.tabs[user+1], rand.New(rand.NewPCG(seed, uint64(100+user)))
		moving.Go(func() {
			for range movesPerRun / movers {
				time.Sleep(time.Duration(dice.IntN(300))*time.Millisecond + tab.micros())
				r.moveNow(tab, dice.IntN(nodes), time.Duration(dice.Int64N(int64(s.Linger.time()))))
			}
		})
	}
	moving.Wait()
	r.quiet(false)
	r.onEvent = func(*simConn, string, []byte) {}
	r.end()
	return r.failures
}

// moveNow closes the connection of a tab and opens another one after a time.
func (r *simRun) moveNow(tab *simTab, to int, wait time.Duration) {
	r.mu.Lock()
	c := tab.conn
	if c == nil {
		r.mu.Unlock()
		return
	}
	tab.opening, tab.conn, tab.lastID = true, nil, c.close()
	r.mu.Unlock()
	c.Drop(stream.Closed)
	time.Sleep(wait)
	r.connectTo(tab, to)
}
