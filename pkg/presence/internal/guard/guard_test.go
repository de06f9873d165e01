package guard

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"example.com/presence/pkg/presence/internal/refusal"
	"example.com/presence/pkg/presence/internal/socket"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The guard evicts connections in the order of the package comment. It never evicts a connection
// that is busy or in its grace period.
func TestEvictionOrder(t *testing.T) {
	now := time.Now()
	g := New(Config{})
	add := func(age time.Duration, change func(*Conn)) *Conn {
		c := &Conn{guard: g, state: http.StateActive, since: now.Add(-age), sentRequest: true}
		change(c)
		g.conns[c] = struct{}{}
		return c
	}
	began := func(age time.Duration) int64 { return now.Add(-age).UnixNano() }
	silent := func(c *Conn) { c.state, c.sentRequest = http.StateNew, false }
	idle := func(c *Conn) { c.state = http.StateIdle }
	want := []*Conn{
		add(9*time.Second, silent),
		add(8*time.Second, func(c *Conn) { c.state, c.sentRequest, c.http2 = http.StateIdle, false, true }),
		add(7*time.Second, func(c *Conn) { c.sentRequest, c.bodies, c.answers = false, 1, []*Answer{{}} }),
		add(2*time.Second, silent),
		add(30*time.Second, idle),
		add(6*time.Second, func(c *Conn) { idle(c); c.http2 = true; c.began.Store(began(time.Second)) }),
		add(20*time.Second, func(c *Conn) { idle(c); c.began.Store(began(3 * time.Second)) }), // in the middle of a header
		add(2*time.Second, func(c *Conn) { c.bodies = 1 }),
		add(50*time.Second, func(c *Conn) { c.progress = progress{unacked: true, lazy: true} }),
		add(40*time.Second, func(c *Conn) { idle(c); c.progress = progress{unacked: true, lazy: true} }),
		add(2*time.Second, func(c *Conn) { idle(c); c.served = 1 }),
		add(4*time.Second, func(c *Conn) { idle(c); c.served = 2 }),
		add(2*time.Second, func(c *Conn) { idle(c); c.served = 9 }),
	}
	for _, spared := range []func(*Conn){
		func(c *Conn) { idle(c); c.since = now.Add(-time.Second / 2) },
		func(c *Conn) { idle(c); c.progress.unacked = true }, // its peer is reading a response
		func(c *Conn) {}, // a handler is running
		func(c *Conn) { c.http2, c.bodies, c.answers = true, 1, []*Answer{{}, {}} },
		func(c *Conn) { idle(c); c.http2, c.streams = true, []*Answer{{}} },
		func(c *Conn) { c.closing, c.progress.unacked = true, true },
	} {
		add(time.Minute, spared)
	}
	young := add(time.Second/2, silent)
	for i, c := range want {
		if i == len(want)-2 { // the last two connections (idleShort) are spared while young exists
			if victim, _ := g.victimLocked(now, nil); victim != nil {
				t.Errorf("got %+v, want none while an unfinished connection is young", victim)
			}
			delete(g.conns, young)
		}
		victim, _ := g.victimLocked(now, nil)
		if victim != c {
			t.Fatalf("victim %d: got %+v, want %+v", i, victim, c)
		}
		delete(g.conns, victim)
	}
	if victim, _ := g.victimLocked(now, nil); victim != nil {
		t.Errorf("got %+v, want none", victim)
	}
}

// At the limit of concurrent responses, the guard resets the connection with the most responses
// that wait for the peer to send a request body or to read.
func TestAnswerLimit(t *testing.T) {
	now := time.Now()
	for _, waits := range []func(*Answer){func(a *Answer) { a.body = true }, func(a *Answer) { a.blocked.Store(true) }} {
		warned := ""
		g := New(Config{Refused: func(_ context.Context, why refusal.Cause, args ...any) { warned += fmt.Sprintln(append(args, why)...) }})
		var hoarder, busy *Conn
		for i, n := range []int{100, 128, maxAnswers - 228} {
			c := &Conn{Conn: closed{port: i}, guard: g, state: http.StateActive, since: now, sentRequest: true, http2: true}
			for range n {
				a := &Answer{}
				if i < 2 {
					waits(a)
				}
				c.answers = append(c.answers, a)
			}
			g.conns[c] = struct{}{}
			g.answers += n
			if i == 1 {
				hoarder = c
			}
			busy = c
		}
		want := "detail concurrent response limit reached limit 4096 client_address 192.0.2.1 answers\n"
		if !g.freeSlot(t.Context(), busy) || len(hoarder.answers) != 0 || len(busy.answers) != maxAnswers-228 || g.answers != maxAnswers-128 || warned != want {
			t.Errorf("got %d responses (hoarder %d, busy connection %d) and the warning %q, want %d (0, %d) and %q",
				g.answers, len(hoarder.answers), len(busy.answers), warned, maxAnswers-128, maxAnswers-228, want)
		}
	}
}

// If no connection has more than one response that waits for the peer, the new request is refused.
func TestAnswerLimitWithoutHoarder(t *testing.T) {
	warned := ""
	g := New(Config{Refused: func(_ context.Context, why refusal.Cause, args ...any) { warned += fmt.Sprintln(append(args, why)...) }})
	for i := range maxAnswers {
		g.conns[&Conn{Conn: closed{port: i}, guard: g, answers: []*Answer{{body: true}}}] = struct{}{}
	}
	g.answers = maxAnswers
	conn := &Conn{Conn: closed{port: 8}, guard: g}
	want := "detail concurrent response limit reached limit 4096 client_address 192.0.2.8 answers\n"
	if g.freeSlot(t.Context(), conn) || g.answers != maxAnswers || len(g.conns) != maxAnswers || warned != want {
		t.Errorf("got a slot or another connection reset (%d of %d left), and the warning %q, want %q", g.answers, maxAnswers, warned, want)
	}
}

// closed is a connection without a peer.
type closed struct {
	net.Conn
	port int
}

func (closed) Close() error           { return nil }
func (c closed) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, byte(c.port))} }

// Few evictions per second leave the grace period unchanged. Many evictions per second shorten it
// until the flood is over.
func TestFlood(t *testing.T) {
	now := time.Now()
	fresh := &Conn{state: http.StateNew}
	secure := &Conn{state: http.StateNew, secure: true}
	var f flood
	want := func(plain, tls, idle time.Duration) {
		t.Helper()
		if p, s, i := f.gracePeriod(fresh, unfinished, now), f.gracePeriod(secure, unfinished, now), f.gracePeriod(fresh, idleShort, now); p != plain || s != tls || i != idle {
			t.Errorf("got %v, %v, %v, want %v, %v, %v", p, s, i, plain, tls, idle)
		}
	}
	want(time.Second, time.Second, time.Second)
	for range 10 { // 100 per second of 1,000
		for range 100 {
			f.note(1000, now)
		}
		now = now.Add(1100 * time.Millisecond)
	}
	want(time.Second, time.Second, time.Second)
	for range 250 {
		f.note(1000, now)
	}
	want(floodGrace, floodGraceTLS, time.Second)
	now = now.Add(floodTime + 1)
	want(time.Second, time.Second, time.Second)
}

// A peer with data to acknowledge must acknowledge 8 KiB in 15 s.
func TestProgress(t *testing.T) {
	for rate, want := range map[int]int{ // bytes per second -> seconds until the end, 0: no end
		0:    15,
		100:  15,
		440:  15,
		600:  0,
		1000: 0,
	} {
		var p progress
		start, ended := time.Now(), 0
		for s := 0; s < 60 && ended == 0; s++ {
			acked := uint64(s * rate)
			if !p.update(socket.Liveness{Acked: acked, Written: acked + 50_000}, minProgress, window, start.Add(time.Duration(s)*time.Second)) {
				ended = s
			}
			if lazy := s >= 15 && rate < 32<<10/15; p.lazy != lazy && ended == 0 {
				t.Errorf("%d bytes per second: after %d s lazy is %v, want %v", rate, s, p.lazy, lazy)
			}
		}
		if ended != want {
			t.Errorf("%d bytes per second: ended after %d s, want %d (0: no end)", rate, ended, want)
		}
	}
	var p progress
	start := time.Now()
	for s := range 100 { // nothing to acknowledge for 90 s, then something
		acked := uint64(10)
		if !p.update(socket.Liveness{Acked: acked, Written: acked + uint64(s/90)}, minProgress, window, start.Add(time.Duration(s)*time.Second)) {
			t.Fatalf("ended after %d s, want no end", s)
		}
	}
}

// The deadline of a response grows with its size.
func TestAnswerTime(t *testing.T) {
	for size, want := range map[int64]time.Duration{0: 5 * time.Minute, 4 << 10: 301 * time.Second, 1 << 20: 556 * time.Second} {
		a := &Answer{began: time.Now()}
		a.size.Store(size)
		if got := a.deadline().Sub(a.began); got != want {
			t.Errorf("%d bytes: got %v, want %v", size, got, want)
		}
	}
}

// The sweep may abort a response that ends at the same time. The next response may then be that of
// another client: over HTTP/1 on the same connection, which a proxy shares, and over HTTP/2 in the
// state that net/http frees when the handler returns. A use of this state would also panic.
func TestAbortAfterEnd(t *testing.T) {
	for _, protocol := range []string{"HTTP/1", "HTTP/2"} {
		t.Run(protocol, func(t *testing.T) {
			g := New(Config{})
			var last *Answer
			var clients []string
			h := &http.Server{Protocols: &http.Protocols{}, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				a, _ := g.Begin(w, r)
				defer a.End()
				last, clients = a, append(clients, r.RemoteAddr)
				io.WriteString(a, r.URL.Path)
			})}
			h.Protocols.SetHTTP1(protocol == "HTTP/1")
			h.Protocols.SetUnencryptedHTTP2(protocol == "HTTP/2")
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			running := make(chan error, 1)
			go func() { running <- h.Serve(g.Harden(h, l)) }()
			client := &http.Client{Transport: &http.Transport{Protocols: h.Protocols}}
			for n := range 100 {
				path := fmt.Sprint("/", n)
				answer, err := client.Get("http://" + l.Addr().String() + path)
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(answer.Body)
				if err != nil || string(body) != path {
					t.Errorf("response %d: got %q, %v, want %q", n, body, err, path)
				}
				answer.Body.Close()
				last.abort()
			}
			if used := slices.Compact(clients); len(used) != 1 {
				t.Errorf("got %d connections, want 1", len(used))
			}
			client.CloseIdleConnections()
			h.Close()
			if err := <-running; !errors.Is(err, http.ErrServerClosed) {
				t.Error(err)
			}
		})
	}
}

func (c *Conn) String() string { return fmt.Sprintf("%v for %v", c.state, time.Since(c.since)) }

// Accept yields only while there are more than yieldAbove idle connections, on every yieldEvery-th
// call.
func TestAcceptYields(t *testing.T) {
	for counted, want := range map[int]int{0: 0, yieldAbove: 0, yieldAbove + 1: 4, 1024: 4} {
		g := New(Config{})
		g.counted = counted
		got := 0
		for range 4 * yieldEvery {
			if g.shouldYield() {
				got++
			}
		}
		if got != want {
			t.Errorf("%d idle connections: got %d yields in %d calls, want %d", counted, got, 4*yieldEvery, want)
		}
	}
}
