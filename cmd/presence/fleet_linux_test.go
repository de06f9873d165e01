package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"example.com/presence/pkg/presence/auth"
)

// fleet holds load processes, which have many streams open. See loader.
type fleet struct {
	t         testing.TB
	processes []*loadProcess
}

// loadProcess is a process that runs a loader.
type loadProcess struct {
	process *exec.Cmd
	orders  *json.Encoder
	reports *json.Decoder
}

// startFleet starts n load processes, which end with the test.
func startFleet(t testing.TB, n int) *fleet {
	t.Helper()
	f := &fleet{t: t}
	for range n {
		p := &loadProcess{process: exec.Command(executable(t))}
		p.process.Env = []string{asLoader + "=1"}
		p.process.Stderr = os.Stderr
		in, err := p.process.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := p.process.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		p.orders, p.reports = json.NewEncoder(in), json.NewDecoder(out)
		if err := p.process.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { in.Close(); p.process.Process.Kill(); p.process.Wait() })
		f.processes = append(f.processes, p)
	}
	return f
}

func executable(t testing.TB) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return self
}

func (p *loadProcess) do(o loadOrder) (r loadReport, err error) {
	if err = p.orders.Encode(o); err == nil {
		err = p.reports.Decode(&r)
	}
	return r, err
}

// do sends an order to all load processes at the same time. Each gets its share of the clients and
// of the rate. It returns the sum of the reports.
func (f *fleet) do(o loadOrder) (sum loadReport) {
	f.t.Helper()
	reports, errs := make([]loadReport, len(f.processes)), make([]error, len(f.processes))
	var running sync.WaitGroup
	for i, p := range f.processes {
		running.Go(func() { reports[i], errs[i] = p.do(f.share(o, i)) })
	}
	running.Wait()
	sum.Wrong, sum.First = map[string]int{}, -1
	for i, r := range reports {
		if errs[i] != nil {
			f.t.Fatalf("load process %d, order %q: %v", i, o.Do, errs[i])
		}
		sum.add(r)
	}
	if len(sum.Faults) > 0 {
		f.t.Fatalf("order %q: %s", o.Do, strings.Join(sum.Faults, "\n"))
	}
	return sum
}

// share returns the share of process i of an order. No two processes have the same user.
func (f *fleet) share(o loadOrder, i int) loadOrder {
	n := len(f.processes)
	from, to := o.Clients*i/n, o.Clients*(i+1)/n
	o.From, o.Clients = o.From+from, to-from
	o.FirstUser, o.Users = o.Users*i/n, o.Users*(i+1)/n-o.Users*i/n
	o.Rate /= float64(n)
	o.Seed = o.Seed*100 + uint64(i)
	return o
}

// add adds the report of another process.
func (r *loadReport) add(other loadReport) {
	r.Faults = append(r.Faults, other.Faults...)
	r.Open += other.Open
	r.Users += other.Users
	r.Landed += other.Landed
	r.Acted, r.Changed = max(r.Acted, other.Acted), max(r.Changed, other.Changed)
	for what, n := range other.Wrong {
		r.Wrong[what] += n
	}
	r.Messages += other.Messages
	r.Unreceived += other.Unreceived
	if r.Last = max(r.Last, other.Last); r.First < 0 || other.First < r.First {
		r.First = other.First
	}
	r.Joins += other.Joins
	r.Leaves += other.Leaves
	r.Resets += other.Resets
	r.Retries += other.Retries
	r.Stops += other.Stops
	r.Stopped += other.Stopped
	r.Expired += other.Expired
	r.Banned += other.Banned
	r.Lost += other.Lost
	r.Full += other.Full
	if r.Goodbye == 0 || 0 < other.Goodbye && other.Goodbye < r.Goodbye {
		r.Goodbye = other.Goodbye
	}
}

// awaitCount waits until all clients have the user count want. It fails if that takes longer than
// within after since. It returns the time from since to the last change of a count.
func (f *fleet) awaitCount(want int, since time.Time, within time.Duration) time.Duration {
	f.t.Helper()
	r := f.do(loadOrder{Do: "await", Want: want, Within: patience})
	took := max(0, time.Unix(0, r.Changed).Sub(since))
	if len(r.Wrong) > 0 {
		f.t.Fatalf("user count %d: not at all %d clients after %v: %v", want, r.Open, patience, r.Wrong)
	}
	if took > within {
		f.t.Errorf("user count %d: at the last of %d clients after %v, want at most %v", want, r.Open, took, within)
	}
	return took
}

// clusterNode is a presence process that is connected to NATS.
type clusterNode struct {
	t       testing.TB
	process *exec.Cmd
	log     *lines
	addr    string
}

// startClusterNode starts node i, which listens on 127.0.1.(i+1), so that each node has the ports
// of an own address.
func startClusterNode(t testing.TB, i int, nats string, args ...string) *clusterNode {
	t.Helper()
	n := &clusterNode{t: t}
	n.process, n.log, n.addr = serveProcess(t, append([]string{"--nats=" + nats, "--nats-replicas=1",
		"--listen=127.0.1." + strconv.Itoa(i+1) + ":0", "--message-rate=0", "--cost-rate=0", "--history-rate=0"}, args...)...)
	n.awaitReady()
	return n
}

func startClusterNodes(t testing.TB, n int, nats string, args ...string) (nodes []*clusterNode, addrs []string) {
	t.Helper()
	for i := range n {
		nodes = append(nodes, startClusterNode(t, i, nats, args...))
		addrs = append(addrs, nodes[i].addr)
	}
	return nodes, addrs
}

func (n *clusterNode) awaitReady() {
	n.t.Helper()
	if !poll(10*time.Millisecond, patience, func() bool { return n.status("/readyz") == http.StatusOK }) {
		n.t.Fatalf("node %s: not ready:\n%s", n.addr, n.log)
	}
}

// status returns the status of a GET request without a token, or 0 if the request fails.
func (n *clusterNode) status(path string) int {
	resp, err := http.Get("http://" + n.addr + path)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

// ask sends a request of an admin and decodes the response into v, unless it is nil.
func (n *clusterNode) ask(method, path, body string, want int, v any) {
	n.t.Helper()
	if err := askAdmin(n.t, method, "http://"+n.addr+path, body, want, v); err != nil {
		n.t.Fatal(err)
	}
}

func askAdmin(t testing.TB, method, url, body string, want int, v any) error {
	t.Helper()
	token, err := auth.Mint([]byte(secret), auth.Claims{Sub: "admin", Admin: true, Join: []string{"*"}, Send: []string{"*"}})
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != want {
		return fmt.Errorf("%s %s: got %s %s, want %d", method, url, resp.Status, got, want)
	}
	if v == nil {
		return nil
	}
	return json.Unmarshal(got, v)
}

// roomCount is an element of the response to GET /rooms.
type roomCount struct {
	Room               string
	Connections, Users int
}

// rooms returns the response to GET /rooms, up to limit rooms.
func (n *clusterNode) rooms(limit int) []roomCount {
	n.t.Helper()
	var page struct{ Rooms []roomCount }
	n.ask("GET", fmt.Sprintf("/rooms?limit=%d", limit), "", http.StatusOK, &page)
	return page.Rooms
}

// awaitRooms waits until each node lists the rooms want. It fails if that takes longer than within
// after since. It returns the time from since until the last node has answered.
func awaitRooms(t testing.TB, nodes []*clusterNode, want []roomCount, since time.Time, within time.Duration) time.Duration {
	t.Helper()
	for _, n := range nodes {
		var got []roomCount
		if !poll(5*time.Millisecond, patience, func() bool { got = n.rooms(1000); return slices.Equal(got, want) }) {
			t.Fatalf("GET /rooms of node %s: got %v, want %v", n.addr, got, want)
		}
	}
	took := time.Since(since)
	if took > within {
		t.Errorf("GET /rooms of %d nodes: %v after %v, want at most %v", len(nodes), want, took, within)
	}
	return took
}

// cpuTime returns the CPU time of a process, user and system.
func cpuTime(t testing.TB, process *exec.Cmd) time.Duration {
	t.Helper()
	var clock unix.Timespec // CPU clock of the process: clock_getcpuclockid(3)
	if err := unix.ClockGettime(int32(^process.Process.Pid<<3|2), &clock); err != nil {
		t.Fatal(err)
	}
	return time.Duration(clock.Nano())
}

// residentSet returns the resident set of a process in bytes.
func residentSet(t testing.TB, process *exec.Cmd) int {
	t.Helper()
	statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", process.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	var size, rss int
	if _, err := fmt.Sscan(string(statm), &size, &rss); err != nil {
		t.Fatal(err)
	}
	return rss * os.Getpagesize()
}

// free makes the node return its free memory to the system, and returns its resident set.
func (n *clusterNode) free() int {
	n.t.Helper()
	if err := n.process.Process.Signal(unix.SIGUSR1); err != nil {
		n.t.Fatal(err)
	}
	n.log.find(n.t, freedLine)
	return residentSet(n.t, n.process)
}
