//go:build !race

package main

// This file contains the tests and benchmarks of one room with many clients on several nodes. Run
// the benchmarks from the root of the repository:
//
//	make bench BENCH=ClusterLarge   # 75,000 clients on five nodes, about five minutes
//	make bench BENCH=ClusterLate    # a new node in a room of 50,000 members, about two minutes
//	make bench BENCH=ClusterJoins   # the cost of a join for the other nodes, one minute
//
// They need 20,000 open files per process (ulimit -n), and run the server with the default
// settings.

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// One room has clients on five nodes. After the last join, each node lists the true number of
// clients within 2 s, and each client has it within 5 s. A node that starts later lists it within
// 2 s after its first client.
func TestClusterLarge(t *testing.T) {
	t.Parallel()
	heavy(t)
	clients := sized(100, 250, 2500)
	f, nats, nodes := testClusterLarge(t, clients, 4)
	testLateNode(t, f, nats, nodes, clients)
}

func BenchmarkClusterLarge(b *testing.B) {
	b.ReportMetric(0, "ns/op")
	testClusterLarge(b, sized(1000, 75_000, 75_000), 6)
}

func testClusterLarge(t testing.TB, clients, loaders int) (f *fleet, nats *natsProcess, n int) {
	nats = startNATS(t)
	nodes, addrs := startClusterNodes(t, 5, nats.url)
	f = startFleet(t, loaders)
	began := time.Now()
	joined := fill(t, f, addrs, clients)
	last := time.Unix(0, joined.Acted)
	t.Logf("%d joins in %.0f s", joined.Open, last.Sub(began).Seconds())
	listed := awaitRooms(t, nodes, []roomCount{{"room-0", clients, clients}}, last, 2*time.Second)
	counted := f.awaitCount(clients, last, 5*time.Second)
	t.Logf("%d clients on %d nodes: each node lists them after %.2f s, each client has the count after %.2f s", clients, len(nodes), listed.Seconds(), counted.Seconds())
	for _, n := range nodes {
		t.Logf("node %s: %.1f MB, freed %.1f MB", n.addr, float64(residentSet(t, n.process))/1e6, float64(n.free())/1e6)
	}
	return f, nats, len(nodes)
}

// A node that starts when the room has 50,000 members has the true count within 2 s after its first
// client.
func BenchmarkClusterLate(b *testing.B) {
	b.ReportMetric(0, "ns/op")
	clients := sized(1000, 50_000, 50_000)
	nats := startNATS(b)
	_, addrs := startClusterNodes(b, 3, nats.url)
	f := startFleet(b, 4)
	fill(b, f, addrs, clients)
	f.awaitCount(clients, time.Now(), patience)
	testLateNode(b, f, nats, len(addrs), clients)
}

// testLateNode starts node i in a cluster whose room has clients.
func testLateNode(t testing.TB, f *fleet, nats *natsProcess, i, clients int) {
	t.Helper()
	late := startClusterNode(t, i, nats.url)
	empty := late.free()
	first := startFleet(t, 1)
	opened := first.do(loadOrder{Do: "open", Addrs: []string{late.addr}, From: clients, Clients: 1})
	last := time.Unix(0, opened.Acted)
	counted := first.awaitCount(clients+1, last, 2*time.Second)
	listed := awaitRooms(t, []*clusterNode{late}, []roomCount{{"room-0", clients + 1, clients + 1}}, last, 2*time.Second)
	t.Logf("a new node with %d remote members: its first client has the count after %.2f s, the node lists it after %.2f s", clients, counted.Seconds(), listed.Seconds())
	full := late.free()
	t.Logf("a new node: %.1f MB before its first client, %.1f MB after, %d bytes per remote member", float64(empty)/1e6, float64(full)/1e6, (full-empty)/clients)
	f.awaitCount(clients+1, last, 5*time.Second)
}

// fill connects clients at a rate that leaves a quarter of the CPU of the machine, as long as the
// rate is at least the lowest one. It returns the report of the last batch.
func fill(t testing.TB, f *fleet, addrs []string, clients int) (joined loadReport) {
	t.Helper()
	// Joins per second. Two cores are busy with the counts for 75,000 clients at any rate: at 100
	// joins per second they were as busy as at 300, and the joins took 651 s.
	const lowest = 300
	rate := 1000.0
	busy := machineCPU(t)
	for from := 0; from < clients; {
		n := min(int(rate), clients-from)
		joined = f.do(loadOrder{Do: "open", Addrs: addrs, From: from, Clients: n, Rate: rate})
		from += n
		used := machineCPU(t)
		share := used.since(busy)
		if from == clients {
			t.Logf("the last joins came at %.0f per second, and the machine used %.0f %% of its CPU", rate, 100*share)
		}
		if share > 0.75 {
			rate = max(lowest, rate*0.75)
		} else {
			rate *= 1.2
		}
		busy = used
	}
	return joined
}

// machineTimes are the CPU times of the machine since its start, in ticks.
type machineTimes struct{ all, idle int }

func machineCPU(t testing.TB) (times machineTimes) {
	t.Helper()
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(stat), "\n")
	var field [8]int // user nice system idle iowait irq softirq steal
	if _, err := fmt.Sscan(strings.TrimPrefix(line, "cpu"), &field[0], &field[1], &field[2], &field[3], &field[4], &field[5], &field[6], &field[7]); err != nil {
		t.Fatal(err)
	}
	for _, n := range field {
		times.all += n
	}
	times.idle = field[3] + field[4]
	return times
}

// since returns the share of the CPU that was busy since an earlier time.
func (m machineTimes) since(earlier machineTimes) float64 {
	return 1 - float64(m.idle-earlier.idle)/float64(max(1, m.all-earlier.all))
}

// BenchmarkClusterJoins measures the cost of joins in one room: for the node that has the clients,
// with and without NATS, for a node with one client in the room, for a node without one, and for
// NATS.
func BenchmarkClusterJoins(b *testing.B) {
	b.ReportMetric(0, "ns/op")
	clients := sized(1000, 15_000, 15_000)
	const rate = 1000
	f := startFleet(b, 1)
	alone := &clusterNode{t: b}
	alone.process, alone.log, alone.addr = serveProcess(b, "--listen=127.0.1.1:0")
	single := alone.measureJoins(f, clients, rate)
	alone.process.Process.Kill()

	nats := startNATS(b)
	nodes, addrs := startClusterNodes(b, 3, nats.url)
	f = startFleet(b, 1)
	watching := startFleet(b, 1)
	watching.do(loadOrder{Do: "open", Addrs: addrs[1:2], From: clients, Clients: 1})
	remote, idle := nodes[1], nodes[2]
	empty, emptyIdle := remote.free(), idle.free()
	const calm = 10 * time.Second
	before := nats.usage(b, nodes)
	wait(b, calm)
	background := nats.usage(b, nodes).minus(before)
	before = nats.usage(b, nodes)
	began := time.Now()
	own := nodes[0].measureJoins(f, clients, rate)
	took := time.Since(began)
	used := nats.usage(b, nodes).minus(before).minus(background.times(took.Seconds() / calm.Seconds()))
	watching.awaitCount(clients+1, time.Now(), time.Second)

	n := float64(clients)
	rows := []string{
		"process\tµs CPU per join\tbytes of memory per client\tidle µs CPU per s",
		fmt.Sprintf("the only node, without NATS\t%.1f\t%d\t", single.cpu, single.memory),
		fmt.Sprintf("node of the clients\t%.1f\t%d\t%.0f", own.cpu, own.memory, background.cpu[0]/calm.Seconds()),
		fmt.Sprintf("node with one client\t%.1f\t%d\t%.0f", used.cpu[1]/n, (remote.free()-empty)/clients, background.cpu[1]/calm.Seconds()),
		fmt.Sprintf("node without a client\t%.1f\t%d\t%.0f", used.cpu[2]/n, (idle.free()-emptyIdle)/clients, background.cpu[2]/calm.Seconds()),
		fmt.Sprintf("NATS server\t%.1f\t\t%.0f", used.nats/n, background.nats/calm.Seconds()),
	}
	fmt.Printf("\n\nOne room, %d joins at %.0f per second on one of three nodes: NATS received %.2f messages and %.0f bytes per join, and sent %.2f and %.0f\n\n",
		clients, n/took.Seconds(), used.inMessages/n, used.inBytes/n, used.outMessages/n, used.outBytes/n)
	printTable(rows)
}

func printTable(rows []string) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "  "+strings.Join(rows, "\t\n  ")+"\t")
	w.Flush()
	fmt.Println()
}

// joinCost is the cost of joins for the node of the clients.
type joinCost struct {
	cpu    float64 // µs per join
	memory int     // bytes per client
}

// measureJoins connects clients to the node, and waits until each has the count.
func (n *clusterNode) measureJoins(f *fleet, clients int, rate float64) (c joinCost) {
	n.t.Helper()
	empty, before := n.free(), cpuTime(n.t, n.process)
	f.do(loadOrder{Do: "open", Addrs: []string{n.addr}, Clients: clients, Rate: rate})
	wait(n.t, time.Second)
	c.cpu = float64(cpuTime(n.t, n.process)-before) / 1e3 / float64(clients)
	c.memory = (n.free() - empty) / clients
	return c
}

// clusterUsage is the use of resources of several nodes and their NATS server.
type clusterUsage struct {
	cpu                                        []float64 // µs, by node
	nats                                       float64   // µs of CPU
	inMessages, outMessages, inBytes, outBytes float64
}

func (p *natsProcess) usage(t testing.TB, nodes []*clusterNode) (u clusterUsage) {
	t.Helper()
	var v server.Varz
	p.get(t, "/varz", &v)
	u = clusterUsage{nats: float64(cpuTime(t, p.process)) / 1e3, inMessages: float64(v.InMsgs), outMessages: float64(v.OutMsgs),
		inBytes: float64(v.InBytes), outBytes: float64(v.OutBytes)}
	for _, n := range nodes {
		u.cpu = append(u.cpu, float64(cpuTime(t, n.process))/1e3)
	}
	return u
}

func (u clusterUsage) minus(v clusterUsage) clusterUsage { return u.plus(v, -1) }

func (u clusterUsage) times(factor float64) clusterUsage {
	return clusterUsage{cpu: make([]float64, len(u.cpu))}.plus(u, factor)
}

// plus returns u + factor * v.
func (u clusterUsage) plus(v clusterUsage, factor float64) clusterUsage {
	u.cpu = slices.Clone(u.cpu)
	for i := range u.cpu {
		u.cpu[i] += factor * v.cpu[i]
	}
	u.nats += factor * v.nats
	u.inMessages += factor * v.inMessages
	u.outMessages += factor * v.outMessages
	u.inBytes += factor * v.inBytes
	u.outBytes += factor * v.outBytes
	return u
}

// get reads a page of the monitoring endpoint.
func (p *natsProcess) get(t testing.TB, path string, page any) {
	t.Helper()
	resp, err := http.Get(p.monitoring + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(page); err != nil {
		t.Fatal(err)
	}
}
