package hub_test

import (
	"slices"
	"sync"

	"example.com/presence/pkg/presence/room"
)

// simCounts records the user counts that a node computes for each room, under the lock of the room.
type simCounts struct {
	mu    sync.Mutex // guards rooms and the sequences
	rooms map[*room.Room]*[]int
}

func newSimCounts() *simCounts { return &simCounts{rooms: map[*room.Room]*[]int{}} }

func (s *simCounts) wrap(count func(*room.Room) int) func(*room.Room) int {
	return func(one *room.Room) int {
		n, seq := count(one), s.of(one)
		s.mu.Lock()
		defer s.mu.Unlock()
		if k := len(*seq); k == 0 || (*seq)[k-1] != n {
			*seq = append(*seq, n)
		}
		return n
	}
}

// of returns the counts of a room, without repetitions.
func (s *simCounts) of(one *room.Room) *[]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rooms[one] == nil {
		s.rooms[one] = new([]int)
	}
	return s.rooms[one]
}

// checkCounts checks that no count of the client is older than the count before it.
func (r *simRun) checkCounts(c *simConn) {
	if c.fakeClient == nil || c.seq == nil {
		return
	}
	c.mu.Lock()
	counts := c.counts
	c.counts = nil
	c.mu.Unlock()
	c.on.counts.mu.Lock()
	defer c.on.counts.mu.Unlock()
	for _, n := range counts {
		later := slices.Index((*c.seq)[min(c.at, len(*c.seq)):], n)
		if later < 0 {
			r.Errorf("%v got the count %d, which is older than the one before it: %d", c, n, (*c.seq)[max(0, c.at-3):])
			return
		}
		c.at += later
	}
}

// simHooks follows the hooks of a node. While the node has no client in a room, the hooks are
// called or not.
type simHooks struct {
	mu       sync.Mutex // guards the fields below
	users    map[string]map[string]simKnown
	watchers map[string]int // connections of the node, by room
}

// simKnown is the knowledge of a user in a room from the hooks.
type simKnown int

const (
	simAbsent simKnown = iota
	simUnknown
	simPresent
)

func newSimHooks() *simHooks {
	return &simHooks{users: map[string]map[string]simKnown{}, watchers: map[string]int{}}
}

func (h *simHooks) in(name string) map[string]simKnown {
	if h.users[name] == nil {
		h.users[name] = map[string]simKnown{}
	}
	return h.users[name]
}

// watch records that a connection of the node opens in the room.
func (h *simHooks) watch(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.watchers[name]++
}

// unwatch records that a connection of the node has closed.
func (h *simHooks) unwatch(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.watchers[name]--; h.watchers[name] == 0 {
		for user := range h.in(name) {
			h.in(name)[user] = simUnknown
		}
	}
}

func (h *simHooks) join(r *simRun, n *simNode, name, user string) {
	r.tracef(n.name, "OnJoin of %s in %s", user, name)
	h.change(r, n, name, user, simPresent)
}

func (h *simHooks) leave(r *simRun, n *simNode, name, user string) {
	r.tracef(n.name, "OnLeave of %s in %s", user, name)
	h.change(r, n, name, user, simAbsent)
}

func (h *simHooks) change(r *simRun, n *simNode, name, user string, to simKnown) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.watchers[name] == 0 {
		to = simUnknown
	} else if h.in(name)[user] == to {
		r.Errorf("hooks of %s: two calls of OnJoin or of OnLeave in succession for %s in %s", n.name, user, name)
	}
	h.in(name)[user] = to
}

// compare compares the users of the hooks with the members of the room.
func (h *simHooks) compare(r *simRun, n *simNode, name string, members []room.Member) {
	h.mu.Lock()
	defer h.mu.Unlock()
	here := map[string]bool{}
	for _, m := range members {
		here[string(m.ID)] = true
		if h.in(name)[string(m.ID)] == simAbsent {
			r.Errorf("hooks of %s: %s is not in %s, but it is a member", n.name, m.ID, name)
		}
		h.in(name)[string(m.ID)] = simPresent
	}
	for user, seen := range h.in(name) {
		if here[user] {
			continue
		}
		if seen == simPresent {
			r.Errorf("hooks of %s: %s is in %s, but it is no member", n.name, user, name)
		}
		h.in(name)[user] = simAbsent
	}
}
