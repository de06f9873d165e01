package guard

import (
	"net/http"
	"time"
)

// phase is the order in which connections are evicted; see the package comment.
type phase int

const (
	unfinished phase = iota
	idleLong
	partial
	lazy
	idleShort
	phases
)

const (
	// grace is for how long a connection may be in each phase before it is
	// evicted: over a slow network a TLS handshake takes most of a second.
	grace    = time.Second
	longIdle = 5 * time.Second
)

// phaseLocked returns the connection's phase and since when it is in it; ok is
// false while it is busy.
func (c *Conn) phaseLocked(now time.Time) (p phase, since time.Time, ok bool) {
	since = c.since
	began := c.began.Load()
	switch {
	case len(c.streams) > 0 || c.closing && !c.progress.lazy:
		return 0, since, false
	case c.closing:
		p = lazy
	case c.state == http.StateNew || c.http2 && !c.whole && c.state == http.StateIdle:
		p = unfinished
	case c.state == http.StateIdle && (c.http2 || began == 0):
		if c.progress.owes {
			return lazy, since, c.progress.lazy
		}
		p = idleShort
		if now.Sub(since) >= longIdle {
			p = idleLong
		}
	case c.state == http.StateIdle: // in the middle of a header
		p, since = partial, time.Unix(0, began)
	case c.bodies > 0 && c.bodies >= len(c.answers): // of a body, and no answer is under way
		p = partial
		if !c.whole {
			p = unfinished
		}
	default:
		return lazy, since, c.progress.lazy
	}
	return p, since, true
}

// evict takes the connection out of account that is to end for a newcomer, and
// returns it and whether its peer is owed something; nil if there is none.
func (g *Guard) evict(now time.Time) (victim *Conn, owed bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	spared := map[*Conn]bool{}
	for {
		victim = g.victimLocked(now, spared)
		if victim == nil {
			return nil, false
		}
		if !victim.closing && !victim.shut() {
			spared[victim] = true
			continue
		}
		g.removeLocked(victim)
		return victim, victim.progress.owes
	}
}

// victimLocked returns the first connection by phase, then by time, of those that
// have been in their phase for the grace. One that is idle for less than longIdle
// is spared as long as others are still in their grace: it may be a proxy's.
func (g *Guard) victimLocked(now time.Time, spared map[*Conn]bool) *Conn {
	var first *Conn
	best, since, others := phases, time.Time{}, false
	for c := range g.conns {
		p, s, ok := c.phaseLocked(now)
		switch {
		case !ok || spared[c]:
		case p != lazy && now.Sub(s) < grace:
			others = others || p == unfinished || p == partial
		case p < best || p == best && s.Before(since):
			first, best, since = c, p, s
		}
	}
	if best == idleShort && others {
		return nil
	}
	return first
}
