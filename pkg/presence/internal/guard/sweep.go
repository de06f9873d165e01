package guard

import (
	"net/http"
	"slices"
	"time"

	"example.com/presence/pkg/presence/internal/socket"
)

const (
	// every is the time between two sweeps over all connections.
	every = time.Second
	// window is the time in which a peer must acknowledge minProgress bytes. That is 8 KiB less one
	// segment, because a peer that reads 8 KiB at once acknowledges segments.
	window      = 15 * time.Second
	minProgress = 8<<10 - 1460
	// A peer that acknowledges less than lazyProgress in the window is lazy.
	lazyProgress = 32 << 10
	// overdueTime is the time for a peer that acknowledges nothing, not even the end of an event
	// stream.
	overdueTime = 5 * time.Second
)

// progress records the acknowledgements of a peer.
type progress struct {
	owes   bool // something is not acknowledged
	lazy   bool // less than lazyProgress was acknowledged in the last window
	acked  uint64
	since  time.Time // when acked was recorded
	last   uint64    // acked at the start of the window for lazy
	lastAt time.Time
}

// see records the pulse. It reports whether the peer acknowledged least bytes in the time within,
// or has nothing left to acknowledge.
func (p *progress) see(pulse socket.Pulse, least uint64, within time.Duration, now time.Time) bool {
	p.owes = pulse.Queued() > 0
	if p.since.IsZero() { // the first look
		p.acked, p.since, p.last, p.lastAt = pulse.Acked, now, pulse.Acked, now
	}
	if !p.owes {
		p.lazy = false
		p.last, p.lastAt = pulse.Acked, now
	} else if now.Sub(p.lastAt) >= window {
		p.lazy = pulse.Acked-p.last < lazyProgress
		p.last, p.lastAt = pulse.Acked, now
	}
	if !p.owes || pulse.Acked-p.acked >= least {
		p.acked, p.since = pulse.Acked, now
	}
	return now.Sub(p.since) < within
}

// sweep reviews all connections once per second, while there are any.
func (g *Guard) sweep() {
	ticks := time.NewTicker(every)
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
// takes a round trip. If it waited for the sweep, a client that opens a connection for each request
// would fill the slots.
func (g *Guard) finishLocked(c *Conn) {
	c.closed = time.Now()
	if g.finishing = append(g.finishing, c); len(g.finishing) == 1 {
		go g.finish() // ends when none is left; each stays for at most a second
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
			if c.pulse().Queued() == 0 {
				c.end()
				done[c] = true
			} else if now.Sub(c.closed) >= every { // the sweep continues
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

// review ends the connection, or those of its responses that make no progress.
func (c *Conn) review(now time.Time) {
	p := c.pulse()
	g := c.guard
	g.mu.Lock()
	if _, counted := g.conns[c]; !counted {
		g.mu.Unlock()
		return
	}
	least, within, streams := uint64(minProgress), window, len(c.streams) > 0
	if streams { // the stream's own rules are stricter
		least, within = 1, max(window, g.config.Heartbeat)
	}
	moves := c.progress.see(p, least, within, now)
	if !c.progress.owes {
		c.until = time.Time{} // those responses are acknowledged
	}
	late := !c.until.IsZero() && now.After(c.until) && len(c.answers) == 0 && len(c.streams) == 0
	late = late || streams && now.Sub(c.progress.since) >= overdueTime &&
		!slices.ContainsFunc(c.streams, func(a *Answer) bool { return !a.overdue(now) })
	var abort []*Answer
	for _, a := range c.answers {
		if !a.review(c.progress, !streams, now) {
			abort = append(abort, a)
		}
	}
	over := c.closing && !c.progress.owes
	// net/http limits the time of a first header only over HTTP/1.
	tardy := !c.whole && c.state == http.StateIdle && len(c.answers) == 0 && len(c.streams) == 0 && now.Sub(c.since) >= headerTime
	http1 := !c.http2
	g.mu.Unlock()

	switch {
	case over || tardy && c.shut():
		c.end()
	case p.Queued() > 0 && (!moves || late || streams && p.Lost(g.config.Heartbeat*3/4)):
		c.reset()
	case len(abort) > 0 && http1: // its only response has had its time
		c.reset()
	default:
		for _, a := range abort {
			a.abort()
		}
	}
}
