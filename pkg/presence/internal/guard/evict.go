package guard

import (
	"net/http"
	"time"
)

// phase ranks connections for eviction. The lowest phase is evicted first. The package comment
// lists the phases.
type phase int

const (
	unfinished phase = iota
	idleLong
	partial
	lazy
	idleOnce
	idleShort
	phases
)

const (
	// gracePeriod is the time that a connection may be in a phase before it can be evicted. In a
	// burst of joins, a client may be slow to send its request.
	gracePeriod = time.Second
	longIdle    = 5 * time.Second

	// During a flood, the grace period is shorter, so that new clients do not queue behind the
	// attacker's connections. TLS connections have more time, because a handshake needs round trips
	// and CPU time of the server.
	floodGrace    = 50 * time.Millisecond
	floodGraceTLS = 300 * time.Millisecond
	// A flood begins when a quarter of MaxIdle (at least 16) is evicted within a second in the
	// phases unfinished, partial or idleOnce. It lasts for floodTime.
	floodTime = 10 * time.Second
)

// flood detects an attacker that keeps reconnecting, by the rate of evictions. A burst of
// legitimate joins does not count, because it causes no evictions.
type flood struct {
	evicted int
	since   time.Time // start of the second in which evicted is counted
	until   time.Time // end of the flood
}

// note counts an eviction. If the rate of evictions is too high, it starts or extends the flood.
func (f *flood) note(maxIdle int, now time.Time) {
	if now.Sub(f.since) > time.Second {
		f.evicted, f.since = 0, now
	}
	if f.evicted++; f.evicted >= max(16, maxIdle/4) {
		f.until = now.Add(floodTime)
	}
}

// gracePeriod returns the time that the connection may be in the phase before it can be evicted.
func (f *flood) gracePeriod(c *Conn, p phase, now time.Time) time.Duration {
	switch {
	case p == lazy:
		return 0 // it has already had its 15 s
	case p == idleShort || now.After(f.until):
		return gracePeriod
	case c.secure:
		return floodGraceTLS
	}
	return floodGrace
}

// phaseLocked returns the phase of the connection and the time at which the phase began. If the
// connection is busy, ok is false.
func (c *Conn) phaseLocked(now time.Time) (p phase, since time.Time, ok bool) {
	since = c.since
	began := c.began.Load()
	switch {
	case len(c.streams) > 0 || c.closing && !c.progress.lazy:
		return 0, since, false
	case c.closing:
		p = lazy
	case c.state == http.StateNew || c.http2 && !c.sentRequest && c.state == http.StateIdle:
		p = unfinished
	case c.state == http.StateIdle && (c.http2 || began == 0):
		if c.progress.unacked {
			return lazy, since, c.progress.lazy
		}
		switch p = idleShort; {
		case now.Sub(since) >= longIdle:
			p = idleLong
		case c.served <= 1:
			p = idleOnce
		}
	case c.state == http.StateIdle: // in the middle of a header
		p, since = partial, time.Unix(0, began)
	case c.bodies > 0 && c.bodies >= len(c.answers): // in the middle of a body, without a response
		p = partial
		if !c.sentRequest {
			p = unfinished
		}
	default:
		return lazy, since, c.progress.lazy
	}
	return p, since, true
}

// evict removes a connection from the count, to free a slot, and returns it for the caller to end.
// It returns nil if no connection can be evicted. unacked reports whether the peer of the
// connection still has data to acknowledge.
func (g *Guard) evict(now time.Time) (victim *Conn, unacked bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	spared := map[*Conn]bool{}
	for {
		var p phase
		victim, p = g.victimLocked(now, spared)
		if victim == nil {
			return nil, false
		}
		if !victim.closing && !victim.shut() {
			spared[victim] = true
			continue
		}
		if p == unfinished || p == partial || p == idleOnce {
			g.flood.note(g.config.MaxIdle, now)
		}
		g.removeLocked(victim)
		return victim, victim.progress.unacked
	}
}

// victimLocked returns the connection to evict. It has the lowest phase of those whose grace period
// has passed, and is the oldest in this phase. An idleShort connection is spared while an
// unfinished or partial connection is in its grace period, because the idleShort connection may
// belong to a proxy.
func (g *Guard) victimLocked(now time.Time, spared map[*Conn]bool) (first *Conn, best phase) {
	best = phases
	var since time.Time
	others := false
	for c := range g.conns {
		p, s, ok := c.phaseLocked(now)
		switch {
		case !ok || spared[c]:
		case now.Sub(s) < g.flood.gracePeriod(c, p, now):
			others = others || p == unfinished || p == partial
		case p < best || p == best && s.Before(since):
			first, best, since = c, p, s
		}
	}
	if best == idleShort && others {
		return nil, phases
	}
	return first, best
}
