//go:build !race

package main

// The test in this file makes nodes, NATS servers and the network between them fail in random
// order. By hand, for an hour, with a table at the end:
//
//	go test -run ClusterRandom -v -timeout 2h ./cmd/presence -args -cluster 1h -cluster-seed 7

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sys/unix"

	"example.com/presence/cmd/presence/internal/ledger"
)

var (
	clusterTime = flag.Duration("cluster", 0, "minimum duration of TestClusterRandom, which then uses faults of full length; 0: one short round")
	clusterSeed = flag.Uint64("cluster-seed", 1, "seed of TestClusterRandom: the order of the faults, and their nodes")
)

// clusterFault is a fault of TestClusterRandom.
type clusterFault struct {
	name string
	// within is the longest time for which a client may have a wrong count; 0: not limited, because
	// the nodes have no contact for a time that the test does not choose.
	within time.Duration
	run    func(r *randomRun, name string)
}

var clusterFaults = []clusterFault{
	{"churn of 20 clients per second, then quiet", time.Second, (*randomRun).churnFast},
	{"node killed", 6 * time.Second, (*randomRun).killNode},
	{"node paused", 6 * time.Second, (*randomRun).pauseNode},
	{"node cut off from NATS", 6 * time.Second, (*randomRun).cutNode},
	{"path to NATS delayed by 200 ms", 2 * time.Second, (*randomRun).slowNode},
	{"path to NATS reset at random", 6 * time.Second, (*randomRun).resetNode},
	{"all NATS servers restarted", 0, (*randomRun).restartNATS},
	{"leader of the stream killed, then a second NATS server", 0, (*randomRun).killLeaders},
	{"stream deleted", 0, (*randomRun).deleteStream},
	{"rolling restart of all nodes", 2 * time.Second, (*randomRun).restartNodes},
}

const noFault = "no fault"

// TestClusterRandom runs three nodes with clients that join, leave and send messages, and makes
// them fail in random order. After each fault all clients have the truth, and the ledger of each
// round has no fault. No count is wrong for longer than the guarantee allows, and 5 s more in the
// short runs.
func TestClusterRandom(t *testing.T) {
	t.Parallel()
	heavy(t)
	r := startRandomRun(t)
	faults := sized(1, 1, len(clusterFaults))
	if r.full {
		faults = len(clusterFaults)
	}
	var stale []ledger.Stale
	for began, round := time.Now(), 1; ; round++ {
		stale = ledger.Merge(stale, r.round(round, faults))
		if time.Since(began) >= *clusterTime || t.Failed() {
			break
		}
	}
	t.Logf("seed %d: how long clients had a wrong count\n%s", *clusterSeed, ledger.Table(stale))
	for _, s := range stale {
		within := time.Second // without a fault
		for _, f := range clusterFaults {
			if f.name == s.Phase {
				within = f.within
			}
		}
		if !r.full && within > 0 {
			within += 5 * time.Second // other tests keep the machine busy
		}
		if got := s.Quantile(1); within > 0 && got > within {
			t.Errorf("%s: a client had a wrong count for %v, want at most %v: %v", s.Phase, got, within, s.Longest)
		}
	}
}

// randomRun is the state of TestClusterRandom.
type randomRun struct {
	t        *testing.T
	full     bool
	random   *rand.Rand
	servers  []*natsNode
	js       jetstream.JetStream
	nodes    []*clusterNode
	proxies  []*natsProxy // one for each node
	balancer *balancer
	began    time.Time

	// State of the round.
	book    *book
	crowd   *changing
	posting *posters
	posted  int    // prefix of the next messages
	still   func() // stops the clients that join and leave
}

func startRandomRun(t *testing.T) *randomRun {
	t.Helper()
	r := &randomRun{t: t, full: sized(false, false, true) || *clusterTime > 0, random: rand.New(rand.NewPCG(*clusterSeed, 1)), began: time.Now()}
	r.servers = startNATSNodes(t, 3)
	r.js = jetStream(t, r.servers)
	r.balancer = startBalancer(t, sized(250*time.Millisecond, 250*time.Millisecond, time.Second))
	for i := range 3 {
		r.proxies = append(r.proxies, startNATSProxy(t, r.servers))
		r.nodes = append(r.nodes, nil)
		r.startNode(i)
	}
	return r
}

// startNode starts node i, or starts it again.
func (r *randomRun) startNode(i int) {
	r.t.Helper()
	n := startFaultNode(r.t, i, r.proxies[i].urls, 3, fmt.Sprintf("--node=node-%d", i))
	logs(r.t, n)
	r.nodes[i] = n
	r.balancer.add(n.addr)
}

// lasting returns the duration of a fault.
func (r *randomRun) lasting(short, full time.Duration) time.Duration {
	if r.full {
		return full
	}
	return short
}

func (r *randomRun) step(format string, values ...any) {
	r.t.Logf("%.1f s: %s", time.Since(r.began).Seconds(), fmt.Sprintf(format, values...))
}

// wait waits without a slot.
func (r *randomRun) wait(short, full time.Duration) {
	calm(r.t, func() { wait(r.t, r.lasting(short, full)) })
}

// phase begins a phase of the measurement, with nodes that no other node can reach.
func (r *randomRun) phase(name string, apart, paused []string) {
	r.step("%s %v", name, apart)
	r.book.add(ledger.Record{Kind: ledger.Phase, Phase: name, Apart: apart, Paused: paused})
}

// round runs the first faults of a random order, and checks the ledger.
func (r *randomRun) round(n, faults int) []ledger.Stale {
	r.t.Helper()
	r.book = newBook(r.t, fmt.Sprintf("round-%d", n))
	r.book.pick = r.balancer.pick
	r.crowd = &changing{book: r.book, random: rand.New(rand.NewPCG(*clusterSeed, uint64(n))), few: 10, many: 20}
	if r.full {
		r.crowd.few, r.crowd.many = 30, 60
	}
	for range r.crowd.few {
		r.crowd.join()
	}
	r.post()
	for _, i := range r.random.Perm(len(clusterFaults))[:faults] {
		f := clusterFaults[i]
		r.phase("", nil, nil)
		r.settle("before " + f.name)
		r.phase(noFault, nil, nil)
		r.still = r.crowd.churn(500*time.Millisecond, 3)
		r.wait(2*time.Second, 10*time.Second)
		f.run(r, f.name)
		r.still()
		r.settle(f.name)
	}
	r.posting.end()
	r.phase("", nil, nil)
	r.settle("end")
	calm(r.t, r.book.awaitReceived) // the last message may be on its way
	report := r.book.check()
	stale := ledger.Staleness(r.book.list())
	if !r.full {
		return stale
	}
	r.t.Logf("round %d, %v\n%s", n, report, ledger.Table(stale))
	for _, c := range r.crowd.clients {
		c.close()
	}
	return stale
}

// settle waits until each client has the truth. Users that have just left are in their grace
// period.
func (r *randomRun) settle(what string) {
	r.t.Helper()
	calm(r.t, func() {
		began := time.Now()
		r.book.awaitView(what, r.crowd.clients, len(r.crowd.clients), nil, began, 8*time.Second)
		r.book.quiet(what, r.crowd.clients, began, 12*time.Second)
	})
}

// post starts to send messages.
func (r *randomRun) post() {
	r.posted++
	r.posting = r.book.post(fmt.Sprint(r.posted), 3, r.balancer.pick)
}

// changing is the clients of a round.
type changing struct {
	book      *book
	random    *rand.Rand
	few, many int // the number of clients moves between these

	clients []*bookClient
	named   int
	leaving bool
}

func (c *changing) join() {
	c.named++
	c.clients = append(c.clients, c.book.client(fmt.Sprintf("c-%d", c.named), fmt.Sprintf("u-%d", c.named%(2*c.many)), ""))
}

func (c *changing) leave() {
	i := c.random.IntN(len(c.clients))
	c.clients[i].close()
	c.clients = slices.Delete(c.clients, i, i+1)
}

// churn makes up to n clients join or leave at a time, until the returned function is called. First
// clients join until there are many, then they leave until there are few, so that each true count
// differs from the counts just before.
func (c *changing) churn(every time.Duration, n int) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	c.book.running.Go(func() { // ends with done, or with the book if the test fails
		defer close(ended)
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-c.book.ctx.Done():
				return
			case <-ticker.C:
			}
			if c.leaving = c.leaving && len(c.clients) > c.few || len(c.clients) >= c.many; c.leaving {
				for range min(n, len(c.clients)-1) {
					c.leave()
				}
				continue
			}
			for range n {
				c.join()
			}
		}
	})
	return sync.OnceFunc(func() { close(done); <-ended })
}

// churnFast makes clients join and leave, and measures from the last one.
func (r *randomRun) churnFast(name string) {
	r.phase("", nil, nil)
	r.still()
	r.still = r.crowd.churn(50*time.Millisecond, 1)
	r.wait(2*time.Second, 30*time.Second)
	r.still()
	r.phase(name, nil, nil)
	r.wait(2*time.Second, 2*time.Second)
}

// node returns a random node.
func (r *randomRun) node() (i int, n *clusterNode) {
	i = r.random.IntN(len(r.nodes))
	return i, r.nodes[i]
}

func (r *randomRun) killNode(name string) {
	i, n := r.node()
	r.phase(name, nil, nil)
	sendSignal(r.t, n.process, unix.SIGKILL)
	n.process.Wait()
	r.balancer.remove(n.addr)
	r.wait(7*time.Second, 15*time.Second)
	calm(r.t, func() { r.startNode(i) })
	r.wait(time.Second, 5*time.Second)
}

func (r *randomRun) pauseNode(name string) {
	_, n := r.node()
	sendSignal(r.t, n.process, unix.SIGSTOP)
	r.phase(name, []string{n.addr}, []string{n.addr})
	r.wait(7*time.Second, 15*time.Second)
	r.phase(name, nil, nil)
	sendSignal(r.t, n.process, unix.SIGCONT)
	r.wait(3*time.Second, 5*time.Second)
}

func (r *randomRun) cutNode(name string) {
	i, n := r.node()
	r.phase(name, []string{n.addr}, nil)
	r.proxies[i].setCut(true)
	r.wait(7*time.Second, 20*time.Second)
	r.phase(name, nil, nil)
	r.proxies[i].setCut(false)
	r.wait(5*time.Second, 10*time.Second)
}

func (r *randomRun) slowNode(name string) {
	i, _ := r.node()
	r.phase(name, nil, nil)
	r.proxies[i].setDelay(200 * time.Millisecond)
	r.wait(5*time.Second, 20*time.Second)
	r.proxies[i].setDelay(0)
	r.wait(time.Second, 5*time.Second)
}

func (r *randomRun) resetNode(name string) {
	i, _ := r.node()
	r.phase(name, nil, nil)
	stop := r.proxies[i].resetAtRandom(rand.New(rand.NewPCG(r.random.Uint64(), 1)), 2*time.Second)
	r.wait(5*time.Second, 20*time.Second)
	r.step("%d resets", stop())
	r.wait(time.Second, 5*time.Second)
}

func (r *randomRun) restartNATS(name string) {
	r.phase(name, nil, nil)
	for _, s := range r.servers {
		s.kill()
	}
	for _, s := range r.servers {
		s.start()
	}
	calm(r.t, r.book.awaitAccepted)
	r.wait(time.Second, 5*time.Second)
}

func (r *randomRun) killLeaders(name string) {
	leader, others := streamLeader(r.t, r.js, r.servers, "presence")
	second := others[r.random.IntN(len(others))]
	r.phase(name, nil, nil)
	leader.kill()
	calm(r.t, r.book.awaitAccepted)
	r.step("second server killed")
	second.kill()
	r.wait(2*time.Second, 10*time.Second)
	leader.start()
	second.start()
	r.step("both servers started")
	calm(r.t, r.book.awaitAccepted)
	r.wait(time.Second, 5*time.Second)
}

// deleteStream deletes the stream while no message is in flight: a message whose answer was lost
// could otherwise be accepted again in the new stream.
func (r *randomRun) deleteStream(name string) {
	r.posting.end()
	r.phase(name, nil, nil)
	if err := r.js.DeleteStream(r.t.Context(), "presence"); err != nil {
		r.t.Fatal(err)
	}
	r.post()
	calm(r.t, r.book.awaitAccepted)
	r.wait(2*time.Second, 5*time.Second)
}

func (r *randomRun) restartNodes(name string) {
	r.phase(name, nil, nil)
	for i, n := range r.nodes {
		sendSignal(r.t, n.process, syscall.SIGTERM)
		calm(r.t, func() {
			if err := n.process.Wait(); err != nil {
				r.t.Errorf("node %d: got %v at its exit, want status 0", i, err)
			}
			r.balancer.remove(n.addr)
			r.startNode(i)
		})
		r.step("node %d restarted", i)
	}
	r.wait(2*time.Second, 5*time.Second)
}
