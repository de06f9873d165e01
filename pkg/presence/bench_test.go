//go:build linux

package presence_test

// The benchmarks of the whole server: real processes, real sockets, on this
// machine. From the top of the tree,
//
//	make bench                                    # all; a quarter of an hour
//	make bench BENCH=Storm                        # one
//	make bench BENCH='Delivery/5000' ARGS=-short  # a tenth of the clients and of the time: does it work at all?
//	PRESENCE_BENCH_CHURN=5m make bench BENCH=Churn
//
// Each needs 20,000 open files a process (ulimit -n) and prints its table when
// it is done; ns/op has no meaning here. The server is one process, the clients are
// another (the load: bench_load_test.go), and this one tells them what to do.
// The servers are those of newBenchServer: bare is the floor, a loop of
// write(2) over all sockets; direct and goroutine are the two ways that this
// package has to a socket.
//
// How to read the tables:
//
//   - CPU is the server's, user and system, by getrusage(2); a delivery is one
//     message to one client. It costs the server's CPU what the kernel does in
//     write(2), which on the loopback is the way up to the receiver's socket.
//   - What is compared was measured in one run, in turns, since a busy machine
//     is slow for all. A ratio is the median of the ratios of neighbours.
//   - Server and load share the cores. Wall times and latencies hold the load's
//     part of the work; CPU does not.
//   - Memory is the resident set (/proc/self/statm). What the kernel keeps for
//     a socket is not in it.

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

// text is the bytes of a message's text where nothing else is said: the event
// has some 230 then.
const text = 100

// process is one that a benchmark, or a test, has started, and ends with it.
type process struct {
	b       testing.TB
	role    string
	addr    string // of a server
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
	command := exec.Command(self)
	command.Env = append(os.Environ(), "PRESENCE_BENCH_ROLE="+role)
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

// send sends an order whose answer is read later, so that several processes work at once.
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

// pause stops the process until resume, so that it takes nothing of the machine.
func (p *process) pause()  { p.command.Process.Signal(unix.SIGSTOP) }
func (p *process) resume() { p.command.Process.Signal(unix.SIGCONT) }

// side is a server and the load that it has for itself.
type side struct {
	*process
	load    *process
	clients int
	before  answer // the server without a client
	opened  answer // of the load
}

// startSide starts a server and opens clients, of the kind that the order says.
// It returns when each was told how many they are, if the server tells that.
func startSide(b *testing.B, role string, clients int, o order) *side {
	b.Helper()
	s := &side{process: startProcess(b, role), load: startProcess(b, "load"), clients: clients}
	s.ask(order{Do: "free"})
	s.before = s.ask(order{Do: "census"})
	o.Do, o.Addr, o.Clients = "open", s.addr, clients
	if o.Until == "" {
		o.Until = map[string]stage{"silent": synced, "bare": answered, "r3labs": answered}[role]
	}
	o.Until = cmp.Or(o.Until, counted)
	s.opened = s.load.ask(o)
	return s
}

// end ends the load first: so it is its sockets, not the server's, that the
// kernel remembers for a minute.
func (s *side) end() {
	s.load.end()
	s.process.end()
}

// perConn returns the bytes that the server has more than without clients, for
// each of them.
func (s *side) perConn() int { return (s.ask(order{Do: "stat"}).RSS - s.before.RSS) / s.clients }

// idle is perConn after a garbage collection whose spoils went to the system.
func (s *side) idle() int {
	s.ask(order{Do: "free"})
	return s.perConn()
}

// deliver has enough messages said, one at a time, to make so many deliveries,
// and returns the CPU of one in µs.
func (s *side) deliver(deliveries int) float64 {
	s.b.Helper()
	messages := max(1, deliveries/s.clients)
	before := s.ask(order{Do: "stat"}).CPU
	s.load.ask(order{Do: "say", Messages: messages, Size: text})
	return micros(s.ask(order{Do: "stat"}).CPU-before) / float64(messages*s.clients)
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// scaled is n, or a tenth of it with -short.
func scaled[T int | time.Duration](n T) T {
	if testing.Short() {
		return n / 10
	}
	return n
}

// quantile returns the value below which the part q of all lies.
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

// ratios returns the quotients of neighbours.
func ratios(of, by []float64) (r []float64) {
	for i := range of {
		r = append(r, of[i]/by[i])
	}
	return r
}

// printTable prints rows of cells that tabs part, the first of which is the
// head, as they can stand in docs/performance.md. (b.Log keeps ten lines.)
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

// BenchmarkDelivery says one message at a time, the next when every client has
// the last, and looks at the server's CPU and memory.
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
				sides[i].deliver(1) // the first message meets cold memory
			}
			for range samples {
				for i, s := range sides {
					cpu[i] = append(cpu[i], s.deliver(scaled(150_000)))
				}
			}
			rows := []string{"server\tclients\tµs CPU a delivery\tquartiles\tbytes a connection: as it came\tidle, freed\tbusy"}
			for i, s := range sides {
				rows = append(rows, fmt.Sprintf("%s\t%d\t%.2f\t%s\t%d\t%d\t%+d", s.role, s.clients,
					median(cpu[i]), quartiles(cpu[i]), fresh[i], idle[i], s.perConn()-idle[i]))
				b.ReportMetric(median(cpu[i]), s.role+"-µs/delivery")
				s.end()
			}
			printTable(b, fmt.Sprintf("Delivery, one message at a time, medians of %d", samples), rows)
		})
	}
}

// BenchmarkRatio sets direct against the floor.
func BenchmarkRatio(b *testing.B) {
	rows := []string{"clients\tbare µs\tdirect µs\tdirect/bare\tquartiles"}
	const pairs = 11
	for _, clients := range []int{5000, 15000} {
		bare := startSide(b, "bare", scaled(clients), order{})
		direct := startSide(b, "direct", scaled(clients), order{})
		var x, y []float64
		for i := range pairs + 1 {
			// One, the other twice, the one: whoever comes first in a pair has
			// another cache and another scheduler than who comes after.
			first, second := direct, bare
			if i%2 == 0 {
				first, second = bare, direct
			}
			cost := map[*side]float64{}
			for _, s := range []*side{first, second, second, first} {
				cost[s] += s.deliver(scaled(150_000)) / 2
			}
			of, by := cost[direct], cost[bare]
			if i > 0 { // the first pair meets cold memory
				x, y = append(x, of), append(y, by)
			}
		}
		r := ratios(x, y)
		rows = append(rows, fmt.Sprintf("%d\t%.2f\t%.2f\t%.2f\t%s", bare.clients, median(y), median(x), median(r), quartiles(r)))
		b.ReportMetric(median(r), fmt.Sprintf("direct/bare-%d", clients))
		bare.end()
		direct.end()
	}
	printTable(b, fmt.Sprintf("Delivery against the floor: CPU of a delivery, one message at a time, %d pairs in turns", pairs), rows)
}

// BenchmarkSaturated posts ever faster, until the server does not keep up.
func BenchmarkSaturated(b *testing.B) {
	rows := []string{"server\tposts/s wanted\ttaken/s\t503\tdeliveries/s\tCPU %\tµs a delivery\tto bare one at a time"}
	bare := startSide(b, "bare", scaled(1000), order{})
	bare.deliver(1)
	for _, role := range []string{"direct", "goroutine", "r3labs"} {
		s := startSide(b, role, scaled(1000), order{})
		best := 0.0
		for rate := 1000.0; ; rate *= 2 {
			floor := []float64{bare.deliver(scaled(100_000))}
			before := s.ask(order{Do: "stat"}).CPU
			a := s.load.ask(order{Do: "post", Rate: rate, Time: scaled(4 * time.Second), Senders: 64, Size: text})
			cpu := s.ask(order{Do: "stat"}).CPU - before
			floor = append(floor, bare.deliver(scaled(100_000)))
			taken, each := float64(a.Taken)/a.Elapsed.Seconds(), micros(cpu)/float64(a.Taken*s.clients)
			best = max(best, taken)
			rows = append(rows, fmt.Sprintf("%s\t%.0f\t%.0f\t%d\t%.0f\t%.0f\t%.2f\t%.2f", role, rate, taken, a.Refused,
				taken*float64(s.clients), 100*cpu.Seconds()/a.Elapsed.Seconds(), each, each/median(floor)))
			if taken < 0.9*rate {
				b.ReportMetric(each/median(floor), role+"/bare")
				break
			}
		}
		b.ReportMetric(best, role+"-messages/s")
		s.end()
	}
	printTable(b, fmt.Sprintf("Saturated: %d clients, 64 senders, the rate doubled until it is not kept", bare.clients), rows)
}

// BenchmarkMemory looks at what a connection of a room of 15,000 users costs.
func BenchmarkMemory(b *testing.B) {
	rows := []string{"server\tclients\tbytes a connection: as they came\t30 s later\tidle, freed\tbusy"}
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
	time.Sleep(scaled(30 * time.Second)) // this is what is measured: half a minute in which nobody asks for anything
	look((*side).perConn)
	look((*side).idle)
	for i, s := range sides {
		s.deliver(20 * s.clients)
		idle := columns[i][2]
		rows = append(rows, fmt.Sprintf("%s\t%d\t%d\t%d\t%d\t%+d", s.role, s.clients, columns[i][0], columns[i][1], idle, s.perConn()-idle))
		b.ReportMetric(float64(idle), s.role+"-B/conn")
	}
	printTable(b, "Memory of a connection, each a user of its own, in one room", rows)
}

// BenchmarkStorm opens all clients as fast as it can, until each has been told
// how many they are.
func BenchmarkStorm(b *testing.B) {
	rows := []string{"server\tclients\tCPU s\tµs a join\twall s\tbytes a client\tCPU: direct to it"}
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

// BenchmarkStopped looks at how late messages are for the healthy when one
// client in ten has stopped reading, until these are sent away.
func BenchmarkStopped(b *testing.B) {
	rows := []string{"stopped\thealthy\tmessages\tp50 ms\tp99 ms\tstill connected\tMB before\tMB after"}
	const pairs, size = 5, 4 << 10
	clients := scaled(5000)
	rate := 0.0
	run := func(stop int) (p99 float64) {
		s := startSide(b, "direct", clients, order{Narrow: stop})
		if rate == 0 { // once: such that it takes the server a third of the machine
			s.deliver(1)
			before := s.ask(order{Do: "stat"}).CPU
			const messages = 10
			s.load.ask(order{Do: "say", Messages: messages, Size: size})
			rate = 0.3 * float64(runtime.GOMAXPROCS(0)*messages) / (s.ask(order{Do: "stat"}).CPU - before).Seconds()
		}
		healthy := clients
		if stop > 0 {
			s.load.ask(order{Do: "stop", Narrow: stop})
			healthy -= (clients + stop - 1) / stop
		}
		before := s.ask(order{Do: "stat"})
		// 150 such messages are twice what may wait for a client, and what the kernel takes.
		while := max(8*time.Second, time.Duration(150/rate*float64(time.Second)))
		a := s.load.ask(order{Do: "post", Rate: rate, Time: while, Senders: 1, Size: size})
		after := s.ask(order{Do: "census"})
		rows = append(rows, fmt.Sprintf("%d\t%d\t%d\t%.1f\t%.1f\t%d\t%.0f\t%.0f", clients-healthy, healthy, a.Taken,
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
	printTable(b, fmt.Sprintf("One in ten stops reading, %.1f messages of 4 KB a second: p99 of the healthy is %.2f times\n"+
		"what it is without them, medians of %d pairs: %.1f and %.1f ms", rate, median(r), pairs, median(with)/1e3, median(without)/1e3), rows)
}

// BenchmarkChurn lets 20,000 clients a minute come and as many go, and looks
// at what does not come down again.
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
	printTable(b, fmt.Sprintf("Churn: %d clients, %d joins and leaves a minute, %v", clients, perMinute, whole), rows)
}

// BenchmarkRooms compares a room for each client with one for all.
func BenchmarkRooms(b *testing.B) {
	rows := []string{"clients\trooms\tbytes a client: as they came\tidle, freed\tgoroutines\tthreads\tepoll descriptors\tdescriptors"}
	var each []int
	for _, number := range []int{1, scaled(15000)} {
		s := startSide(b, "direct", scaled(15000), order{Rooms: number})
		came := s.perConn()
		each = append(each, s.idle())
		a := s.ask(order{Do: "census"})
		rows = append(rows, fmt.Sprintf("%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d", s.clients, number, came, each[len(each)-1],
			a.Goroutines, a.Threads, a.Epolls, a.Descriptors))
		s.end()
	}
	b.ReportMetric(float64(each[1]), "B/room")
	printTable(b, fmt.Sprintf("Rooms: one of a client of its own costs %d bytes more than a place in one for all", each[1]-each[0]), rows)
}
