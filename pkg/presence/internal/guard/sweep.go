package guard

import (
	"time"

	"example.com/presence/pkg/presence/internal/socket"
)

const (
	// every is how often all connections are looked at.
	every = time.Second
	// window is the time in which a peer must acknowledge minProgress bytes.
	window      = 15 * time.Second
	minProgress = 8 << 10
	// A peer that takes less than lazyProgress in the window is lazy.
	lazyProgress = 32 << 10
	// orphanTime is the time of a peer whose last stream ended while it took
	// nothing.
	orphanTime = 5 * time.Second
)

// progress is how a peer acknowledges what it is sent.
type progress struct {
	owes   bool // something is not acknowledged
	lazy   bool // less than lazyProgress was acknowledged in the last window
	acked  uint64
	since  time.Time // when acked was noted
	last   uint64    // acked at the start of the window for lazy
	lastAt time.Time
}

// see notes the pulse, and reports whether the peer made progress of least bytes
// within the last window, or owes nothing.
func (p *progress) see(pulse socket.Pulse, least uint64, now time.Time) bool {
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
	return now.Sub(p.since) < window
}

// sweep looks at all connections once a second, while there are any.
func (g *Guard) sweep() {
	ticks := time.NewTicker(every)
	defer ticks.Stop()
	var conns []*Conn
	for now := range ticks.C {
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

// review ends the connection or answers of it that make no progress.
func (c *Conn) review(now time.Time) {
	p := c.pulse()
	g := c.guard
	g.mu.Lock()
	if _, counted := g.conns[c]; !counted {
		g.mu.Unlock()
		return
	}
	least := uint64(minProgress)
	if c.streams > 0 { // a stream's own rules ask for more
		least = 1
	}
	moves := c.progress.see(p, least, now)
	late := !c.until.IsZero() && now.After(c.until) && len(c.answers) == 0 && c.streams == 0
	var abort []*Answer
	for _, a := range c.answers {
		if !a.review(c.progress, now) {
			abort = append(abort, a)
		}
	}
	over := c.closing && !c.progress.owes
	http1 := !c.http2
	g.mu.Unlock()

	switch {
	case over:
		c.end()
	case p.Queued() > 0 && (!moves || late || p.Lost(g.config.Patience)):
		c.reset()
	case len(abort) > 0 && http1: // its one answer has had its time
		c.reset()
	default:
		for _, a := range abort {
			a.abort()
		}
	}
}
