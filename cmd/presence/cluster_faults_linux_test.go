//go:build !race

package main

// The tests in this file run presence nodes and NATS servers as processes, and make them fail. The
// full durations need PRESENCE_TEST_LONG=1 (make test-long).

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sys/unix"

	"example.com/presence/cmd/presence/internal/ledger"
)

// startFaultNode starts node i with the given NATS servers.
func startFaultNode(t *testing.T, i int, urls []string, replicas int, args ...string) *clusterNode {
	t.Helper()
	n := &clusterNode{t: t}
	args = append(args, fmt.Sprintf("--nats-replicas=%d", replicas), fmt.Sprintf("--listen=127.0.1.%d:0", i+1), "--message-rate=0", "--cost-rate=0", "--history-rate=0")
	for _, url := range urls {
		args = append(args, "--nats="+url)
	}
	n.process, n.log, n.addr = serveProcess(t, args...)
	go func() { // ends when the log is closed
		for range n.log.next { // otherwise a long log blocks the process
		}
	}()
	n.awaitReady()
	return n
}

// calm runs wait without the slot of the test. In the long runs the test keeps its slot, because
// more than two of these tests would overload the machine.
func calm(t *testing.T, wait func()) {
	if sized(false, false, true) {
		wait()
		return
	}
	idle(t, wait)
}

func natsURLs(servers []*natsNode) (urls []string) {
	for _, s := range servers {
		urls = append(urls, s.url())
	}
	return urls
}

// logs prints the logs of nodes if the test has failed.
func logs(t *testing.T, nodes ...*clusterNode) {
	t.Cleanup(func() {
		if t.Failed() {
			for i, n := range nodes {
				t.Logf("node %d, %s:\n%s", i, n.addr, n.log)
			}
		}
	})
}

// A node that is killed is out of the counts of the other nodes within 6 s, and its users leave
// with reason node. A node that is paused is right within 3 s after it continues.
func TestFaultNode(t *testing.T) {
	t.Parallel()
	heavy(t)
	pause := sized(7*time.Second, 7*time.Second, 15*time.Second)
	servers := startNATSNodes(t, 1)
	var nodes []*clusterNode
	var clients [][]*bookClient
	b := newBook(t, "faults")
	for i := range 3 {
		nodes = append(nodes, startFaultNode(t, i, natsURLs(servers), 1))
		clients = append(clients, b.clients(4, fmt.Sprintf("n%d", i), nodes[i].addr))
	}
	logs(t, nodes...)
	both := b.client("both-0", "both", nodes[0].addr) // its user is on two nodes
	all := append(append(append([]*bookClient{both}, clients[0]...), clients[1]...), clients[2]...)
	all = append(all, b.client("both-1", "both", nodes[1].addr))
	calm(t, func() { b.quiet("start", all, time.Now(), patience) })
	posting := b.post("m", 20, anyOf(nodes[1].addr, nodes[2].addr))

	rest := all[5:]
	sendSignal(t, nodes[0].process, unix.SIGKILL)
	killed := time.Now()
	calm(t, func() {
		b.awaitView("node killed", rest, len(rest), users(rest), killed, 6*time.Second)
	})
	for _, c := range rest {
		c.mu.Lock()
		for _, gone := range clients[0] {
			if got := c.left[gone.user]; got != "node" {
				t.Errorf("client %s: user %s left with reason %q, want node", c.name, gone.user, got)
			}
		}
		if got, left := c.left["both"]; left {
			t.Errorf("client %s: user both left with reason %q, but has a connection", c.name, got)
		}
		c.mu.Unlock()
	}
	for i, c := range all[:5] {
		c.move(nodes[1+i%2].addr)
	}
	calm(t, func() { b.quiet("clients resumed on other nodes", all, time.Now(), 5*time.Second) })

	sendSignal(t, nodes[1].process, unix.SIGSTOP)
	paused := time.Now()
	var other []*bookClient
	for _, c := range all {
		if c.addr == nodes[2].addr {
			other = append(other, c)
		}
	}
	calm(t, func() {
		b.awaitView("node paused", other, len(other), users(other), paused, 6*time.Second)
		until(t, paused.Add(pause))
	})
	sendSignal(t, nodes[1].process, unix.SIGCONT)
	calm(t, func() { b.quiet("node continued", all, time.Now(), 3*time.Second) })
	posting.end()
	calm(t, func() { until(t, time.Now().Add(2*time.Second)) })
	if r := b.check(); r.Resets > 0 || r.Epochs != 1 {
		t.Errorf("got %d resets and %d epochs, want no reset and one epoch", r.Resets, r.Epochs)
	}
}

// churn moves random clients to random nodes, one per interval, until the returned function is
// called.
func churn(b *book, every time.Duration, clients []*bookClient, pick func() string) (stop func()) {
	done, stopped := make(chan struct{}), make(chan struct{})
	b.running.Go(func() { // ends with done
		defer close(stopped)
		for {
			select {
			case <-done:
				return
			case <-b.ctx.Done():
				return
			case <-time.After(every):
				clients[rand.IntN(len(clients))].move(pick())
			}
		}
	})
	return sync.OnceFunc(func() { close(done); <-stopped })
}

func addrs(nodes []*clusterNode) (all []string) {
	for _, n := range nodes {
		all = append(all, n.addr)
	}
	return all
}

// faultCluster is three nodes, three NATS servers that store each message, and twelve clients that
// move between the nodes, under 200 messages per second (see slower).
type faultCluster struct {
	*book
	began   time.Time
	servers []*natsNode
	nodes   []*clusterNode
	clients []*bookClient
	js      jetstream.JetStream
	posting *posters
	moving  func() // stops the moves
	kicking *kicks
}

func startFaultCluster(t *testing.T) *faultCluster {
	t.Helper()
	c := &faultCluster{book: newBook(t, "faults"), servers: startNATSNodes(t, 3)}
	for i := range 3 {
		c.nodes = append(c.nodes, startFaultNode(t, i, natsURLs(c.servers), 3, "--history=100000"))
		c.clients = append(c.clients, c.book.clients(4, fmt.Sprintf("n%d", i), c.nodes[i].addr)...)
	}
	logs(t, c.nodes...)
	c.js = jetStream(t, c.servers)
	c.began = time.Now()
	calm(t, func() { c.quiet("start", c.clients, time.Now(), patience) })
	c.load("a")
	return c
}

// load starts messages, moves and removals.
func (c *faultCluster) load(prefix string) {
	any := anyOf(addrs(c.nodes)...)
	c.posting = c.post(prefix, 200/slower, any)
	c.moving = churn(c.book, 200*time.Millisecond*slower, c.clients, any)
	c.kicking = startKicks(c.book, prefix, any)
}

func (c *faultCluster) step(format string, values ...any) {
	c.t.Logf("%.1f s: %s", time.Since(c.began).Seconds(), fmt.Sprintf(format, values...))
}

// wait waits d without a slot.
func (c *faultCluster) wait(d time.Duration) {
	calm(c.t, func() { until(c.t, time.Now().Add(d)) })
}

// leader waits for the leader of the stream.
func (c *faultCluster) leader(among []*natsNode) (leader *natsNode, others []*natsNode) {
	c.t.Helper()
	calm(c.t, func() { leader, others = streamLeader(c.t, c.js, among, "presence") })
	c.step("leader %s", leader.name)
	return leader, others
}

// accepted waits until a message is accepted that was sent after the call.
func (c *faultCluster) accepted() {
	c.t.Helper()
	calm(c.t, c.awaitAccepted)
	c.step("message accepted")
}

// connected waits until each node has contact with NATS. A message may be accepted before.
func (c *faultCluster) connected() {
	c.t.Helper()
	calm(c.t, func() {
		for _, n := range c.nodes {
			var ready struct{ Backplane string }
			hasContact := func() bool {
				ready.Backplane = ""
				n.ask("GET", "/readyz", "", http.StatusOK, &ready)
				return ready.Backplane == ""
			}
			if !poll(50*time.Millisecond, patience, hasContact) {
				c.t.Errorf("node %s: no contact with NATS after %v", n.addr, patience)
			}
		}
	})
	c.step("all nodes connected")
}

// settle ends the load, and checks all clients and the ledger. A client that resumes on a node that
// is cut off may get reset, but no other client may.
func (c *faultCluster) settle(epochs, resets int) {
	c.t.Helper()
	c.posting.end()
	c.moving()
	c.kicking.end()
	c.step("load ended")
	calm(c.t, func() {
		c.quiet("quiet", c.clients, time.Now(), 6*time.Second)
		c.awaitReceived()
	})
	if r := c.check(); r.Live != resets || r.Epochs != epochs {
		c.t.Errorf("got %d resets of connected clients and %d epochs, want %d and %d", r.Live, r.Epochs, resets, epochs)
	}
	checkOrder(c.t, c.list())
	c.kicking.check(c.t)
}

// All NATS servers are restarted at once: the epoch stays, and nothing is lost. Then the stream is
// deleted: it gets another epoch, all clients get reset, and no message is shown twice or as
// another's.
func TestFaultNATSRestart(t *testing.T) {
	t.Parallel()
	heavy(t)
	settle := sized(time.Second, time.Second, 20*time.Second)
	c := startFaultCluster(t)
	c.wait(settle)
	c.step("kill all servers")
	for _, s := range c.servers {
		s.kill()
	}
	for _, s := range c.servers {
		s.start()
	}
	c.leader(c.servers)
	c.accepted()
	c.connected()
	c.wait(settle)
	c.settle(1, 0)

	c.load("b")
	c.moving()
	c.accepted()
	c.step("delete the stream")
	if err := c.js.DeleteStream(t.Context(), "presence"); err != nil {
		t.Fatal(err)
	}
	c.accepted()
	c.wait(settle)
	c.settle(2, len(c.clients))
}

// The leader of the stream is killed, then another NATS server, so that there is no majority, and
// then both are started again. No message that was accepted is missing, twice or out of order at a
// client that resumes.
func TestFaultNATSLeader(t *testing.T) {
	t.Parallel()
	heavy(t)
	settle := sized(time.Second, time.Second, 20*time.Second)
	c := startFaultCluster(t)
	c.wait(settle)
	first, others := c.leader(c.servers)
	c.step("kill %s", first.name)
	first.kill()
	c.leader(others)
	c.accepted()
	c.step("kill %s", others[0].name)
	others[0].kill()
	c.wait(settle)
	first.start()
	others[0].start()
	c.step("both started")
	c.leader(c.servers)
	c.accepted()
	c.connected()
	c.wait(settle)
	c.settle(1, 0)
}

// A node is cut off from NATS without a reset, then its network is slow and reset at random. The
// counts heal by themselves, and no member stays that has left.
func TestFaultPartition(t *testing.T) {
	t.Parallel()
	heavy(t)
	cut := sized(7*time.Second, 7*time.Second, 20*time.Second)
	slow := sized(5*time.Second, 5*time.Second, 20*time.Second)
	servers := startNATSNodes(t, 1)
	proxy := startNATSProxy(t, servers)
	b := newBook(t, "faults")
	var nodes []*clusterNode
	var clients []*bookClient
	for i := range 3 {
		urls := natsURLs(servers)
		if i == 0 {
			urls = proxy.urls
		}
		nodes = append(nodes, startFaultNode(t, i, urls, 1, "--history=100000"))
		clients = append(clients, b.clients(4, fmt.Sprintf("n%d", i), nodes[i].addr)...)
	}
	logs(t, nodes...)
	wait := func(d time.Duration) { calm(t, func() { until(t, time.Now().Add(d)) }) }
	calm(t, func() { b.quiet("start", clients, time.Now(), patience) })
	posting := b.post("m", 50, anyOf(addrs(nodes)...))
	wait(500 * time.Millisecond)

	all := cutNode(b, proxy, nodes, clients, cut)

	proxy.setDelay(200 * time.Millisecond)
	stopChurn := churn(b, 200*time.Millisecond, all, anyOf(addrs(nodes)...))
	wait(slow)
	stopChurn()
	calm(t, func() { b.quiet("slow", all, time.Now(), 6*time.Second) })
	proxy.setDelay(0)

	stopChurn = churn(b, 200*time.Millisecond, all, anyOf(addrs(nodes)...))
	stopResets := proxy.resetAtRandom(rand.New(rand.NewPCG(1, 1)), time.Second)
	wait(slow)
	stopChurn()
	t.Logf("%d resets", stopResets())
	posting.end()
	calm(t, func() {
		b.quiet("resets ended", all, time.Now(), 6*time.Second)
		b.awaitReceived()
	})
	if r := b.check(); r.Live > 0 || r.Epochs != 1 {
		t.Errorf("got %d resets of connected clients and %d epochs, want 0 and 1", r.Live, r.Epochs)
	}
}

// cutNode cuts the first node off for d. On both sides, a client leaves and another one joins
// during the cut, and one user moves. It returns the clients after the cut.
func cutNode(b *book, proxy *natsProxy, nodes []*clusterNode, clients []*bookClient, d time.Duration) (all []*bookClient) {
	b.t.Helper()
	proxy.setCut(true)
	began := time.Now()
	inside, outside := clients[:4], clients[4:]
	inside[0].close()
	outside[0].close()
	inside[0] = b.client("in", "in", nodes[0].addr)
	outside[0] = b.client("out", "out", nodes[1].addr)
	inside[1].close()
	inside[1] = b.client("moved", inside[1].user, nodes[2].addr)
	outside, inside = append(slices.Clone(outside), inside[1]), append(slices.Clone(inside[:1]), inside[2:]...)
	calm(b.t, func() {
		b.awaitView("outside of the cut", outside, len(outside), nil, began, 6*time.Second)
		b.awaitView("inside of the cut", inside, len(inside), nil, began, 6*time.Second)
		until(b.t, began.Add(d))
	})
	sent := time.Now()
	if got := (&posters{book: b, pick: anyOf(nodes[0].addr)}).send("cut", 0); got != http.StatusServiceUnavailable || time.Since(sent) > 3*time.Second {
		b.t.Errorf("message at a node that is cut off: status %d after %v, want 503 within 3s", got, time.Since(sent))
	}
	var ready struct{ Status, Backplane string }
	if nodes[0].ask("GET", "/readyz", "", http.StatusOK, &ready); ready.Status != "ready" || ready.Backplane != "down" {
		b.t.Errorf("/readyz of a node that is cut off: got %+v, want ready and down", ready)
	}
	proxy.setCut(false)
	all = append(slices.Clone(inside), outside...)
	calm(b.t, func() { b.quiet("cut mended", all, time.Now(), 6*time.Second) })
	return all
}

// frames drops publications of nodes on the subjects of rooms.
type frames struct {
	mu      sync.Mutex // guards the fields below
	random  *rand.Rand
	oneIn   int    // drops one publication in so many; 0: none
	text    string // drops the next publication that contains it; "": none
	seen    int
	dropped int
}

func (f *frames) drop(subject string, data []byte) bool {
	if !strings.HasPrefix(subject, "presence.room.") || !strings.HasSuffix(subject, ".msg") {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen++
	switch {
	case f.text != "" && bytes.Contains(data, []byte(f.text)):
		f.text = ""
	case f.oneIn > 0 && f.random.IntN(f.oneIn) == 0:
	default:
		return false
	}
	f.dropped++
	return true
}

// set changes the rules, and returns the numbers of publications so far.
func (f *frames) set(oneIn int, text string) (seen, dropped int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.oneIn, f.text = oneIn, text
	return f.seen, f.dropped
}

// NATS loses publications of the nodes at random, and then the last one of a burst. The counts are
// true within 2 s after the last change.
func TestFaultDrops(t *testing.T) {
	t.Parallel()
	heavy(t)
	oneIn := sized(20, 20, 1000)
	rooms := sized(2, 2, 10)
	busy := sized(4*time.Second, 4*time.Second, time.Minute)
	servers := startNATSNodes(t, 1)
	lost := &frames{random: rand.New(rand.NewPCG(1, 1))}
	var nodes []*clusterNode
	for i := range 3 {
		proxy := startNATSProxy(t, servers)
		proxy.setDrop(lost.drop)
		nodes = append(nodes, startFaultNode(t, i, proxy.urls, 1, "--history=100000"))
	}
	logs(t, nodes...)
	any := anyOf(addrs(nodes)...)
	var books []*book
	var all [][]*bookClient
	for i := range rooms {
		b := newBook(t, fmt.Sprintf("room-%d", i))
		books, all = append(books, b), append(all, nil)
		for n := range nodes {
			all[i] = append(all[i], b.clients(3, fmt.Sprintf("n%d", n), nodes[n].addr)...)
		}
	}
	quiet := func(what string, since time.Time, within time.Duration) {
		t.Helper()
		calm(t, func() {
			for i, b := range books {
				b.quiet(what, all[i], since, within)
			}
		})
	}
	quiet("start", time.Now(), patience)
	lost.set(oneIn, "")
	var joining sync.WaitGroup
	for _, b := range books {
		joining.Go(func() { b.busy(busy, any) })
	}
	calm(t, joining.Wait)
	last := time.Now()
	seen, dropped := lost.set(0, "")
	t.Logf("%d of %d publications dropped", dropped, seen)
	if dropped == 0 {
		t.Error("no publication dropped")
	}
	// The users of the closed clients are in their grace period: until then, only counts are
	// compared.
	calm(t, func() {
		for i, b := range books {
			b.awaitView("publications dropped", all[i], len(all[i]), nil, last, 2*time.Second)
		}
	})
	quiet("grace periods ended", last.Add(5500*time.Millisecond), 2*time.Second)

	for i, b := range books {
		all[i] = burst(b, lost, nodes[0].addr, all[i])
	}
	for _, b := range books {
		calm(t, b.awaitReceived)
		if r := b.check(); r.Resets > 0 {
			t.Errorf("got %d resets, want 0", r.Resets)
		}
	}
}

// busy sends messages and lets clients come and go for d.
func (b *book) busy(d time.Duration, pick func() string) {
	posting := b.post("m", 20, pick)
	for n, began := 0, time.Now(); time.Since(began) < d; n++ {
		c := b.client(fmt.Sprintf("c-%d", n), fmt.Sprintf("u-%d", n%7), pick())
		until(b.t, time.Now().Add(time.Duration(10+n%5*20)*time.Millisecond))
		c.close()
	}
	posting.end()
}

// burst opens clients in quick succession, and drops the publication about the last one. It returns
// all clients.
func burst(b *book, lost *frames, addr string, clients []*bookClient) []*bookClient {
	b.t.Helper()
	_, before := lost.set(0, "last-of-"+b.room)
	clients = append(clients, b.clients(10, "burst", addr)...)
	clients = append(clients, b.client("last", "last-of-"+b.room, addr))
	began := time.Now()
	calm(b.t, func() { b.quiet("last publication of a burst dropped", clients, began, 2*time.Second) })
	if _, after := lost.set(0, ""); after != before+1 {
		b.t.Errorf("%d publications dropped, want 1", after-before)
	}
	return clients
}

// Two nodes with one label: the counts are true, and one of the nodes logs one warning.
func TestFaultLabel(t *testing.T) {
	t.Parallel()
	heavy(t)
	servers := startNATSNodes(t, 1)
	b := newBook(t, "faults")
	var nodes []*clusterNode
	var clients []*bookClient
	for i := range 2 {
		nodes = append(nodes, startFaultNode(t, i, natsURLs(servers), 1, "--node=twin"))
		clients = append(clients, b.clients(3, fmt.Sprintf("n%d", i), nodes[i].addr)...)
	}
	logs(t, nodes...)
	calm(t, func() { b.quiet("start", clients, time.Now(), time.Second) })
	const warning = `"msg":"two nodes have the same label","label":"twin"`
	warnings := func() (n int) {
		for _, node := range nodes {
			n += strings.Count(node.log.String(), warning)
		}
		return n
	}
	calm(t, func() {
		eventually(t, patience, "a warning about the label", func() bool { return warnings() > 0 })
		until(t, time.Now().Add(sized(2*time.Second, 2*time.Second, 20*time.Second)))
	})
	if got := warnings(); got != 1 {
		t.Errorf("got %d warnings, want 1", got)
	}
	clients[0].close()
	calm(t, func() { b.awaitView("a client left", clients[1:], 5, nil, time.Now(), time.Second) })
	b.check()
}

// awaitReceived waits until the clients have received all accepted messages.
func (b *book) awaitReceived() {
	since := time.Now()
	poll(time.Second, patience, func() bool { // a check takes much CPU
		return len(ledger.Check(b.list()).Faults) == 0 // if not, the check at the end fails the test
	})
	b.t.Logf("all messages received after %.1f s", time.Since(since).Seconds())
}

// awaitAccepted waits until a message is accepted that was sent after the call.
func (b *book) awaitAccepted() {
	b.t.Helper()
	since := time.Now()
	if !poll(50*time.Millisecond, patience, func() bool { return b.hasAccepted(since) }) {
		b.t.Fatalf("no message accepted for %v", patience)
	}
	b.t.Logf("message accepted after %.2f s", time.Since(since).Seconds())
}

// hasAccepted reports whether a message that was sent after a time has been accepted.
func (b *book) hasAccepted(since time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range slices.Backward(b.records) {
		if r.At.Before(since) {
			return false
		}
		if r.Kind == ledger.Posted && r.Status == http.StatusAccepted && r.Began.After(since) {
			return true
		}
	}
	return false
}
