//go:build linux

package presence_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// BenchmarkUring compares the sends with io_uring (direct) with those of write(2) (write).
//
//   - reading, unread: the CPU per delivery, as the ratio to bare, one message at a time, with 5,000
//     and 15,000 clients on loopback. With reading, all clients read. With unread, no client reads
//     or waits before the measurement ends.
//   - veth: the CPU per delivery to 5,000 clients in another network namespace, which all read. It
//     needs root, and the program ip.
//   - latency: the p99 from the POST to each of 15,000 clients, as the ratio of direct to write, at
//     two messages per second.
//
// It fails on a system that refuses io_uring. Run it with
//
//	make bench BENCH=Uring
func BenchmarkUring(b *testing.B) {
	var rows []string
	for _, clients := range []int{5000, 15000} {
		sides := map[string]*side{}
		for _, role := range []string{"bare", "write", "direct"} {
			sides[role] = startSide(b, role, scaled(clients), order{})
			sides[role].deliver(1)
		}
		if !sides["direct"].ask(order{Do: "stat"}).IOUring || sides["write"].ask(order{Do: "stat"}).IOUring {
			b.Fatal("io_uring: want it in use by direct, and not by write")
		}
		rows = append(rows, uringCPU(b, sides, "reading", (*side).deliver)...)
		rows = append(rows, uringCPU(b, sides, "unread", (*side).deliverUnread)...)
		if clients == 15000 {
			uringLatency(b, sides["direct"], sides["write"])
		}
		for _, s := range sides {
			s.end()
		}
	}
	rows = append(rows, uringNamespace(b)...)
	head := []string{"clients\treceivers\tserver\tbare µs\tserver µs\tto bare\tquartiles"}
	printTable(b, "io_uring: CPU per delivery, one message at a time, medians of 9 interleaved pairs", append(head, rows...))
}

// uringNamespace measures with clients in another network namespace, over a pair of virtual
// Ethernet devices.
func uringNamespace(b *testing.B) []string {
	b.Helper()
	if os.Getuid() != 0 {
		return []string{"5000\tveth\tneeds root"}
	}
	name := fmt.Sprint("presence", os.Getpid())
	run := func(line string) {
		b.Helper()
		if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
			b.Fatalf("ip %s: %v: %s", line, err, out)
		}
	}
	run("netns add " + name)
	b.Cleanup(func() { run("netns del " + name) }) // with both devices, when the load has ended
	run("link add pb0 type veth peer name pb1 netns " + name)
	run("addr add 10.203.17.1/30 dev pb0")
	run("link set pb0 up")
	run("-n " + name + " addr add 10.203.17.2/30 dev pb1")
	run("-n " + name + " link set pb1 up")
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	sides := map[string]*side{}
	for _, role := range []string{"bare", "write", "direct"} {
		server := exec.Command(self)
		server.Env = []string{"PRESENCE_BENCH_LISTEN=10.203.17.1:0"}
		load := startCommand(b, "load", exec.Command("ip", "netns", "exec", name, self))
		sides[role] = &side{process: startCommand(b, role, server), load: load, clients: scaled(5000)}
		sides[role].connect(order{})
		sides[role].deliver(1)
	}
	rows := uringCPU(b, sides, "veth", (*side).deliver)
	for _, s := range sides {
		s.end()
	}
	return rows
}

const uringPairs = 9

// uringCPU measures in the order A B B A, as BenchmarkRatio does, and returns the rows of a table.
func uringCPU(b *testing.B, sides map[string]*side, receivers string, deliver func(*side, int) float64) (rows []string) {
	b.Helper()
	bare := sides["bare"]
	for _, role := range []string{"direct", "write"} {
		var x, y []float64
		for i := range uringPairs + 1 {
			first, second := sides[role], bare
			if i%2 == 0 {
				first, second = second, first
			}
			cost := map[*side]float64{}
			for _, s := range []*side{first, second, second, first} {
				cost[s] += deliver(s, scaled(60_000)) / 2
			}
			if i > 0 { // the first pair is a warm-up
				x, y = append(x, cost[sides[role]]), append(y, cost[bare])
			}
		}
		r := ratios(x, y)
		rows = append(rows, fmt.Sprintf("%d\t%s\t%s\t%.2f\t%.2f\t%.2f\t%s", bare.clients, receivers, role, median(y), median(x), median(r), quartiles(r)))
		b.ReportMetric(median(r), fmt.Sprintf("%s/bare-%s-%d", role, receivers, bare.clients))
	}
	return rows
}

// uringLatency prints the p99 of the delivery with both servers.
func uringLatency(b *testing.B, direct, write *side) {
	b.Helper()
	p99 := map[*side][]float64{}
	for i := range uringPairs + 1 {
		pair := []*side{direct, write}
		for j := range pair {
			s := pair[(i+j)%2]
			a := s.load.ask(order{Do: "post", Rate: 2, Time: 3 * time.Second, Senders: 1, Size: text})
			if i > 0 { // the first pair is a warm-up
				p99[s] = append(p99[s], millis(a.P99))
			}
		}
	}
	r := ratios(p99[direct], p99[write])
	b.ReportMetric(median(r), "p99-direct/write")
	printTable(b, fmt.Sprintf("io_uring: p99 from the POST to each of %d clients, two messages per second", direct.clients), []string{
		"write ms\tdirect ms\tdirect/write\tquartiles",
		fmt.Sprintf("%.1f\t%.1f\t%.2f\t%s", median(p99[write]), median(p99[direct]), median(r), quartiles(r))})
}

// deliverUnread is like deliver, but no client reads before the CPU was measured.
func (s *side) deliverUnread(deliveries int) float64 {
	s.b.Helper()
	messages := max(1, deliveries/s.clients)
	before := s.ask(order{Do: "stat"}).CPU
	s.load.ask(order{Do: "unread", Messages: messages, Size: text})
	cpu := s.ask(order{Do: "stat"}).CPU - before
	s.load.ask(order{Do: "drain"})
	return micros(cpu) / float64(messages*s.clients)
}
