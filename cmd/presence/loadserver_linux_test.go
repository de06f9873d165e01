//go:build !race

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"example.com/presence/cmd/presence/internal/ledger"
)

// The load of a test, in messages per second: those of the rooms of the load processes, and those
// of the checked clients.
const (
	numbersRate = 80
	checkedRate = 20
)

// loadedServer is a server process under load, which has one fault. The clients of load processes
// are in rooms in which messages with numbers are sent. Some further clients are in a room with a
// ledger. Half of these stay, and each 100 ms one of the others reconnects.
type loadedServer struct {
	*clusterNode
	t        *testing.T
	fleet    *fleet
	clients  int // of the load processes
	rooms    int // of these clients
	book     *book
	checked  []*bookClient
	numbers  *numbers
	posting  *posters
	moving   func() // stops the reconnects
	scrapers *http.Client
	phases   []*phase
}

// startLoaded starts a server with the variables, and the clients. The log of the server goes to
// stderr, unless it is nil.
func startLoaded(t *testing.T, variables []string, stderr *os.File, args ...string) *loadedServer {
	t.Helper()
	l := &loadedServer{t: t, clients: sized(120, 300, 2000), rooms: sized(2, 3, 4), scrapers: new(http.Client)}
	t.Cleanup(l.scrapers.CloseIdleConnections)
	l.clusterNode = startVaried(t, variables, stderr, append(args, "--message-rate=0", "--cost-rate=0", "--history-rate=0", "--history=1000")...)
	l.fleet, l.book = startFleet(t, 1), newBook(t, "checked")
	l.fleet.do(loadOrder{Do: "open", Addrs: []string{l.addr}, Clients: l.clients, Rooms: l.rooms})
	l.book.retry = 300 * time.Millisecond
	half := sized(5, 10, 25)
	l.checked = append(l.book.clients(half, "stays", l.addr), l.book.clients(half, "moves", l.addr)...)
	l.exact("start")
	l.numbers = startNumbers(l.book, anyOf(l.addr), numbersRate, make([]int, l.rooms), "")
	l.posting = l.book.post("m", checkedRate, anyOf(l.addr))
	l.moving = churn(l.book, 100*time.Millisecond, l.checked[half:], anyOf(l.addr))
	t.Cleanup(l.moving)
	return l
}

// startVaried starts a server process with further variables. Its log goes to stderr, unless it is
// nil.
func startVaried(t *testing.T, variables []string, stderr *os.File, args ...string) *clusterNode {
	t.Helper()
	n := &clusterNode{t: t, log: newServerLog(t), process: exec.Command(executable(t), append([]string{"serve", "--log-format=json"}, args...)...)}
	n.process.Env = append([]string{asCommand + "=1", "PRESENCE_LISTEN=127.0.0.1:0", "PRESENCE_JWT_SECRET=" + secret}, variables...)
	n.process.Stderr = n.log
	if stderr != nil {
		n.process.Stderr = stderr
	}
	if err := n.process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.process.Process.Kill(); n.process.Wait(); n.log.Close() })
	text := ""
	if stderr == nil {
		text = n.log.find(t, `"msg":"listening"`)
		go func() { // ends when the log is closed
			for range n.log.next { // otherwise a long log blocks the process
			}
		}()
	} else if !poll(10*time.Millisecond, patience, func() bool { text = lineOf(stderr, `"msg":"listening"`); return text != "" }) {
		t.Fatal("the server does not listen")
	}
	var line struct{ Addr string }
	if err := json.Unmarshal([]byte(text), &line); err != nil {
		t.Fatal(err)
	}
	n.addr = line.Addr
	return n
}

// lineOf returns the first complete line of a file that contains text, or "".
func lineOf(file *os.File, text string) string {
	for s := bufio.NewScanner(io.NewSectionReader(file, 0, math.MaxInt64)); s.Scan(); {
		if strings.Contains(s.Text(), text) && strings.HasSuffix(s.Text(), "}") {
			return s.Text()
		}
	}
	return ""
}

// logged returns a function that reports whether the log has a further line with text.
func (n *clusterNode) logged(text string) func() bool {
	before := strings.Count(n.log.String(), text)
	return func() bool { return strings.Count(n.log.String(), text) > before }
}

// numbers sends messages to the rooms of the load processes. The messages of a room are the numbers
// from 0, in their order. One is repeated until it is accepted.
type numbers struct {
	book    *book
	pick    func() string // returns the address of a node
	padding string        // if set, the message is a list of its number and this text
	done    chan struct{}
	posting sync.WaitGroup
	sent    []int // by room
	repeats atomic.Int64
}

// startNumbers sends rate messages per second, to all rooms together. sent has the number of the
// messages of each room that were sent before.
func startNumbers(b *book, pick func() string, rate int, sent []int, padding string) *numbers {
	n := &numbers{book: b, pick: pick, padding: padding, done: make(chan struct{}), sent: sent}
	for room := range n.sent {
		n.posting.Add(1)
		b.running.Go(func() { // ends with done, or with the book
			defer n.posting.Done()
			ticks := time.NewTicker(time.Second * time.Duration(len(sent)) / time.Duration(rate))
			defer ticks.Stop()
			for {
				select {
				case <-n.done:
					return
				case <-b.ctx.Done():
					return
				case <-ticks.C:
					n.post(room)
				}
			}
		})
	}
	return n
}

// post sends the next number to a room.
func (n *numbers) post(room int) {
	data := strconv.Itoa(n.sent[room])
	body := fmt.Sprintf(`{"data":%s,"id":"%s"}`, data, data)
	if n.padding != "" {
		body = fmt.Sprintf(`{"data":[%s,%q],"id":"%s"}`, data, n.padding, data)
	}
	for n.book.ctx.Err() == nil {
		url := fmt.Sprintf("http://%s/messages?room=room-%d", n.pick(), room)
		request, err := n.book.request(n.book.ctx, "POST", url, "numbers", body)
		if err != nil {
			n.book.t.Error(err)
			return
		}
		if resp, err := n.book.posts.Do(request); err == nil {
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if resp.StatusCode == http.StatusAccepted {
				n.sent[room]++
				return
			}
		}
		n.repeats.Add(1)
		select {
		case <-time.After(100 * time.Millisecond):
		case <-n.book.ctx.Done():
		}
	}
}

// end stops the messages, and returns their number, which is the same in each room.
func (n *numbers) end() int {
	close(n.done)
	n.posting.Wait()
	all := slices.Max(n.sent)
	for room := range n.sent {
		for n.sent[room] < all && n.book.ctx.Err() == nil {
			n.post(room)
		}
	}
	return all
}

// memory makes the server free its memory, and returns the memory that it then needs.
func (l *loadedServer) memory() float64 {
	l.t.Helper()
	freed := l.logged(freedLine)
	sendSignal(l.t, l.process, unix.SIGUSR1)
	eventually(l.t, patience, "the server has freed its memory", freed)
	return managed(l.metrics())
}

// managed returns the memory that GOMEMLIMIT limits.
func managed(metrics map[string]float64) float64 {
	return metrics["go_memstats_sys_bytes"] - metrics["go_memstats_heap_released_bytes"]
}

// metrics returns the values of the server's metrics by series, such as
// presence_refusals_total{reason="rate"}. It uses one connection, which stays open.
func (l *loadedServer) metrics() map[string]float64 {
	l.t.Helper()
	resp, err := l.scrapers.Get("http://" + l.addr + "/metrics")
	if err != nil {
		l.t.Fatal(err)
	}
	defer resp.Body.Close()
	all := map[string]float64{}
	for s := bufio.NewScanner(resp.Body); s.Scan(); {
		space := strings.LastIndexByte(s.Text(), ' ')
		if value, err := strconv.ParseFloat(s.Text()[space+1:], 64); err == nil && !strings.HasPrefix(s.Text(), "#") {
			all[s.Text()[:space]] = value
		}
	}
	return all
}

// phase is a part of a test, with the state of the server at its start and its end.
type phase struct {
	name       string
	start, end time.Time
	cpu        time.Duration
	rss        int
	before     map[string]float64 // metrics
	after      map[string]float64
}

// grown returns by how much a series has grown in the phase.
func (p *phase) grown(series string) float64 { return p.after[series] - p.before[series] }

// phase runs during, and lasts at least d.
func (l *loadedServer) phase(name string, d time.Duration, during func()) *phase {
	l.t.Helper()
	p := &phase{name: name, before: l.metrics(), start: time.Now()}
	l.phases = append(l.phases, p)
	cpu := cpuTime(l.t, l.process)
	during()
	until(l.t, p.start.Add(d))
	p.end, p.cpu, p.rss = time.Now(), cpuTime(l.t, l.process)-cpu, residentSet(l.t, l.process)
	p.after = l.metrics()
	return p
}

// calm is a phase without a fault.
func (l *loadedServer) calm(name string) *phase {
	l.t.Helper()
	return l.phase(name, sized(300*time.Millisecond, 300*time.Millisecond, 10*time.Second), func() {})
}

// exact waits until each client has the true user count. It must have it within 1 s after it is
// quiet (promise 1).
func (l *loadedServer) exact(when string) {
	l.t.Helper()
	if !poll(5*time.Millisecond, patience, l.allOpen) {
		l.t.Fatalf("%s: not all checked clients are connected after %v", when, patience)
	}
	quiet := time.Now()
	l.book.quiet(when, l.checked, quiet, time.Second)
	l.fleet.awaitCount(l.clients/l.rooms, quiet, time.Second)
}

// allOpen reports whether each checked client has a stream.
func (l *loadedServer) allOpen() bool {
	for _, c := range l.checked {
		c.mu.Lock()
		open := c.open
		c.mu.Unlock()
		if !open {
			return false
		}
	}
	return true
}

// join starts n further checked clients.
func (l *loadedServer) join(n int, prefix string) {
	l.checked = append(l.checked, l.book.clients(n, prefix, l.addr)...)
}

// finish checks that the server is ready, that new clients join, and that nothing was wrong during
// the test.
func (l *loadedServer) finish() {
	l.t.Helper()
	if got := l.status("/readyz"); got != http.StatusOK {
		l.t.Errorf("GET /readyz after the fault: got %d, want 200", got)
	}
	l.moving()
	l.join(sized(5, 10, 50), "after")
	l.exact("new clients after the fault")
	l.calm("after")
	sent := l.numbers.end()
	l.posting.end()
	r := l.fleet.do(loadOrder{Do: "await", Want: l.clients / l.rooms, Messages: sent, Within: patience})
	if r.Unreceived > 0 || r.Last != sent-1 || r.Open != l.clients || r.Messages != sent*l.clients {
		l.t.Errorf("load: got %d messages at %d clients, of which %d lack some, and the last number %d, want %d messages at %d clients, and %d",
			r.Messages, r.Open, r.Unreceived, r.Last, sent*l.clients, l.clients, sent-1)
	}
	last := l.checkedReceived()
	report := l.book.check()
	if report.Resets > 0 || report.Epochs != 1 {
		l.t.Errorf("got %d resets and %d epochs, want no reset and one epoch", report.Resets, report.Epochs)
	}
	m := l.metrics()
	for series, want := range map[string]float64{
		"presence_connections":                        float64(l.clients + len(l.checked)),
		"presence_rooms":                              float64(l.rooms + 1),
		`presence_streams_ended_total{reason="slow"}`: 0,
		"presence_resets_total":                       0,
		"presence_messages_total":                     float64(sent*l.rooms + report.Accepted + report.Shown),
	} {
		if got, known := m[series]; got != want || !known {
			l.t.Errorf("%s: got %v, want %v", series, got, want)
		}
	}
	l.t.Logf("%d clients received %d messages (%d requests were repeated), the last checked one after %v", l.clients, r.Messages, l.numbers.repeats.Load(), last)
	l.table()
}

// checkedReceived waits until each checked client has the last message that was accepted. It
// returns the time.
func (l *loadedServer) checkedReceived() time.Duration {
	l.t.Helper()
	began := time.Now()
	var last ledger.Position
	for _, r := range l.book.list() {
		if p, ok := ledger.ParsePosition(r.ID); ok && r.Kind == ledger.Posted && p.Seq > last.Seq {
			last = p
		}
	}
	received := func() bool {
		for _, c := range l.checked {
			c.mu.Lock()
			p, _ := ledger.ParsePosition(c.held)
			c.mu.Unlock()
			if p.Seq < last.Seq {
				return false
			}
		}
		return true
	}
	if !poll(5*time.Millisecond, patience, received) {
		l.t.Errorf("not all checked clients have the message %v", last)
	}
	return time.Since(began).Round(time.Millisecond)
}

// table logs the figures of each phase. The delays are those of the checked clients that stay,
// from the start of the request with a message to its arrival.
func (l *loadedServer) table() {
	began, records := map[string]time.Time{}, l.book.list()
	for _, r := range records {
		if at, repeated := began[r.Content]; r.Kind == ledger.Posted && (!repeated || r.Began.Before(at)) {
			began[r.Content] = r.Began
		}
	}
	rows := []string{"phase | s | CPU % | RSS MB | open files | deliveries/s | delay ms p50, p99, max"}
	for _, p := range l.phases {
		var delays []float64
		for _, r := range records {
			if m, ok := r.Message(); ok && strings.HasPrefix(r.Client, "stays") {
				if at := began[m.Data]; !at.Before(p.start) && at.Before(p.end) {
					delays = append(delays, float64(r.At.Sub(at))/1e6)
				}
			}
		}
		slices.Sort(delays)
		at := func(q float64) float64 {
			if len(delays) == 0 {
				return 0
			}
			return delays[int(q*float64(len(delays)-1))]
		}
		s := p.end.Sub(p.start).Seconds()
		rows = append(rows, fmt.Sprintf("%s | %.1f | %.0f | %.0f | %.0f | %.0f | %.1f, %.1f, %.1f", p.name, s, 100*p.cpu.Seconds()/s, float64(p.rss)/1e6,
			p.after["process_open_fds"], p.grown("presence_deliveries_total")/s, at(0.5), at(0.99), at(1)))
	}
	l.t.Logf("%d clients in %d rooms and %d checked clients, %d messages per second:\n%s", l.clients, l.rooms, len(l.checked), numbersRate+checkedRate, strings.Join(rows, "\n"))
}
