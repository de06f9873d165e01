//go:build !race

package main

// The test in this file runs a server and a cluster under load for a long time. The full size needs
// PRESENCE_TEST_SOAK, such as 30m (make soak). Then it prints tables in Markdown.

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"example.com/presence/cmd/presence/internal/soak"
)

// A server with the memory backplane and, beside it, a cluster of three nodes and three NATS
// servers run under load. Clients restart, stop reading, read slowly, are removed, and outlive
// their tokens. Two of the nodes restart again and again, after SIGKILL or SIGTERM. At the end of
// each section each client has every message exactly once and the true count, and the ledger of
// some of them has no fault. At the end of the test, no process has grown.
func TestClusterSoak(t *testing.T) {
	t.Parallel()
	size := soakSizes(t)
	var single, cluster []*soak.Server
	t.Run("parts", func(t *testing.T) {
		t.Run("single", func(t *testing.T) {
			t.Parallel()
			heavy(t)
			single = soakSingle(t, size)
		})
		t.Run("cluster", func(t *testing.T) {
			t.Parallel()
			heavy(t)
			cluster = soakCluster(t, size)
		})
	})
	all := append(single, cluster...)
	text := "\n" + soak.Table(all) + "\n" + soak.GrowthTable(all)
	if size.long {
		fmt.Println(text) // without the indent of a log, so that it can be copied
		return
	}
	t.Log(text)
}

// soakSize is the size of a soak.
type soakSize struct {
	long     bool
	time     time.Duration
	section  time.Duration
	round    time.Duration // of one order to the load processes
	sampling time.Duration // time between two samples
	detected time.Duration // time from a kill to the next start of a node
	grace    time.Duration // of a shutdown

	room    int           // clients in each room
	rooms   int           // of the single server; the cluster has three quarters
	checked int           // clients with a ledger
	rate    int           // messages per second and room
	bytes   int           // in a message
	changes float64       // of clients per second
	stops   int           // each of so many changes stops a client
	pause   time.Duration // see loadOrder
	away    time.Duration // see loadOrder
	retry   time.Duration // see loadOrder
	history int           // messages

	warm, warmRestarted time.Duration
	limits              soak.Limits
}

func soakSizes(t *testing.T) soakSize {
	t.Helper()
	text := os.Getenv("PRESENCE_TEST_SOAK")
	if text == "" {
		return soakSize{
			time: 4 * time.Second, section: 4 * time.Second, round: 250 * time.Millisecond, sampling: 100 * time.Millisecond,
			detected: time.Second, grace: 2 * time.Second,
			room: 30, rooms: 4, checked: 6, rate: 20, bytes: 3000, history: 1000,
			changes: 30, stops: 20, pause: 3 * time.Second, away: time.Second, retry: time.Second / 2,
			warm: time.Second, limits: soak.Limits{Goroutines: 12, Descriptors: 12},
		}
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 5*time.Minute {
		t.Fatalf("PRESENCE_TEST_SOAK: got %q, want a duration of at least 5m", text)
	}
	return soakSize{
		long: true, time: d, section: max(d/10, time.Minute), round: time.Second, sampling: 5 * time.Second,
		detected: 7 * time.Second, grace: 8 * time.Second,
		room: 250, rooms: 8, checked: 24, rate: 3, bytes: 1000, history: 200,
		changes: 15, stops: 30, pause: 40 * time.Second, away: 8 * time.Second, retry: 3 * time.Second,
		// The histories are full after 67 s, and idempotency keys are kept for 2 minutes.
		warm: 150 * time.Second, warmRestarted: 30 * time.Second,
		limits: soak.Limits{Goroutines: 5, Descriptors: 5, Heap: 0.05, RSS: 0.1},
	}
}

// soakServer is a server of a soak, in one process after the other.
type soakServer struct {
	*soak.Server
	*clusterNode
	start func() *clusterNode
	up    bool // ready
	life  int
}

// soakRun is a soak of one server or of one cluster.
type soakRun struct {
	t       *testing.T
	size    soakSize
	rooms   int
	clients int // of the load process
	fleet   *fleet
	sender  *book // sends the messages to the rooms of the load process; its ledger is empty
	servers []*soakServer
	scraper *http.Client
	began   time.Time

	section int
	sampled time.Time
	sent    []int                    // messages by room
	ready   atomic.Pointer[[]string] // addresses of the servers that are ready, as a balancer knows them
}

// flags make the limits of a server small, so that the load reaches them soon.
func (s soakSize) flags() []string {
	return []string{fmt.Sprintf("--history=%d", s.history), "--max-message=4KiB", "--max-unsent=16KiB", "--shutdown-grace=" + s.grace.String()}
}

func soakSingle(t *testing.T, size soakSize) []*soak.Server {
	t.Helper()
	start := func() *clusterNode {
		n := &clusterNode{t: t}
		n.process, n.log, n.addr = serveProcess(t, append(size.flags(), "--message-rate=0", "--cost-rate=0", "--history-rate=0")...)
		go func() { // ends when the log is closed
			for range n.log.next { // otherwise a long log blocks the process
			}
		}()
		return n
	}
	r := startSoak(t, size, size.rooms, []*soakServer{{start: start, Server: &soak.Server{Name: "single", Warm: size.warm, Limits: size.limits}}})
	all := r.all(func(int) { r.load(size.section) })
	slow, stops := r.scrape(r.servers[0])[`presence_streams_ended_total{reason="slow"}`], r.fleet.do(loadOrder{Do: "report"}).Stops
	r.step("the server has ended %v streams as slow, %d clients have stopped reading", slow, stops)
	if size.long && slow < float64(stops)/2 { // the others were removed, or their token expired
		t.Errorf("the server has ended %v streams as slow, want at least half of %d", slow, stops)
	}
	return all
}

// soakCluster restarts nodes 2 and 3. In each section, one of them gets SIGKILL and then the other
// one SIGTERM.
func soakCluster(t *testing.T, size soakSize) []*soak.Server {
	t.Helper()
	nats := startNATSNodes(t, 3)
	var servers []*soakServer
	for i := range 3 {
		s := &soakServer{Server: &soak.Server{Name: fmt.Sprintf("node %d", i+1), Warm: size.warm, Limits: size.limits}}
		s.start = func() *clusterNode {
			return startFaultNode(t, i, natsURLs(nats), 3, append(size.flags(), fmt.Sprintf("--node=node-%d", i+1))...)
		}
		if i > 0 {
			s.Name += ", restarted"
			s.Warm, s.Limits.Heap, s.Limits.RSS = size.warmRestarted, 0, 0
		}
		servers = append(servers, s)
	}
	r := startSoak(t, size, size.rooms*3/4, servers)
	return r.all(func(section int) {
		r.load(size.section / 4)
		r.kill(r.servers[1+section%2])
		r.load(size.section / 4)
		r.terminate(r.servers[2-section%2])
		r.load(size.section / 4)
	})
}

func startSoak(t *testing.T, size soakSize, rooms int, servers []*soakServer) *soakRun {
	t.Helper()
	r := &soakRun{
		t: t, size: size, rooms: rooms, clients: rooms * size.room, servers: servers, began: time.Now(),
		scraper: new(http.Client), sent: make([]int, rooms), fleet: startFleet(t, 1), sender: newBook(t, "rooms"),
	}
	// The number of idle connections would depend on the load.
	r.sender.posts = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	t.Cleanup(r.scraper.CloseIdleConnections)
	for _, s := range servers {
		r.startServer(s)
	}
	slow := 3 * size.rate * size.bytes // faster than the messages, so that it receives a replay in time
	r.fleet.do(loadOrder{Do: "open", Addrs: *r.ready.Load(), Clients: r.clients, Rooms: rooms, Browser: true, Soak: true, Slow: slow, Retry: r.size.retry, InFlight: 50})
	r.fleet.awaitCount(size.room, time.Now(), patience)
	return r
}

func (r *soakRun) step(format string, values ...any) {
	r.t.Logf("%.1f s: %s", time.Since(r.began).Seconds(), fmt.Sprintf(format, values...))
}

// startServer starts a server, or starts it again.
func (r *soakRun) startServer(s *soakServer) {
	r.t.Helper()
	again := s.clusterNode != nil
	s.clusterNode = s.start()
	logs(r.t, s.clusterNode)
	if again {
		s.life++
		r.step("%s started again", s.Name)
	}
	r.setUp(s, true)
}

// setUp changes whether a server is ready.
func (r *soakRun) setUp(s *soakServer, up bool) {
	s.up = up
	var addrs []string
	for _, s := range r.servers {
		if s.up {
			addrs = append(addrs, s.addr)
		}
	}
	r.ready.Store(&addrs)
}

// pick returns the address of a random server that is ready.
func (r *soakRun) pick() string {
	all := *r.ready.Load()
	return all[rand.IntN(len(all))]
}

// all runs sections until the time of the soak has passed, and judges the servers.
func (r *soakRun) all(during func(section int)) (servers []*soak.Server) {
	r.t.Helper()
	for _, s := range r.servers {
		servers = append(servers, s.Server)
	}
	calm(r.t, func() {
		for end := time.Now().Add(r.size.time); ; r.section++ {
			if r.runSection(during); time.Now().After(end) {
				break
			}
		}
		eventually(r.t, patience, "there are enough samples to judge "+servers[0].Name, func() bool {
			r.sample()
			return len(servers[0].Growths()) > 0
		})
	})
	for _, s := range servers {
		for _, fault := range s.Judge() {
			r.t.Error(fault)
		}
	}
	return servers
}

// runSection runs the load, ends it, and checks that each client has the truth.
func (r *soakRun) runSection(during func(section int)) {
	r.t.Helper()
	b := newBook(r.t, fmt.Sprintf("checked-%d", r.section))
	b.pick, b.posts = r.pick, r.sender.posts
	checked := b.clients(r.size.checked, "c", "")
	b.awaitView("section begins", checked, len(checked), users(checked), time.Now(), patience)
	posting := b.post(fmt.Sprint(r.section), 10, r.pick)
	moving := churn(b, 300*time.Millisecond, checked[r.size.checked/2:], r.pick)
	numbers := startNumbers(r.sender, r.pick, r.rooms*r.size.rate, r.sent, strings.Repeat("x", r.size.bytes))

	during(r.section)

	eventually(r.t, patience, "each client reads again", func() bool {
		r.sample()
		return r.fleet.do(loadOrder{Do: "report"}).Stopped == 0
	})
	moving()
	posting.end()
	r.exact(numbers.end())
	b.quiet("section ends", checked, time.Now(), patience)
	b.awaitReceived()
	if report := b.check(); report.Resets > 0 || report.Epochs != 1 {
		r.t.Errorf("section %d: got %d resets and %d epochs, want no reset and one epoch", r.section, report.Resets, report.Epochs)
	}
	r.counted(r.clients + len(checked))
	for _, c := range checked {
		c.close()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.records = nil // the ledgers of all sections would need too much memory
}

// exact waits until each client of the load process has the true count and each message exactly
// once. messages is their number in each room.
func (r *soakRun) exact(messages int) {
	r.t.Helper()
	got := r.fleet.do(loadOrder{Do: "await", Want: r.size.room, Messages: messages, Within: patience})
	if len(got.Wrong) > 0 || got.Open != r.clients || got.Unreceived > 0 {
		r.t.Fatalf("section %d: %d of %d clients are connected, %d lack a message, and these do not have the count %d: %v",
			r.section, got.Open, r.clients, got.Unreceived, r.size.room, got.Wrong)
	}
	if got.Messages != messages*r.clients || got.First != messages-1 || got.Last != messages-1 {
		r.t.Fatalf("section %d: got %d messages at %d clients and the last numbers %d to %d, want %d and %d",
			r.section, got.Messages, r.clients, got.First, got.Last, messages*r.clients, messages-1)
	}
	r.step("section %d: %d messages at each of %d clients; they connected again %d times, stopped reading %d times, expired %d times, and were refused by a ban %d times",
		r.section, messages, r.clients, got.Retries, got.Stops, got.Expired, got.Banned)
	if got.Stops == 0 {
		r.t.Error("no client has stopped reading")
	}
}

// counted waits until the servers have so many connections.
func (r *soakRun) counted(want int) {
	r.t.Helper()
	got := 0.0
	if !poll(100*time.Millisecond, patience, func() bool {
		got = 0
		for _, s := range r.servers {
			got += r.scrape(s)["presence_connections"]
		}
		return got == float64(want)
	}) {
		r.t.Errorf("section %d: the servers have %v connections, want %d", r.section, got, want)
	}
}

func (r *soakRun) scrape(s *soakServer) samples {
	r.t.Helper()
	return scrape(r.t, r.scraper, "http://"+s.addr+"/metrics")
}

// load runs the load for d.
func (r *soakRun) load(d time.Duration) {
	r.t.Helper()
	for began := time.Now(); time.Since(began) < d; {
		r.round()
	}
}

// round changes clients for one round, and removes one.
func (r *soakRun) round() {
	r.t.Helper()
	r.fleet.do(loadOrder{Do: "soak", Addrs: *r.ready.Load(), Rate: r.size.changes, Time: r.size.round, Stops: r.size.stops, Pause: r.size.pause, Away: r.size.away})
	client := rand.IntN(r.clients)
	url := fmt.Sprintf("http://%s/members?room=room-%d&id=user-%d&for=1s", r.servers[0].addr, client%r.rooms, client)
	eventually(r.t, patience, "the user is removed", func() bool { return askAdmin(r.t, "DELETE", url, "", http.StatusNoContent, nil) == nil })
	r.sample()
}

// sample takes a sample of each server that is ready, if one is due.
func (r *soakRun) sample() {
	r.t.Helper()
	if time.Since(r.sampled) < r.size.sampling {
		return
	}
	r.sampled = time.Now()
	for _, s := range r.servers {
		if s.up {
			p := soak.Read(r.scrape(s), time.Now())
			p.Life, p.Section = s.life, r.section
			s.Samples = append(s.Samples, p)
		}
	}
}

// terminate restarts a node with SIGTERM under load.
func (r *soakRun) terminate(s *soakServer) {
	r.t.Helper()
	r.setUp(s, false)
	sendSignal(r.t, s.process, unix.SIGTERM)
	var err error
	var exiting sync.WaitGroup
	var exited atomic.Bool
	exiting.Go(func() { // ends with the process
		err = s.process.Wait()
		exited.Store(true)
	})
	for !exited.Load() {
		r.round()
	}
	if exiting.Wait(); err != nil {
		r.t.Errorf("%s: got %v at its exit, want status 0", s.Name, err)
	}
	r.step("%s has ended", s.Name)
	r.startServer(s)
}

// kill kills a node under load, and starts it again after the other nodes have noticed.
func (r *soakRun) kill(s *soakServer) {
	r.t.Helper()
	sendSignal(r.t, s.process, unix.SIGKILL)
	r.setUp(s, false)
	s.process.Wait()
	r.step("%s killed", s.Name)
	r.load(r.size.detected)
	r.startServer(s)
}
