package guard

import (
	"net/http"
	"slices"
	"time"

	"example.com/presence/pkg/presence/internal/socket"
)

const (
	// sweepInterval is the time between two sweeps over all connections.
	sweepInterval = time.Second
	// window is the time in which a peer must acknowledge minProgress bytes. minProgress is 8 KiB
	// minus one segment, because a peer that reads 8 KiB at a time acknowledges whole segments.
	window      = 15 * time.Second
	minProgress = 8<<10 - 1460
	// A peer is lazy if it acknowledges less than lazyProgress in the window.
	lazyProgress = 32 << 10
	// overdueTime is the time without an acknowledgement after which a connection is reset, if all
	// its event streams are overdue, or the last one has ended. With the time of two sweeps, it is
	// less than the 10 s of promise 4.
	overdueTime = 5 * time.Second
)

// progress tracks the acknowledgements of a peer.
type progress struct {
	unacked bool      // the peer has data to acknowledge
	lazy    bool      // the peer acknowledged less than lazyProgress in the last window
	acked   uint64    // bytes acknowledged at the last progress
	since   time.Time // time of the last progress
	last    uint64    // bytes acknowledged at the start of the window for lazy
	lastAt  time.Time // start of the window for lazy
}

// update records the statistics. It returns false if the peer has data to acknowledge, but
// acknowledged fewer than least bytes in the time within.
func (p *progress) update(liveness socket.Liveness, least uint64, within time.Duration, now time.Time) bool {
	p.unacked = liveness.Queued() > 0
	if p.since.IsZero() { // the first call
		p.acked, p.since, p.last, p.lastAt = liveness.Acked, now, liveness.Acked, now
	}
	if !p.unacked {
		p.lazy = false
		p.last, p.lastAt = liveness.Acked, now
	} else if now.Sub(p.lastAt) >= window {
		p.lazy = liveness.Acked-p.last < lazyProgress
		p.last, p.lastAt = liveness.Acked, now
	}
	if !p.unacked || liveness.Acked-p.acked >= least {
		p.acked, p.since = liveness.Acked, now
	}
	return now.Sub(p.since) < within
}

// sweep reviews all connections once per second, until there are none left.
func (g *Guard) sweep() {
	ticks := time.NewTicker(sweepInterval)
	defer ticks.Stop()
	var conns []*Conn
	for {
		now := time.Now()
		select {
		case now = <-ticks.C:
		case <-g.none:
		}
		clear(conns)
		conns = conns[:0]
		g.mu.Lock()
		for c := range g.conns {
			conns = append(conns, c)
		}
		g.sweeping = len(conns) > 0
		g.mu.Unlock()
		if len(conns) == 0 {
			return
		}
		for _, c := range conns {
			c.review(now)
		}
	}
}

// finishLocked ends a connection soon after its peer has acknowledged everything, which usually
// takes a round trip. It does not wait for the sweep, because a client that opens a connection for
// each request would then fill the slots.
func (g *Guard) finishLocked(c *Conn) {
	c.closed = time.Now()
	if g.finishing = append(g.finishing, c); len(g.finishing) == 1 {
		go g.finish() // ends when finishing is empty; a connection stays in it for at most a second
	}
}

func (g *Guard) finish() {
	const soon = 25 * time.Millisecond
	ticks := time.NewTicker(soon)
	defer ticks.Stop()
	for now := range ticks.C {
		g.mu.Lock()
		conns := slices.Clone(g.finishing)
		g.mu.Unlock()
		done := map[*Conn]bool{}
		for _, c := range conns {
			if c.liveness().Queued() == 0 {
				c.end()
				done[c] = true
			} else if now.Sub(c.closed) >= sweepInterval { // the sweep handles it from now on
				done[c] = true
			}
		}
		g.mu.Lock()
		g.finishing = slices.DeleteFunc(g.finishing, func(c *Conn) bool { return done[c] })
		left := len(g.finishing)
		g.mu.Unlock()
		if left == 0 {
			return
		}
	}
}

// review ends the connection, or aborts those of its responses that make no progress.
func (c *Conn) review(now time.Time) {
	p := c.liveness()
	g := c.guard
	g.mu.Lock()
	if _, counted := g.conns[c]; !counted {
		g.mu.Unlock()
		return
	}
	least, within, streams := uint64(minProgress), window, len(c.streams) > 0
	if streams || !c.ended.IsZero() { // package stream has stricter rules, or overdueTime applies
		least, within = 1, max(window, g.config.Heartbeat)
	}
	progressing := c.progress.update(p, least, within, now)
	if !c.progress.unacked {
		c.until, c.ended = time.Time{}, time.Time{} // all that has ended is acknowledged
	}
	late := !c.until.IsZero() && now.After(c.until) && len(c.answers) == 0 && len(c.streams) == 0
	late = late || streams && now.Sub(c.progress.since) >= overdueTime &&
		!slices.ContainsFunc(c.streams, func(a *Answer) bool { return !a.overdue(now) })
	late = late || !c.ended.IsZero() && len(c.answers) == 0 && now.Sub(c.ended) >= overdueTime && now.Sub(c.progress.since) >= overdueTime
	lost := streams && p.Lost(g.config.Heartbeat*3/4)
	for _, a := range c.streams {
		a.lost.Store(lost)
	}
	var abort []*Answer
	for _, a := range c.answers {
		if !a.review(c.progress, !streams, now) {
			abort = append(abort, a)
		}
	}
	done := c.closing && !c.progress.unacked
	// net/http limits the time of the first request header only over HTTP/1.
	headerLate := !c.sentRequest && c.state == http.StateIdle && len(c.answers) == 0 && len(c.streams) == 0 && now.Sub(c.since) >= headerTime
	g.mu.Unlock()

	switch {
	case done || headerLate && c.shut():
		c.end()
	case p.Queued() > 0 && (!progressing || late || lost):
		c.reset()
	default:
		for _, a := range abort {
			a.abort()
		}
	}
}
