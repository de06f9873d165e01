package guard

import (
	"net/http"
	"time"
)

// phase ranks connections for eviction, the lowest first. The package comment lists them.
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
	// grace is the time for which a connection may be in a phase before it can be evicted. In a
	// storm of joins a client may be slow to send its request.
	grace    = time.Second
	longIdle = 5 * time.Second

	// During a flood the grace is shorter, so that new clients do not queue behind the attacker's
	// connections. TLS has more time, because a handshake needs round trips and CPU of the server.
	floodGrace = 50 * time.Millisecond
	floodTLS   = 300 * time.Millisecond
	// A flood begins when a quarter of MaxIdle (at least 16) is evicted within a second in the
	// phases unfinished, partial or idleOnce. It lasts for floodTime.
	floodTime = 10 * time.Second
)

// flood detects an attacker that reconnects. In a storm of joins no connection has to be evicted.
type flood struct {
	evicted int
	since   time.Time // time of the first of them
	until   time.Time
}

// note counts an eviction. most is the limit of connections.
func (f *flood) note(most int, now time.Time) {
	if now.Sub(f.since) > time.Second {
		f.evicted, f.since = 0, now
	}
	if f.evicted++; f.evicted >= max(16, most/4) {
		f.until = now.Add(floodTime)
	}
}

// grace returns the time for which the connection may be in the phase.
func (f *flood) grace(c *Conn, p phase, now time.Time) time.Duration {
	switch {
	case p == lazy:
		return 0 // its time has passed
	case p == idleShort || now.After(f.until):
		return grace
	case c.secure:
		return floodTLS
	}
	return floodGrace
}

// phaseLocked returns the phase of the connection and its start. ok is false while it is busy.
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
		switch p = idleShort; {
		case now.Sub(since) >= longIdle:
			p = idleLong
		case c.served <= 1:
			p = idleOnce
		}
	case c.state == http.StateIdle: // a header has begun
		p, since = partial, time.Unix(0, began)
	case c.bodies > 0 && c.bodies >= len(c.answers): // a body has begun, and no response is in progress
		p = partial
		if !c.whole {
			p = unfinished
		}
	default:
		return lazy, since, c.progress.lazy
	}
	return p, since, true
}

// evict removes a connection from the count, to free a slot. It returns the connection for the
// caller to end, or nil if none can be evicted. owed reports whether its peer has not acknowledged
// everything.
func (g *Guard) evict(now time.Time) (victim *Conn, owed bool) {
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
		return victim, victim.progress.owes
	}
}

// victimLocked returns the first connection by phase, then by time, of those whose grace has
// passed. It spares idleShort while another connection is still in its grace, because the idle one
// may belong to a proxy.
func (g *Guard) victimLocked(now time.Time, spared map[*Conn]bool) (first *Conn, best phase) {
	best = phases
	var since time.Time
	others := false
	for c := range g.conns {
		p, s, ok := c.phaseLocked(now)
		switch {
		case !ok || spared[c]:
		case now.Sub(s) < g.flood.grace(c, p, now):
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
