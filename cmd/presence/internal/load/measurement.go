package load

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math"
	"os"
	"strings"
	"time"
)

// measurement takes a run through its phases, and makes the report.
type measurement struct {
	*shared
	loops        []*loop
	users        map[string]string // by token
	ends         time.Duration     // of the steady phase, as expected
	senders      *senders
	load, server [3]usage // at the start, the end of the ramp phase, and the end of the steady phase
	ramped       stats    // at the end of the ramp phase
	steadied     stats    // at the end of the steady phase
	rampedAt     time.Duration
	steadiedAt   time.Duration
	shown        time.Duration // of the last progress
	measurable   bool          // the usage of this process is known
	gone         error         // the usage of a server process is unknown
}

func (m *measurement) take(ctx context.Context) *Report {
	r := m.shared
	m.ends = r.Ramp + r.Duration // an estimate
	m.await(ctx, r.Ramp+landTimeout, func(s *stats) bool {
		return s.attempts >= r.Clients && s.flight == 0 && s.open+s.dead >= r.Clients
	})
	m.ramped, m.rampedAt = m.stats(), r.now()
	m.measure(1)
	m.ends = m.rampedAt + r.Duration
	m.enter(steady)
	m.senders = newSenders(r)
	m.senders.begin()
	m.await(ctx, m.ends, func(s *stats) bool { return s.dead == r.Clients })
	m.senders.end()
	m.steadied, m.steadiedAt = m.stats(), r.now()
	m.measure(2)
	m.enter(drain)
	ctx = context.WithoutCancel(ctx) // without the rest, an interrupted run would report lost messages
	m.await(ctx, r.now()+drainTimeout, m.drained())
	var counts *Counts
	if r.Target.counts() {
		m.enter(settle)
		m.await(ctx, r.now()+settleTimeout, func(*stats) bool { counts = m.counts(); return counts.Wrong == 0 })
	}
	report := m.report()
	report.Counts = counts
	return report
}

// enter begins a phase.
func (m *measurement) enter(p phase) {
	if p == steady {
		m.steady.Store(int64(m.now()))
	}
	m.phase.Store(int32(p))
	m.progress()
}

// await waits until the condition is true, or until the time. It looks 50 times per second.
func (m *measurement) await(ctx context.Context, until time.Duration, condition func(*stats) bool) {
	looks := time.NewTicker(20 * time.Millisecond)
	defer looks.Stop()
	for ctx.Err() == nil && m.now() < until {
		s := m.brief()
		if condition(&s) {
			return
		}
		if m.now()-m.shown >= time.Second {
			m.progress()
		}
		select {
		case <-looks.C:
		case <-ctx.Done():
		}
	}
}

// brief returns the figures that await needs.
func (m *measurement) brief() (all stats) {
	for _, l := range m.loops {
		l.mu.Lock()
		all.attempts += l.stats.attempts
		all.open += l.stats.open
		all.flight += l.stats.flight
		all.dead += l.stats.dead
		all.waiting += l.stats.waiting
		all.deliveries += l.stats.deliveries
		l.mu.Unlock()
	}
	return all
}

func (m *measurement) stats() (all stats) {
	for _, l := range m.loops {
		l.mu.Lock()
		all.add(&l.stats)
		l.mu.Unlock()
	}
	return all
}

// measure stores the usage of the processes.
func (m *measurement) measure(index int) {
	var own, err error
	m.load[index], own = usageOf([]int{os.Getpid()})
	m.measurable = own == nil
	m.server[index], err = usageOf(m.PIDs)
	m.gone = errors.Join(m.gone, err)
}

// each calls f for each client, with the lock of its loop.
func (m *measurement) each(f func(*client)) {
	for _, l := range m.loops {
		l.mu.Lock()
		for _, c := range l.clients {
			f(c)
		}
		l.mu.Unlock()
	}
}

// behind returns the number of clients with a stream that will receive further messages.
func (m *measurement) behind() (n int) {
	last := make([]int64, len(m.rooms))
	for i, r := range m.rooms {
		last[i], _ = r.end()
	}
	m.each(func(c *client) {
		if c.state == open && !c.sequence.complete(last[c.room.index]) {
			n++
		}
	})
	return n
}

// drained returns the condition that ends the drain phase: no client is about to connect, and each
// one has all its messages, or nothing has happened for drainQuiet.
func (m *measurement) drained() func(*stats) bool {
	deliveries, clients, at := int64(0), 0, m.now() // clients is the largest number so far
	return func(s *stats) bool {
		if s.deliveries != deliveries || s.open > clients {
			deliveries, clients, at = s.deliveries, max(clients, s.open), m.now()
			return false
		}
		return s.flight+s.waiting == 0 && m.behind() == 0 || m.now()-at > drainQuiet
	}
}

// counts compares the user counts that the clients hold with the numbers of connections in their
// rooms, or with those of users, if more clients hold these: the server counts one or the other.
func (m *measurement) counts() *Counts {
	type tally struct {
		connections int
		users       map[string]bool
		held        map[int]int // clients by count
	}
	rooms := make([]tally, len(m.rooms))
	for i := range rooms {
		rooms[i] = tally{users: map[string]bool{}, held: map[int]int{}}
	}
	m.each(func(c *client) {
		if t := &rooms[c.room.index]; c.state == open {
			t.connections++
			t.users[m.users[c.token]] = true
			t.held[c.count]++
		}
	})
	all, connections, users := &Counts{Least: math.MaxInt}, 0, 0
	for _, t := range rooms {
		all.Wrong += t.connections
		connections += t.held[t.connections]
		users += t.held[len(t.users)]
		for n := range t.held {
			all.Least, all.Most = min(all.Least, n), max(all.Most, n)
		}
	}
	if all.Wrong == 0 {
		all.Least = 0
	}
	all.Right = max(connections, users)
	all.Wrong -= all.Right
	return all
}

// usersOf returns the user of each token: its claim sub, or the token itself if it is no JSON Web
// Token.
func usersOf(tokens []string) map[string]string {
	users := map[string]string{}
	for _, token := range tokens {
		users[token] = token
		if parts := strings.Split(token, "."); len(parts) == 3 {
			var claims struct{ Sub string }
			payload, err := base64.RawURLEncoding.DecodeString(parts[1])
			if err == nil && json.Unmarshal(payload, &claims) == nil && claims.Sub != "" {
				users[token] = claims.Sub
			}
		}
	}
	return users
}

func (m *measurement) report() *Report {
	r, s := m.shared, m.stats()
	report := &Report{
		Target: r.Target, URL: r.URL, Clients: r.Clients, Rooms: r.Rooms,
		Ramp: secondsOf(m.rampedAt), Steady: secondsOf(m.steadiedAt - m.rampedAt),
		Connected: s.open, Connections: s.attempts, Failed: s.failed, Details: s.details, Ended: s.ended,
		Churned: s.churned, Resumed: s.resumed, Resets: s.resets,
		Refused: sum(nil, m.senders.refused), Deliveries: s.deliveries,
		Lost: s.lost, Duplicated: s.duplicated, OutOfOrder: s.outOfOrder, Strays: s.strays,
		JoinToOpen: distributionOf(&s.toOpen), JoinToCount: distributionOf(&s.toCount), SendToReceipt: distributionOf(&s.toReceipt),
		Bytes: s.bytes,
	}
	last, unsure := make([]int64, len(r.rooms)), make([][]span, len(r.rooms))
	for i, room := range r.rooms {
		last[i], unsure[i] = room.end()
		report.Accepted += room.accepted
		for _, u := range unsure[i] {
			report.Unsure += u.size()
		}
	}
	m.each(func(c *client) {
		end := c.sequence.last
		if c.state == open {
			end = last[c.room.index]
		}
		report.Lost += c.sequence.missing(end).count(unsure[c.room.index])
	})
	delivered := m.steadied.deliveries - m.ramped.deliveries
	if steady := m.steadiedAt - m.rampedAt; steady > 0 {
		report.PerSecond = float64(report.Accepted) / steady.Seconds()
		report.Delivered = float64(delivered) / steady.Seconds()
	}
	if m.measurable {
		report.Load = usageFrom(m.load, m.ramped.open, delivered)
	}
	if m.gone != nil {
		report.ServerGone = m.gone.Error()
	} else if len(r.PIDs) > 0 {
		report.Server = usageFrom(m.server, m.ramped.open, delivered)
	}
	return report
}

// progress reports the state of the run.
func (m *measurement) progress() {
	r := m.shared
	if m.shown = r.now(); r.Progress == nil {
		return
	}
	s := m.stats()
	r.Progress(Progress{
		Phase: r.phaseNow().String(), Elapsed: m.shown,
		Share:     min(1, float64(m.shown)/float64(m.ends+time.Second)),
		Connected: s.open, Deliveries: s.deliveries, Lost: s.lost, P99: s.toReceipt.at(0.99),
	})
}
