package hub_test

import (
	"maps"
	"slices"
	"sync"
	"time"

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

// simHooks follows the hooks of a node.
type simHooks struct {
	mu       sync.Mutex                 // guards the fields below
	users    map[string]map[string]bool // users with OnJoin and without OnLeave, by room
	watchers map[string]int             // connections of the node, by room
	ended    map[string]time.Time       // when the last connection of the node has closed, by room
}

func newSimHooks() *simHooks {
	return &simHooks{users: map[string]map[string]bool{}, watchers: map[string]int{}, ended: map[string]time.Time{}}
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
	h.watchers[name]--
	h.ended[name] = time.Now()
}

func (h *simHooks) join(r *simRun, n *simNode, name, user string) {
	r.tracef(n.name, "OnJoin of %s in %s", user, name)
	h.change(r, n, name, user, true)
}

func (h *simHooks) leave(r *simRun, n *simNode, name, user string) {
	r.tracef(n.name, "OnLeave of %s in %s", user, name)
	h.change(r, n, name, user, false)
}

// change checks that the calls of OnJoin and OnLeave for one user alternate.
func (h *simHooks) change(r *simRun, n *simNode, name, user string, here bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.users[name] == nil {
		h.users[name] = map[string]bool{}
	}
	if h.users[name][user] == here {
		r.Errorf("hooks of %s: two calls of OnJoin or of OnLeave in succession for %s in %s", n.name, user, name)
	}
	if here {
		h.users[name][user] = true
	} else {
		delete(h.users[name], user)
	}
}

// compare compares the users of the hooks with the members of the room. On a node with a client the
// hooks have all members. On a node whose last client has closed for longer than the grace period
// they have none. In between they have all or none.
func (h *simHooks) compare(r *simRun, n *simNode, name string, members []room.Member) {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := map[string]bool{}
	for _, m := range members {
		all[string(m.ID)] = true
	}
	got, hasAll := h.users[name], maps.Equal(h.users[name], all)
	grace := r.model.linger + r.model.margin + time.Second
	switch served := h.watchers[name] > 0; {
	case served && !hasAll:
		r.Errorf("hooks of %s in %s: got %v, want the members %v", n.name, name, got, all)
	case !served && len(got) > 0 && time.Since(h.ended[name]) > grace:
		r.Errorf("hooks of %s in %s: got %v after the last client has left, want none", n.name, name, got)
	case !served && len(got) > 0 && !hasAll:
		r.Errorf("hooks of %s in %s without a client: got %v, want none or the members %v", n.name, name, got, all)
	}
}
