package hub

import (
	"maps"
	"slices"
	"time"

	"example.com/presence/pkg/presence/internal/input"
	"example.com/presence/pkg/presence/room"
)

// announce sets the label and the settings of this node. The previous map of values does not
// change, because a heartbeat may hold it.
func (p *peers) announce(label string, settings []Setting) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.label = label; slices.Equal(p.settings, settings) {
		return
	}
	p.settings, p.values = settings, map[string]string{}
	for _, s := range settings {
		p.values[s.Name] = s.Value
	}
}

// meet records the label of a live peer. It returns the settings that differ, and whether the two
// nodes have had the same label for twinTime. A pair of nodes reports each difference once until
// their values are equal again: the node with the lower id does. Nothing else of the heartbeat is
// kept, so a peer cannot fill the memory.
func (p *peers) meet(b heartbeat, now time.Time) (differ []difference, twin bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := p.meetingLocked(b.From, now)
	if b.Label != "" {
		m.label = b.Label
	}
	if p.self > b.From {
		return nil, false
	}
	for _, s := range p.settings {
		other, has := b.Settings[s.Name]
		if has && other == s.Value {
			m.told = slices.DeleteFunc(m.told, func(name string) bool { return name == s.Name })
		}
		if has && other != s.Value && input.PlainBytes(other, maxSetting) && !slices.Contains(m.told, s.Name) && p.reports.take(now) {
			m.told = append(m.told, s.Name)
			differ = append(differ, difference{s, other})
		}
	}
	if p.label != "" && m.label == p.label && !m.isTwin && now.Sub(m.since) >= twinTime && now.Sub(p.started) >= twinTime && p.reports.take(now) {
		m.isTwin, twin = true, true
	}
	return differ, twin
}

// meetingLocked returns the meeting with a live peer. It keeps those with at most maxPeers peers
// that have ended: they may only have been cut off.
func (p *peers) meetingLocked(node room.NodeID, now time.Time) *meeting {
	m := p.met[node]
	if m == nil {
		if len(p.met) >= 2*maxPeers {
			maps.DeleteFunc(p.met, func(node room.NodeID, _ *meeting) bool { _, live := p.last[node]; return !live })
		}
		m = &meeting{}
		p.met[node] = m
	}
	if m.since.IsZero() {
		m.since = now
	}
	return m
}

// mayLog counts a log line about a peer that was found or has ended, and reports whether it may be
// logged.
func (p *peers) mayLog(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.changes.take(now)
}

// labelOf returns the label of a peer, or "" if it is not known.
func (p *peers) labelOf(node room.NodeID) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if m := p.met[node]; m != nil {
		return m.label
	}
	return ""
}
