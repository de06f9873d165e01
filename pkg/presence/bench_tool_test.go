//go:build linux

package presence_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// toolReport is the part of the report of presence load that the benchmark compares.
type toolReport struct {
	Connected     int
	Accepted      int64
	Deliveries    int64
	Bytes         int64
	JoinToCount   toolTimes `json:"join_to_count"`
	SendToReceipt toolTimes `json:"send_to_receipt"`
	Load, Server  toolUsage
}

type toolTimes struct {
	P50 float64 `json:"p50_ms"`
	P99 float64 `json:"p99_ms"`
}

type toolUsage struct {
	Ramp        float64 `json:"ramp_cpu_s"`
	Steady      float64 `json:"steady_cpu_s"`
	PerJoin     float64 `json:"cpu_per_join_us"`
	PerDelivery float64 `json:"cpu_per_delivery_us"`
	PerConn     float64 `json:"memory_per_connection_bytes"`
}

// BenchmarkLoadTool compares the figures of presence load with those of the load of these
// benchmarks, which shares no code with it. Both use a server of their own, one after the other,
// with the same clients and messages. It also compares the CPU of presence load with that of the
// server. Run it with
//
//	make bench BENCH=LoadTool
func BenchmarkLoadTool(b *testing.B) {
	tool := filepath.Join(b.TempDir(), "presence")
	build := exec.Command("go", "build", "-o", tool, "example.com/presence/cmd/presence")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		b.Fatal(err)
	}
	rows := []string{"clients\tfigure\tbenchmarks\tpresence load\tratio\tquartiles"}
	names := []string{
		"server CPU per join, µs", "join to count p50, ms", "join to count p99, ms",
		"server CPU per delivery, µs", "send to receipt p50, ms", "send to receipt p99, ms",
		"bytes per client", "server memory per client",
	}
	const pairs, deliveries, joins = 3, 60_000, 1500
	for _, clients := range []int{5000, 15000} {
		own, other := make([][]float64, len(names)), make([][]float64, len(names))
		var joining, busy []float64
		n, duration := scaled(clients), scaled(10*time.Second)
		rate := float64(deliveries / clients)
		for pair := range pairs {
			measure := func() {
				for i, value := range measureOwn(b, n, joins, rate, duration) {
					own[i] = append(own[i], value)
				}
			}
			if pair%2 == 0 {
				measure()
			}
			r := measureTool(b, tool, n, joins, rate, duration)
			for i, value := range []float64{
				r.Server.PerJoin, r.JoinToCount.P50, r.JoinToCount.P99,
				r.Server.PerDelivery, r.SendToReceipt.P50, r.SendToReceipt.P99,
				float64(r.Bytes) / float64(n), r.Server.PerConn,
			} {
				other[i] = append(other[i], value)
			}
			joining, busy = append(joining, r.Load.Ramp/r.Server.Ramp), append(busy, r.Load.Steady/r.Server.Steady)
			if pair%2 == 1 {
				measure()
			}
		}
		for i, name := range names {
			r := ratios(other[i], own[i])
			rows = append(rows, fmt.Sprintf("%d\t%s\t%.2f\t%.2f\t%.2f\t%s", n, name, median(own[i]), median(other[i]), median(r), quartiles(r)))
		}
		rows = append(rows, fmt.Sprintf("%d\tCPU of presence load to that of its server: joins\t\t\t%.2f\t%s", n, median(joining), quartiles(joining)),
			fmt.Sprintf("%d\tthe same: deliveries\t\t\t%.2f\t%s", n, median(busy), quartiles(busy)))
		b.ReportMetric(median(busy), fmt.Sprintf("load/server-%d", n))
	}
	printTable(b, fmt.Sprintf("presence load against the load of the benchmarks, %d joins per second, medians of %d alternating pairs", joins, pairs), rows)
}

// measureOwn returns the figures of the load of the benchmarks. Its tokens expire, as those of
// presence load do: a server then has a timer per client.
func measureOwn(b *testing.B, clients int, joins, rate float64, duration time.Duration) []float64 {
	b.Helper()
	s := startSide(b, "direct", clients, order{Rate: joins, InFlight: 256, Flight: counted, TTL: time.Hour})
	defer s.end()
	joined := s.ask(order{Do: "stat"})
	a := s.load.ask(order{Do: "post", Rate: rate, Time: duration, Senders: 1, Size: text})
	end := s.ask(order{Do: "stat"})
	ms := func(d time.Duration) float64 { return micros(d) / 1000 }
	return []float64{
		micros(joined.CPU-s.before.CPU) / float64(clients), ms(s.opened.P50), ms(s.opened.P99),
		micros(end.CPU-joined.CPU) / float64(a.Accepted*clients), ms(a.P50), ms(a.P99),
		float64(a.Bytes), float64(end.RSS-s.before.RSS) / float64(clients),
	}
}

// measureTool runs presence load.
func measureTool(b *testing.B, tool string, clients int, joins, rate float64, duration time.Duration) (r toolReport) {
	b.Helper()
	server := startProcess(b, "direct")
	defer server.end()
	server.ask(order{Do: "free"})
	load := exec.Command(tool, "load", "--json", "--url=http://"+server.addr, "--jwt-secret="+string(secret), "--senders=1",
		fmt.Sprint("--clients=", clients), fmt.Sprintf("--ramp=%.3fs", float64(clients)/joins), fmt.Sprint("--duration=", duration), fmt.Sprint("--rate=", rate), fmt.Sprint("--size=", text),
		fmt.Sprint("--pid=", server.command.Process.Pid))
	load.Env = []string{}
	out, err := load.Output()
	if err != nil {
		b.Fatalf("presence load: %v\n%s", err, out)
	}
	if err := json.Unmarshal(out, &r); err != nil {
		b.Fatal(err)
	}
	if want := int64(clients) * r.Accepted; r.Connected != clients || r.Deliveries != want || r.Accepted == 0 {
		b.Fatalf("presence load: got %d connected clients and %d deliveries, want %d and %d", r.Connected, r.Deliveries, clients, want)
	}
	return r
}
