//go:build !race

package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// attacked is a server process, whose honest clients must not suffer from an attack.
type attacked struct {
	*clusterNode
	t *testing.T
}

func startAttacked(t *testing.T, args ...string) *attacked {
	t.Helper()
	return &attacked{startVaried(t, nil, nil, args...), t}
}

// members opens streams of users that read everything, all in the room "room-FIRST".
func (s *attacked) members(clients, room, info int) *fleet {
	s.t.Helper()
	f := startFleet(s.t, 1)
	f.do(loadOrder{Do: "open", Addrs: []string{s.addr}, From: 100_000 * room, Clients: clients,
		FirstRoom: room, Info: info, Lenient: true})
	return f
}

// usage has the CPU time of the server and the bytes that it has sent, at a moment.
type usage struct {
	s    *attacked
	at   time.Time
	cpu  time.Duration
	sent float64
}

func (s *attacked) use() usage {
	s.t.Helper()
	return usage{s, time.Now(), cpuTime(s.t, s.process), s.metrics()["presence_sent_bytes_total"]}
}

func (s *attacked) metrics() samples {
	s.t.Helper()
	scraper := &http.Client{}
	defer scraper.CloseIdleConnections()
	return scrape(s.t, scraper, "http://"+s.addr+"/metrics")
}

// since returns the usage as text.
func (u usage) since() string {
	now := u.s.use()
	took := now.at.Sub(u.at).Seconds()
	return fmt.Sprintf("CPU %.0f %%, %.1f MB/s out, RSS %d MB", 100*(now.cpu-u.cpu).Seconds()/took,
		(now.sent-u.sent)/1e6/took, residentSet(u.s.t, u.s.process)>>20)
}

// memory records the resident set of the server over time.
type memory struct {
	s    *attacked
	stop func()

	mu     sync.Mutex // guards the fields below
	values []int      // in MB, each quarter of a second
}

func (s *attacked) watchMemory() *memory {
	s.t.Helper()
	done := make(chan struct{})
	var running sync.WaitGroup
	m := &memory{s: s, stop: sync.OnceFunc(func() { close(done); running.Wait() })}
	running.Go(func() { // ends with done
		ticks := time.NewTicker(time.Second / 4)
		defer ticks.Stop()
		for {
			m.mu.Lock()
			m.values = append(m.values, residentSet(s.t, s.process)>>20)
			m.mu.Unlock()
			select {
			case <-done:
				return
			case <-ticks.C:
			}
		}
	})
	s.t.Cleanup(m.stop)
	return m
}

// report stops the records and returns the peak in MB, and the values of each fourth of the time.
func (m *memory) report() (peak int, text string) {
	m.stop()
	last := len(m.values) - 1
	peak = slices.Max(m.values)
	return peak, fmt.Sprintf("RSS %d, %d, %d, %d, %d MB over time, peak %d MB", m.values[0],
		m.values[last/4], m.values[last/2], m.values[last*3/4], m.values[last], peak)
}

// steadyReader is a client with one stream, which reads a number of bytes per second.
type steadyReader struct {
	user, room string
	rate       int    // 0: as fast as they come
	resume     string // an id
	heard      func(e heardEvent)

	cancel context.CancelFunc
	ended  chan struct{} // closed when the stream has ended

	mu     sync.Mutex // guards the fields below
	status int
	bytes  int
	events map[string]int // by name
	first  string         // id of the first message
	count  string         // the last user count
	bye    string         // data of the goodbye
	retry  time.Duration  // before the next connection
	err    error          // the end of the stream
}

type heardEvent struct {
	name, id, data string
	at             time.Time
}

// open starts a reader. It ends with the test.
func (s *attacked) open(r *steadyReader) *steadyReader {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel, r.ended, r.events = cancel, make(chan struct{}), map[string]int{}
	token := anyRoom(r.user)
	go func() { // ends with ctx
		defer close(r.ended)
		err := r.run(ctx, s.addr, token)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.err = err
	}()
	s.t.Cleanup(r.close)
	return r
}

// close closes the stream, if it is open.
func (r *steadyReader) close() { r.cancel(); <-r.ended }

func (r *steadyReader) run(ctx context.Context, addr, token string) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if _, err := io.WriteString(conn, streamRequest(r.room, token, r.resume)); err != nil {
		return err
	}
	in := bufio.NewReader(&pacedReader{ctx: ctx, conn: conn, rate: r.rate})
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.status = resp.StatusCode
	r.mu.Unlock()
	body := bufio.NewReader(resp.Body)
	for e := (heardEvent{}); ; {
		line, err := body.ReadString('\n')
		r.mu.Lock()
		r.bytes += len(line)
		r.mu.Unlock()
		if err != nil {
			return err
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch name {
		case "id":
			e.id = value
		case "data":
			e.data = value
		case "event":
			e.name = value
		case "retry":
			ms, _ := strconv.Atoi(value)
			r.mu.Lock()
			r.retry = time.Duration(ms) * time.Millisecond
			r.mu.Unlock()
		case "":
			e.at = time.Now()
			r.event(e)
			e = heardEvent{}
		}
	}
}

func (r *steadyReader) event(e heardEvent) {
	if e.name == "" { // the retry delay
		return
	}
	r.mu.Lock()
	r.events[e.name]++
	switch e.name {
	case "message":
		if r.first == "" {
			r.first = e.id
		}
	case "user count":
		r.count = e.data
	case "goodbye":
		r.bye = e.data
	}
	r.mu.Unlock()
	if r.heard != nil {
		r.heard(e)
	}
}

// has returns the number of events with this name.
func (r *steadyReader) has(name string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.events[name]
}

func (r *steadyReader) isOver() bool {
	select {
	case <-r.ended:
		return true
	default:
		return false
	}
}

func (r *steadyReader) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return fmt.Sprintf("%s: status %d, %d bytes, events %v, goodbye %q, end %v", r.user, r.status,
		r.bytes, r.events, r.bye, r.err)
}

// joined waits until the reader has its sync and its user count. It reports false if the stream
// ends before.
func (r *steadyReader) joined(within time.Duration) bool {
	counted := func() bool { return r.has("sync") > 0 && r.has("user count") > 0 }
	poll(10*time.Millisecond, within, func() bool { return counted() || r.isOver() })
	return counted()
}
