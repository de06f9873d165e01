package room_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/presence/pkg/presence/room"
)

// mergeNode is one node of a random history: its room, its clock, and a simple reference model of
// everything that its room was given. A node without an own part only observes.
type mergeNode struct {
	*room.Room
	id     room.NodeID
	offset time.Duration // of its clock
	next   room.ConnID
	open   map[room.ConnID]room.UserID
	sent   [][]room.Presence // its deltas, by its own clock

	got    map[room.NodeID]int // number of deltas of each other node that it has applied
	copies map[room.NodeID]map[room.UserID]room.Presence
	bans   map[room.UserID]time.Time
	rows   int // number of rows that it has applied
	view   map[room.UserID]string
	clock  uint64 // Lamport counter
}

// row is a ban in the table, or its removal. Its time is by the true clock.
type row struct {
	user  room.UserID
	until time.Time // zero: lifted
}

type history struct {
	t     *testing.T
	rnd   *rand.Rand
	now   time.Time // the true time
	nodes []*mergeNode
	rows  []row
}

func newHistory(t *testing.T, seed uint64) *history {
	h := &history{t: t, rnd: rand.New(rand.NewPCG(seed, 0)), now: start}
	for i := range 3 + h.rnd.IntN(2) + 1 { // the last only observes
		id := room.NodeID(fmt.Sprint("n", i))
		h.nodes = append(h.nodes, &mergeNode{Room: newNode(id), id: id, offset: time.Duration(h.rnd.IntN(7200)-3600) * time.Second,
			open: map[room.ConnID]room.UserID{}, got: map[room.NodeID]int{}, view: map[room.UserID]string{},
			copies: map[room.NodeID]map[room.UserID]room.Presence{}, bans: map[room.UserID]time.Time{}})
	}
	return h
}

func (h *history) at(n *mergeNode) time.Time { return h.now.Add(n.offset) }

func (h *history) user() room.UserID { return room.UserID(fmt.Sprint("u", h.rnd.IntN(5))) }

// step makes one node act, and checks the node.
func (h *history) step() {
	n := h.nodes[h.rnd.IntN(len(h.nodes))]
	owns := n != h.nodes[len(h.nodes)-1]
	now := h.at(n)
	switch action := h.rnd.IntN(12); {
	case action < 2 && owns:
		if u := h.user(); !n.bans[u].After(now) {
			n.next++
			delete(n.bans, u)
			n.open[n.next] = u
			n.Join(n.next, room.User{ID: u, Name: fmt.Sprint(u, " at ", n.id), Info: fmt.Appendf(nil, "%d", h.rnd.IntN(100))}, now)
		}
	case action < 4 && owns:
		if open := slices.Sorted(maps.Keys(n.open)); len(open) > 0 {
			c := open[h.rnd.IntN(len(open))]
			user := n.open[c]
			delete(n.open, c)
			n.Leave(c, user, []room.Reason{room.Closed, room.Slow, room.Timeout}[h.rnd.IntN(3)], now)
		}
	case action < 5 && owns:
		n.clock++
		n.Update(h.user(), fmt.Appendf(nil, "%d", h.rnd.IntN(100)), room.Version{Counter: n.clock, Node: n.id}, now)
	case action < 6 && owns:
		h.publish(n, 1+h.rnd.IntN(3))
	case action < 9:
		h.receive(n, h.nodes[h.rnd.IntN(len(h.nodes))])
	case action < 10:
		h.now = h.now.Add(time.Duration(h.rnd.Int64N(int64(1500 * time.Millisecond))))
	case h.rnd.IntN(4) > 0:
		h.applyRow(n)
	case h.rnd.IntN(3) == 0:
		h.rows = append(h.rows, row{h.user(), h.now.Add(time.Duration(h.rnd.IntN(8)) * time.Second)})
	case h.rnd.IntN(4) == 0:
		h.rows = append(h.rows, row{user: h.user()})
	default:
		h.pull(n, h.nodes[h.rnd.IntN(len(h.nodes))])
	}
	h.check(n)
}

func (h *history) publish(n *mergeNode, limit int) {
	if n.HasDelta() {
		n.sent = append(n.sent, n.Delta(limit, h.at(n)))
	}
}

// inClockOf converts presences of another node to the clock of n.
func inClockOf(n, from *mergeNode, ps []room.Presence) []room.Presence {
	ps = slices.Clone(ps)
	for i := range ps {
		if !ps[i].Until.IsZero() {
			ps[i].Until = ps[i].Until.Add(n.offset - from.offset)
		}
	}
	return ps
}

// receive applies the next delta of a node, at times twice.
func (h *history) receive(n, from *mergeNode) {
	if n == from || n.got[from.id] == len(from.sent) {
		return
	}
	delta := inClockOf(n, from, from.sent[n.got[from.id]])
	n.got[from.id]++
	for range 1 + h.rnd.IntN(4)/3 {
		n.Apply(from.id, delta, h.at(n))
	}
	n.keep(from.id, delta)
}

// pull replaces the part of a node by its current state, which is newer than its last delta.
func (h *history) pull(n, from *mergeNode) {
	if n == from {
		return
	}
	var all []room.Presence
	for after, more := room.UserID(""), true; more; {
		var page []room.Presence
		if page, more = from.Own(after, 2, h.at(from)); len(page) > 0 {
			after = page[len(page)-1].ID
		}
		all = append(all, page...)
	}
	all = inClockOf(n, from, all)
	n.got[from.id] = len(from.sent)
	n.Replace(from.id, all, h.at(n))
	n.copies[from.id] = nil
	n.keep(from.id, all)
}

func (n *mergeNode) keep(node room.NodeID, ps []room.Presence) {
	if n.copies[node] == nil {
		n.copies[node] = map[room.UserID]room.Presence{}
	}
	for _, p := range ps {
		n.copies[node][p.ID] = p
		n.clock = max(n.clock, p.Version.Counter)
	}
}

// applyRow applies the next row of the table.
func (h *history) applyRow(n *mergeNode) {
	if n.rows == len(h.rows) {
		return
	}
	r := h.rows[n.rows]
	n.rows++
	if r.until.IsZero() {
		delete(n.bans, r.user)
		n.Lift(r.user, h.at(n))
		return
	}
	n.bans[r.user] = r.until.Add(n.offset)
	maps.DeleteFunc(n.open, func(_ room.ConnID, u room.UserID) bool { return u == r.user })
	n.Ban(r.user, n.bans[r.user], h.at(n))
}

// check compares the view and the totals of a node with those that the reference model counts.
func (h *history) check(n *mergeNode) {
	h.t.Helper()
	now := h.at(n)
	n.Expire(now)
	own, _ := n.Own("", 100, now)
	n.copies[n.id] = nil
	n.keep(n.id, own)
	want := n.members(now)
	got, _ := n.Members("", 100)
	if a, b := asText(got), asText(want); a != b {
		h.t.Fatalf("view of %s:\ngot  %s\nwant %s", n.id, a, b)
	}
	sum := 0
	for _, m := range want {
		sum += m.Connections
	}
	if n.Connections() != sum || n.Users() != len(want) || n.OwnConnections() != len(n.open) {
		h.t.Fatalf("%s: got %d connections, %d users, %d own connections; want %d, %d, %d",
			n.id, n.Connections(), n.Users(), n.OwnConnections(), sum, len(want), len(n.open))
	}
	for node, copies := range n.copies {
		users, connections := 0, 0
		for _, p := range copies {
			users, connections = users+min(1, p.Connections), connections+p.Connections
		}
		if u, c := n.Totals(node); u != users || c != connections {
			h.t.Fatalf("%s: part of %s: got %d users, %d connections, want %d, %d", n.id, node, u, c, users, connections)
		}
	}
	h.replay(n, got)
}

// members merges the copies of the parts by the rules of the package.
func (n *mergeNode) members(now time.Time) []room.Member {
	type stakes struct {
		best        room.Presence
		node        room.NodeID
		connections int
		since       time.Time
	}
	merged := map[room.UserID]stakes{}
	for _, node := range slices.Sorted(maps.Keys(n.copies)) {
		for u, p := range n.copies[node] {
			if p.Connections == 0 && !p.Until.After(now) || n.bans[u].After(now) {
				continue
			}
			s, there := merged[u]
			s.connections += p.Connections
			if !there || p.Since.Before(s.since) {
				s.since = p.Since
			}
			better := cmp.Or(cmp.Compare(p.Version.Counter, s.best.Version.Counter), cmp.Compare(p.Version.Node, s.best.Version.Node))
			if !there || better > 0 || better == 0 && p.Since.Before(s.best.Since) {
				s.best, s.node = p, node
			}
			merged[u] = s
		}
	}
	members := []room.Member{}
	for _, u := range slices.Sorted(maps.Keys(merged)) {
		s := merged[u]
		members = append(members, room.Member{ID: u, Name: s.best.Name, Info: s.best.Info, Connections: s.connections, Since: s.since})
	}
	return members
}

func asText(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// replay applies the news as a client does: a leave and a join of one user alternate.
func (h *history) replay(n *mergeNode, members []room.Member) {
	h.t.Helper()
	if h.rnd.IntN(3) == 0 {
		return
	}
	for _, c := range n.News(h.at(n)).Changes {
		before, here := n.view[c.Member.ID]
		if here == (c.Event == room.EventJoin) {
			h.t.Fatalf("%s: %s of %s, which is in the view: %v", n.id, c.Event, c.Member.ID, here)
		}
		name, _, _ := strings.Cut(before, "|")
		if c.Event == room.EventJoin || c.Renamed {
			name = c.Member.Name
		}
		if n.view[c.Member.ID] = name + "|" + string(c.Member.Info); c.Event == room.EventLeave {
			delete(n.view, c.Member.ID)
		}
	}
	want := map[room.UserID]string{}
	for _, m := range members {
		want[m.ID] = m.Name + "|" + string(m.Info)
	}
	if !maps.Equal(n.view, want) {
		h.t.Fatalf("client of %s: got %v, want %v", n.id, n.view, want)
	}
}

// settle delivers everything, including the records that nodes adopt, and compares all views.
func (h *history) settle() {
	h.t.Helper()
	for busy := true; busy; {
		busy = false
		for _, n := range h.nodes {
			for ; n.rows < len(h.rows); busy = true {
				h.applyRow(n)
			}
			for ; n.HasDelta(); busy = true {
				h.publish(n, 100)
			}
			for _, from := range h.nodes {
				for ; n != from && n.got[from.id] < len(from.sent); busy = true {
					h.receive(n, from)
				}
			}
		}
	}
	h.compare()
	h.now = h.now.Add(10 * time.Second) // all grace periods and bans end
	h.compare()
}

// compare checks that all nodes have the same view, and so has a node that pulls all parts.
func (h *history) compare() {
	h.t.Helper()
	for _, n := range h.nodes {
		n.Expire(h.at(n))
	}
	last := h.nodes[len(h.nodes)-1]
	late := &mergeNode{Room: newNode("late"), id: "late", offset: -time.Hour, got: map[room.NodeID]int{}, bans: map[room.UserID]time.Time{},
		copies: map[room.NodeID]map[room.UserID]room.Presence{}, view: map[room.UserID]string{}}
	for ; late.rows < len(h.rows); late.rows++ {
		if r := h.rows[late.rows]; r.until.IsZero() {
			late.Lift(r.user, h.at(late))
			delete(late.bans, r.user)
		} else {
			late.bans[r.user] = r.until.Add(late.offset)
			late.Ban(r.user, late.bans[r.user], h.at(late))
		}
	}
	for _, n := range h.nodes[:len(h.nodes)-1] {
		h.pull(late, n)
	}
	for _, n := range append(h.nodes, late) {
		h.check(n)
		got, _ := n.Members("", 100)
		if want, _ := last.Members("", 100); asText(got) != asText(want) {
			h.t.Fatalf("view of %s and of %s:\n%s\n%s", n.id, last.id, asText(got), asText(want))
		}
		if n.Connections() != last.Connections() || n.HasDelta() {
			h.t.Fatalf("%s: got %d connections, delta %v; want %d, false", n.id, n.Connections(), n.HasDelta(), last.Connections())
		}
	}
}

// Several nodes join, leave, update and ban users at random. Each node receives the deltas of each
// other node in order, but late, at times twice, and interleaved in any way. Each view is that
// function of the received parts, the bans and the time which the reference model computes. When
// everything has arrived, all views are equal.
func TestMergeOrder(t *testing.T) {
	seed := rand.Uint64()
	for i := range uint64(150) {
		t.Run(fmt.Sprint("seed ", seed+i), func(t *testing.T) {
			h := newHistory(t, seed+i)
			for range 300 {
				h.step()
			}
			h.settle()
		})
	}
}
