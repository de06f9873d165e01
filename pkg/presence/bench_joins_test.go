//go:build linux

package presence_test

import (
	"cmp"
	"fmt"
	"testing"
	"time"
)

// joining is the number of clients that a join benchmark keeps in flight. A client is in flight
// from connect(2) until it receives its first user count.
const joining = 256

// BenchmarkJoins measures the time from before connect(2) until a client receives its first user
// count, in ms, and the server's CPU per join, in µs.
//
//   - 5000 and 15000: this many clients join as fast as the server allows, with 256 in flight. The
//     CPU per join covers the time until all clients have the final count. The baseline is bare. It
//     sends no count, so its clients are in flight until their sync. Targets for the ratio of
//     direct to bare: 2 for the mean, 4 for the p99; for CPU, 3.5 with 5,000 clients and 4 with
//     15,000.
//   - steady: 300 clients per second join a room of 15,000, and each leaves 2 s after it connected.
//     Targets: p50 20 ms, p99 300 ms.
//   - one-user: all clients belong to one user.
//
// bare responds faster than the one goroutine of the load can connect, so at most half of the 256
// clients are in flight and their times are short. "ms per 256 joins" corrects this: it is the mean
// time if 256 clients were always in flight. By Little's law, that is 256 times the time until all
// clients have their first count, divided by the number of clients.
//
// Run it with
//
//	make bench BENCH=Joins
func BenchmarkJoins(b *testing.B) {
	for _, clients := range []int{5000, 15000} {
		b.Run(fmt.Sprint(clients), func(b *testing.B) { benchJoins(b, scaled(clients)) })
	}
	b.Run("steady", benchSteady)
	b.Run("one-user", benchOneUser)
}

// join starts a server, connects the clients with 256 in flight, and stops both processes. It
// returns the answer of the load and the CPU time of the server.
func join(b *testing.B, role string, clients int, o order) (answer, time.Duration) {
	b.Helper()
	o.InFlight, o.Flight = joining, counted
	if role == "bare" {
		o.Flight, o.Until = synced, synced
	}
	s := startSide(b, role, clients, o)
	defer s.end()
	return s.opened, s.ask(order{Do: "stat"}).CPU - s.before.CPU
}

func benchJoins(b *testing.B, clients int) {
	const rounds = 5
	roles := []string{"bare", "direct"}
	columns := []string{"mean ms", "p50 ms", "p99 ms", "max ms", "ms per 256 joins", "µs CPU per join", "bytes per client"}
	measured := map[string][][]float64{"bare": make([][]float64, len(columns)), "direct": make([][]float64, len(columns))}
	for i := range rounds {
		for j := range roles {
			role := roles[(i+j)%2]
			a, cpu := join(b, role, clients, order{})
			for k, v := range []float64{millis(a.Mean), millis(a.P50), millis(a.P99), millis(a.Max), millis(a.Landed) * joining / float64(clients),
				micros(cpu) / float64(clients), float64(a.Bytes)} {
				measured[role][k] = append(measured[role][k], v)
			}
		}
	}
	rows := []string{"\tbare\tquartiles\tdirect\tquartiles\tdirect/bare\tquartiles"}
	for k, column := range columns {
		x, y := measured["bare"][k], measured["direct"][k]
		r := ratios(y, x)
		rows = append(rows, fmt.Sprintf("%s\t%.2f\t%s\t%.2f\t%s\t%.2f\t%s", column, median(x), quartiles(x), median(y), quartiles(y), median(r), quartiles(r)))
		switch column {
		case "ms per 256 joins":
			b.ReportMetric(median(r), "mean-direct/bare")
		case "p99 ms":
			b.ReportMetric(median(r), "p99-direct/bare")
		case "µs CPU per join":
			b.ReportMetric(median(r), "CPU-direct/bare")
		}
	}
	printTable(b, fmt.Sprintf("Joins: %d clients, %d in flight, medians of %d alternating pairs", clients, joining, rounds), rows)
}

// benchSteady measures the case steady. The visitors run in a separate process, because the process
// with the clients of the room reads 15,000 sockets for each count.
func benchSteady(b *testing.B) {
	const rate, stay = 300, 2 * time.Second
	s := startSide(b, "direct", scaled(15000), order{})
	defer s.end()
	while := scaled(20 * time.Second)
	visitors := startVisitors(b, s, order{Rate: rate, Time: while})
	defer visitors.end()
	before := s.ask(order{Do: "stat"}).CPU
	a := visitors.ask(order{Do: "visit", Rate: rate, Time: while, Stay: stay})
	cpu := s.ask(order{Do: "stat"}).CPU - before
	b.ReportMetric(millis(a.P50), "p50-ms")
	b.ReportMetric(millis(a.P99), "p99-ms")
	b.ReportMetric(cpu.Seconds()/a.Elapsed.Seconds(), "CPU-s/s")
	printTable(b, fmt.Sprintf("Joins: %d per second to a room of %d, each leaving after %v", rate, s.clients, stay), []string{
		"joins\tmean ms\tp50 ms\tp99 ms\tmax ms\tCPU s per s\tµs CPU per join",
		fmt.Sprintf("%d\t%.1f\t%.1f\t%.1f\t%.1f\t%.2f\t%.0f", a.Times, millis(a.Mean), millis(a.P50), millis(a.P99), millis(a.Max),
			cpu.Seconds()/a.Elapsed.Seconds(), micros(cpu)/float64(a.Times)),
	})
}

// startVisitors starts a load process with one user for each visit in o, in the rooms of o. A
// client is in flight until its first user count. The process connects from its own source address,
// because connect(2) takes milliseconds to find a free port on an address that has 15,000
// connections.
func startVisitors(b *testing.B, s *side, o order) *process {
	b.Helper()
	p := startProcess(b, "load")
	p.ask(order{Do: "open", Addr: s.addr, Spare: int(o.Rate * o.Time.Seconds()), From: cmp.Or(o.From, 100_000), Source: 2, Rooms: o.Rooms,
		InFlight: 10_000, Flight: counted, Until: counted})
	return p
}

func benchOneUser(b *testing.B) {
	rows := []string{"users\tmean ms\tp99 ms\tµs CPU per join\tbytes per client\twall s"}
	clients := scaled(5000)
	const rounds = 3
	mean, cpu := map[bool][]float64{}, map[bool][]float64{}
	p99, bytes, wall := map[bool][]float64{}, map[bool][]float64{}, map[bool][]float64{}
	for range rounds {
		for _, one := range []bool{false, true} {
			a, c := join(b, "direct", clients, order{OneUser: one})
			mean[one], cpu[one] = append(mean[one], millis(a.Mean)), append(cpu[one], micros(c)/float64(clients))
			p99[one], wall[one] = append(p99[one], millis(a.P99)), append(wall[one], a.Elapsed.Seconds())
			bytes[one] = append(bytes[one], float64(a.Bytes))
		}
	}
	for _, one := range []bool{false, true} {
		users := clients
		if one {
			users = 1
		}
		rows = append(rows, fmt.Sprintf("%d\t%.1f\t%.1f\t%.1f\t%.0f\t%.2f", users, median(mean[one]), median(p99[one]),
			median(cpu[one]), median(bytes[one]), median(wall[one])))
	}
	b.ReportMetric(median(ratios(cpu[true], cpu[false])), "CPU-one/each")
	b.ReportMetric(median(ratios(wall[true], wall[false])), "wall-one/each")
	printTable(b, fmt.Sprintf("Joins: %d clients, each its own user or all one user, %d in flight, medians of %d alternating pairs", clients, joining, rounds), rows)
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
