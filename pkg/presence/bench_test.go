//go:build linux

package presence_test

// The benchmarks in this package measure the whole server, with real processes and real sockets on
// one machine. Run them from the root of the repository:
//
//	make bench                                    # all; a quarter of an hour
//	make bench BENCH=Storm                        # one
//	make bench BENCH='Delivery/5000' ARGS=-short  # a tenth of the clients and time, as a check
//	PRESENCE_BENCH_CHURN=5m make bench BENCH=Churn
//
// Each benchmark needs 20,000 open files per process (ulimit -n) and prints a table at its end. Its
// ns/op has no meaning.
//
// A benchmark consists of three processes: the server, the load with all clients
// (bench_load_test.go), and this process, which sends orders to both. newBenchServer lists the
// servers. bare is the baseline: a loop of write(2) over all sockets. direct and goroutine are the
// two ways in which this package writes to a socket.
//
// How to read the tables:
//
//   - CPU is the CPU time of the server, user and system, by getrusage(2). A delivery is one
//     message to one client. The CPU time includes the kernel's work in write(2). On the loopback
//     interface, this work extends to the receiver's socket.
//   - Values that are compared were measured alternately in one run, because a busy machine slows
//     all of them. A ratio is the median of the ratios of neighboring measurements.
//   - The server and the load share the cores, so wall times and latencies include the work of the
//     load. CPU does not.
//   - Memory is the resident set (/proc/self/statm). It excludes the kernel's memory for a socket.

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"testing"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"
)

// text is the default length of a message's text, in bytes. The event then has some 230 bytes.
const text = 100

// process is a child process of a benchmark or test. It ends with the test.
type process struct {
	b       testing.TB
	role    string
	addr    string // listening address of a server
	in      *json.Encoder
	stdin   io.Closer
	out     *json.Decoder
	command *exec.Cmd
	ended   bool
}

func startProcess(b testing.TB, role string) *process {
	b.Helper()
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	return startCommand(b, role, exec.Command(self))
}

// startCommand starts this program by a command that may set more variables.
func startCommand(b testing.TB, role string, command *exec.Cmd) *process {
	b.Helper()
	command.Env = append(append(os.Environ(), command.Env...), "PRESENCE_BENCH_ROLE="+role)
	command.Stderr = os.Stderr
	stdin, err := command.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := command.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := command.Start(); err != nil {
		b.Fatal(err)
	}
	p := &process{b: b, role: role, in: json.NewEncoder(stdin), stdin: stdin, out: json.NewDecoder(stdout), command: command}
	b.Cleanup(p.end)
	p.addr = p.answer().Addr
	return p
}

func (p *process) end() {
	if !p.ended {
		p.ended = true
		p.resume()
		p.stdin.Close()
		p.command.Wait()
	}
}

func (p *process) ask(o order) answer {
	p.b.Helper()
	p.send(o)
	return p.answer()
}

// send sends an order without waiting for the answer, so that several processes work at the same
// time.
func (p *process) send(o order) {
	p.b.Helper()
	if err := p.in.Encode(o); err != nil {
		p.b.Fatalf("%s: %v", p.role, err)
	}
}

func (p *process) answer() (a answer) {
	p.b.Helper()
	if err := p.out.Decode(&a); err != nil {
		p.b.Fatalf("%s: %v", p.role, err)
	}
	if a.Error != "" {
		p.b.Fatalf("%s: %s", p.role, a.Error)
	}
	return a
}

// pause stops the process until resume, so that it uses no CPU.
func (p *process) pause()  { p.command.Process.Signal(unix.SIGSTOP) }
func (p *process) resume() { p.command.Process.Signal(unix.SIGCONT) }

// side is a server and the load process that is connected to it.
type side struct {
	*process
	load    *process
	clients int
	before  answer // census of the server before the first client
	opened  answer // answer of the load to the order open
}

// startSide starts a server and connects clients with the settings of the order. If the server
// sends counts, startSide returns when each client has the final count.
func startSide(b *testing.B, role string, clients int, o order) *side {
	b.Helper()
	s := &side{process: startProcess(b, role), load: startProcess(b, "load"), clients: clients}
	s.connect(o)
	return s
}

// connect connects the clients of the side.
func (s *side) connect(o order) {
	s.b.Helper()
	s.ask(order{Do: "free"})
	s.before = s.ask(order{Do: "census"})
	o.Do, o.Addr, o.Clients = "open", s.addr, s.clients
	if o.Until == "" {
		o.Until = map[string]stage{"silent": synced, "bare": answered, "r3labs": answered}[s.role]
	}
	o.Until = cmp.Or(o.Until, counted)
	s.opened = s.load.ask(o)
}

// end stops the load first, so that the closed sockets that the kernel keeps for a minute
// (TIME_WAIT) belong to the load, not to the server.
func (s *side) end() {
	s.load.end()
	s.process.end()
}

// perConn returns the growth of the server's memory since it had no clients, in bytes per client.
func (s *side) perConn() int { return (s.ask(order{Do: "stat"}).RSS - s.before.RSS) / s.clients }

// idle is like perConn, but first collects garbage and returns free memory to the system.
func (s *side) idle() int {
	s.ask(order{Do: "free"})
	return s.perConn()
}

// deliver posts messages, one at a time, until the given number of deliveries is reached. It
// returns the server's CPU per delivery, in µs.
func (s *side) deliver(deliveries int) float64 {
	s.b.Helper()
	messages := max(1, deliveries/s.clients)
	before := s.ask(order{Do: "stat"}).CPU
	s.load.ask(order{Do: "serial", Messages: messages, Size: text})
	return micros(s.ask(order{Do: "stat"}).CPU-before) / float64(messages*s.clients)
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// scaled returns n, or a tenth of it with -short.
func scaled[T int | time.Duration](n T) T {
	if testing.Short() {
		return n / 10
	}
	return n
}

// quantile returns the q-quantile of the values, with linear interpolation.
func quantile(q float64, of []float64) float64 {
	sorted := slices.Sorted(slices.Values(of))
	at := q * float64(len(sorted)-1)
	i := int(at)
	if i+1 == len(sorted) {
		return sorted[i]
	}
	return sorted[i] + (at-float64(i))*(sorted[i+1]-sorted[i])
}

func median(of []float64) float64 { return quantile(0.5, of) }

func quartiles(of []float64) string {
	return fmt.Sprintf("%.2f–%.2f", quantile(0.25, of), quantile(0.75, of))
}

// ratios returns the quotients of the values with the same index.
func ratios(of, by []float64) (r []float64) {
	for i := range of {
		r = append(r, of[i]/by[i])
	}
	return r
}

// printTable prints a table in the format of docs/performance.md. Tabs separate the cells, and the
// first row is the header. It does not use b.Log, which keeps only ten lines.
func printTable(b *testing.B, title string, rows []string) {
	b.ReportMetric(0, "ns/op")
	fmt.Printf("\n\n%s\n\n", title)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', tabwriter.AlignRight)
	for _, row := range rows {
		fmt.Fprintln(w, "  "+row+"\t")
	}
	w.Flush()
	fmt.Println()
}

// BenchmarkDelivery measures the server's CPU per delivery, in µs, and its memory per connection,
// in bytes. It posts one message at a time, and the next message when every client has received it.
// Run it with
//
//	make bench BENCH=Delivery
func BenchmarkDelivery(b *testing.B) {
	for _, clients := range []int{1000, 5000, 15000} {
		b.Run(fmt.Sprint(clients), func(b *testing.B) {
			roles := []string{"bare", "direct", "goroutine", "r3labs"}
			const samples = 7
			sides, cpu := make([]*side, len(roles)), make([][]float64, len(roles))
			fresh, idle := make([]int, len(roles)), make([]int, len(roles))
			for i, role := range roles {
				sides[i] = startSide(b, role, scaled(clients), order{})
				fresh[i] = sides[i].perConn()
				idle[i] = sides[i].idle()
				sides[i].deliver(1) // warm up, because the first message allocates memory
			}
			for range samples {
				for i, s := range sides {
					cpu[i] = append(cpu[i], s.deliver(scaled(150_000)))
				}
			}
			rows := []string{"server\tclients\tµs CPU per delivery\tquartiles\tbytes per connection: connected\tidle, freed\tbusy"}
			for i, s := range sides {
				rows = append(rows, fmt.Sprintf("%s\t%d\t%.2f\t%s\t%d\t%d\t%+d", s.role, s.clients,
					median(cpu[i]), quartiles(cpu[i]), fresh[i], idle[i], s.perConn()-idle[i]))
				b.ReportMetric(median(cpu[i]), s.role+"-µs/delivery")
				b.ReportMetric(float64(idle[i]), s.role+"-B/conn")
				s.end()
			}
			printTable(b, fmt.Sprintf("Delivery, one message at a time, medians of %d", samples), rows)
		})
	}
}

// BenchmarkRatio compares the server's CPU per delivery, in µs, between direct and the baseline,
// bare. Run it with
//
//	make bench BENCH=Ratio
func BenchmarkRatio(b *testing.B) {
	rows := []string{"clients\tbare µs\tdirect µs\tdirect/bare\tquartiles"}
	const pairs = 11
	for _, clients := range []int{5000, 15000} {
		bare := startSide(b, "bare", scaled(clients), order{})
		direct := startSide(b, "direct", scaled(clients), order{})
		var x, y []float64
		for i := range pairs + 1 {
			// Measure in the order A B B A, because the first and the second server of a pair find
			// the caches and the scheduler in different states.
			first, second := direct, bare
			if i%2 == 0 {
				first, second = bare, direct
			}
			cost := map[*side]float64{}
			for _, s := range []*side{first, second, second, first} {
				cost[s] += s.deliver(scaled(150_000)) / 2
			}
			of, by := cost[direct], cost[bare]
			if i > 0 { // the first pair is a warm-up
				x, y = append(x, of), append(y, by)
			}
		}
		r := ratios(x, y)
		rows = append(rows, fmt.Sprintf("%d\t%.2f\t%.2f\t%.2f\t%s", bare.clients, median(y), median(x), median(r), quartiles(r)))
		b.ReportMetric(median(r), fmt.Sprintf("direct/bare-%d", clients))
		bare.end()
		direct.end()
	}
	printTable(b, fmt.Sprintf("Delivery against the baseline: CPU per delivery, one message at a time, %d alternating pairs", pairs), rows)
}

// BenchmarkSaturated measures messages per second and the CPU per delivery in µs at saturation. It
// doubles the rate of posts until the server accepts less than 90 % of it. Run it with
//
//	make bench BENCH=Saturated
func BenchmarkSaturated(b *testing.B) {
	rows := []string{"server\tposts/s offered\taccepted/s\t503\tdeliveries/s\tCPU %\tµs per delivery\tto bare, one at a time"}
	bare := startSide(b, "bare", scaled(1000), order{})
	bare.deliver(1)
	for _, role := range []string{"direct", "write", "goroutine", "r3labs"} {
		s := startSide(b, role, scaled(1000), order{})
		best := 0.0
		for rate := 1000.0; ; rate *= 2 {
			baseline := []float64{bare.deliver(scaled(100_000))}
			before := s.ask(order{Do: "stat"}).CPU
			a := s.load.ask(order{Do: "post", Rate: rate, Time: scaled(4 * time.Second), Senders: 64, Size: text})
			cpu := s.ask(order{Do: "stat"}).CPU - before
			baseline = append(baseline, bare.deliver(scaled(100_000)))
			accepted, each := float64(a.Accepted)/a.Elapsed.Seconds(), micros(cpu)/float64(a.Accepted*s.clients)
			best = max(best, accepted)
			rows = append(rows, fmt.Sprintf("%s\t%.0f\t%.0f\t%d\t%.0f\t%.0f\t%.2f\t%.2f", role, rate, accepted, a.Rejected,
				accepted*float64(s.clients), 100*cpu.Seconds()/a.Elapsed.Seconds(), each, each/median(baseline)))
			if accepted < 0.9*rate {
				b.ReportMetric(each/median(baseline), role+"/bare")
				break
			}
		}
		b.ReportMetric(best, role+"-messages/s")
		s.end()
	}
	printTable(b, fmt.Sprintf("Saturated: %d clients, 64 senders, the rate doubled until the server is saturated", bare.clients), rows)
}

// BenchmarkMemory measures the memory of the server, in bytes per connection, with a room of 15,000
// users. Run it with
//
//	make bench BENCH=Memory
func BenchmarkMemory(b *testing.B) {
	rows := []string{"server\tclients\tbytes per connection: connected\t30 s later\tidle, freed\tbusy"}
	var sides []*side
	for _, role := range []string{"direct", "goroutine", "bare"} {
		sides = append(sides, startSide(b, role, scaled(15000), order{}))
	}
	columns := make([][]int, len(sides))
	look := func(at func(*side) int) {
		for i, s := range sides {
			columns[i] = append(columns[i], at(s))
		}
	}
	look((*side).perConn)
	time.Sleep(scaled(30 * time.Second)) // part of the measurement: half a minute without requests
	look((*side).perConn)
	look((*side).idle)
	for i, s := range sides {
		s.deliver(20 * s.clients)
		idle := columns[i][2]
		rows = append(rows, fmt.Sprintf("%s\t%d\t%d\t%d\t%d\t%+d", s.role, s.clients, columns[i][0], columns[i][1], idle, s.perConn()-idle))
		b.ReportMetric(float64(idle), s.role+"-B/conn")
	}
	printTable(b, "Memory per connection, each with its own user, in one room", rows)
}

// BenchmarkStorm measures the server's CPU per join, in µs, and the bytes received per client,
// while all clients connect as fast as they can. A run ends when each client has the final count.
// Run it with
//
//	make bench BENCH=Storm
func BenchmarkStorm(b *testing.B) {
	rows := []string{"server\tclients\tCPU s\tµs per join\twall s\tbytes per client\tCPU: direct/it"}
	roles := []string{"direct", "silent", "bare"}
	const runs = 5
	received := map[string][]float64{}
	for _, clients := range []int{2000, 16000} {
		cpu, wall := map[string][]float64{}, map[string][]float64{}
		for range runs {
			for _, role := range roles {
				s := startSide(b, role, scaled(clients), order{})
				cpu[role] = append(cpu[role], (s.ask(order{Do: "stat"}).CPU - s.before.CPU).Seconds())
				wall[role] = append(wall[role], s.opened.Elapsed.Seconds())
				key := fmt.Sprint(role, clients)
				received[key] = append(received[key], float64(s.opened.Bytes))
				s.end()
			}
		}
		for _, role := range roles {
			r := median(ratios(cpu["direct"], cpu[role]))
			c := median(cpu[role])
			rows = append(rows, fmt.Sprintf("%s\t%d\t%.3f\t%.1f\t%.2f\t%.0f\t%.2f", role, scaled(clients), c, 1e6*c/float64(scaled(clients)),
				median(wall[role]), median(received[fmt.Sprint(role, clients)]), r))
			if role != "direct" {
				b.ReportMetric(r, fmt.Sprintf("direct/%s-%d", role, clients))
			}
		}
	}
	more := median(received["direct16000"]) / median(received["direct2000"])
	b.ReportMetric(more, "bytes-16000/2000")
	printTable(b, fmt.Sprintf("Storm, medians of %d runs; a client of the larger one receives %.2f times as much", runs, more), rows)
}

// BenchmarkStopped measures the latency of messages to healthy clients, in ms, while one client in
// ten stops reading, until the server has disconnected the stopped clients. Run it with
//
//	make bench BENCH=Stopped
func BenchmarkStopped(b *testing.B) {
	rows := []string{"stopped\thealthy\tmessages\tp50 ms\tp99 ms\tstill connected\tMB before\tMB after"}
	const pairs, size = 5, 4 << 10
	clients := scaled(5000)
	rate := 0.0
	run := func(stop int) (p99 float64) {
		s := startSide(b, "direct", clients, order{Narrow: stop})
		if rate == 0 { // in the first run, choose a rate that uses 30 % of the machine's CPU
			s.deliver(1)
			before := s.ask(order{Do: "stat"}).CPU
			const messages = 10
			s.load.ask(order{Do: "serial", Messages: messages, Size: size})
			rate = 0.3 * float64(runtime.GOMAXPROCS(0)*messages) / (s.ask(order{Do: "stat"}).CPU - before).Seconds()
		}
		healthy := clients
		if stop > 0 {
			s.load.ask(order{Do: "stop", Narrow: stop})
			healthy -= (clients + stop - 1) / stop
		}
		before := s.ask(order{Do: "stat"})
		// 150 messages (600 KiB) fill twice MaxUnsent (256 KiB) and the kernel's buffers.
		while := max(8*time.Second, time.Duration(150/rate*float64(time.Second)))
		a := s.load.ask(order{Do: "post", Rate: rate, Time: while, Senders: 1, Size: size})
		after := s.ask(order{Do: "census"})
		rows = append(rows, fmt.Sprintf("%d\t%d\t%d\t%.1f\t%.1f\t%d\t%.0f\t%.0f", clients-healthy, healthy, a.Accepted,
			micros(a.P50)/1e3, micros(a.P99)/1e3, after.Connections, float64(before.RSS)/1e6, float64(after.RSS)/1e6))
		s.end()
		return micros(a.P99)
	}
	var without, with []float64
	for range pairs {
		without = append(without, run(0))
		with = append(with, run(10))
	}
	r := ratios(with, without)
	b.ReportMetric(median(r), "p99-with/without")
	printTable(b, fmt.Sprintf("One in ten stops reading, %.1f messages of 4 KB per second: p99 of the healthy is %.2f times\n"+
		"the value without them, medians of %d pairs: %.1f and %.1f ms", rate, median(r), pairs, median(with)/1e3, median(without)/1e3), rows)
}

// BenchmarkChurn detects leaks: growth of memory, descriptors, goroutines and threads that
// persists. 20,000 clients per minute join and as many leave, for one minute or for the duration in
// PRESENCE_BENCH_CHURN. Run it with
//
//	PRESENCE_BENCH_CHURN=5m make bench BENCH=Churn
func BenchmarkChurn(b *testing.B) {
	whole := scaled(time.Minute)
	if s := os.Getenv("PRESENCE_BENCH_CHURN"); s != "" {
		var err error
		if whole, err = time.ParseDuration(s); err != nil {
			b.Fatal(err)
		}
	}
	const clients, perMinute = 1000, 20_000
	s := startSide(b, "direct", clients, order{Spare: 4 * clients})
	rows := []string{"\tdescriptors\tgoroutines\tthreads\tMB\tCPU s"}
	row := func(when string) answer {
		a := s.ask(order{Do: "census"})
		rows = append(rows, fmt.Sprintf("%s\t%d\t%d\t%d\t%.1f\t%.1f", when,
			a.Descriptors, a.Goroutines, a.Threads, float64(a.RSS)/1e6, a.CPU.Seconds()))
		return a
	}
	row("at the start")
	s.load.ask(order{Do: "churn", Rate: perMinute / 60.0, Time: whole / 5})
	early := row("after a fifth")
	s.load.ask(order{Do: "churn", Rate: perMinute / 60.0, Time: whole - whole/5})
	late := row("at the end")
	b.ReportMetric(float64(late.RSS)/float64(early.RSS), "RSS-end/fifth")
	b.ReportMetric(float64(late.Descriptors-early.Descriptors), "more-descriptors")
	printTable(b, fmt.Sprintf("Churn: %d clients, %d joins and leaves per minute, %v", clients, perMinute, whole), rows)
}

// BenchmarkRooms measures the server's memory, in bytes per client, first with all clients in one
// room, then with each client in a separate room. Run it with
//
//	make bench BENCH=Rooms
func BenchmarkRooms(b *testing.B) {
	rows := []string{"clients\trooms\tbytes per client: connected\tidle, freed\tgoroutines\tthreads\tepoll descriptors\tdescriptors"}
	var each []int
	for _, number := range []int{1, scaled(15000)} {
		s := startSide(b, "direct", scaled(15000), order{Rooms: number})
		connected := s.perConn()
		each = append(each, s.idle())
		a := s.ask(order{Do: "census"})
		rows = append(rows, fmt.Sprintf("%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d", s.clients, number, connected, each[len(each)-1],
			a.Goroutines, a.Threads, a.Epolls, a.Descriptors))
		s.end()
	}
	b.ReportMetric(float64(each[1]), "B/room")
	printTable(b, fmt.Sprintf("Rooms: a room per client costs %d bytes per client more than one room for all", each[1]-each[0]), rows)
}
