package room_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"example.com/presence/pkg/presence/room"
)

// newNode returns a room of a node that has peers. Its grace period is 5 s.
func newNode(node room.NodeID) *room.Room {
	r := room.NewShared(room.Config{Linger: 4500 * time.Millisecond, MemberLimit: 500}, node, 500*time.Millisecond)
	return &r
}

func seconds(n float64) time.Time { return at(time.Duration(n * float64(time.Second))) }

// viewOf returns the members of a room in a short form, for example: alice Alice {} 2 since 1s
func viewOf(r *room.Room) string {
	var lines []string
	members, _ := r.Members("", 1000)
	for _, m := range members {
		lines = append(lines, fmt.Sprintf("%s %s %s %d since %v", m.ID, m.Name, m.Info, m.Connections, m.Since.Sub(start)))
	}
	return strings.Join(lines, ", ")
}

// partOf returns presences in a short form.
func partOf(ps []room.Presence) string {
	var lines []string
	for _, p := range ps {
		switch {
		case p.Connections > 0:
			lines = append(lines, fmt.Sprintf("%s %s %s %d since %v v%d", p.ID, p.Name, p.Info, p.Connections, p.Since.Sub(start), p.Version.Counter))
		case p.Until.IsZero():
			lines = append(lines, fmt.Sprintf("%s gone:%s", p.ID, p.Reason))
		default:
			lines = append(lines, fmt.Sprintf("%s until %v:%s", p.ID, p.Until.Sub(start), p.Reason))
		}
	}
	return strings.Join(lines, ", ")
}

// apply applies the changes of one node's room to the rooms of others.
func apply(from *room.Room, node room.NodeID, now time.Time, to ...*room.Room) {
	for from.HasDelta() {
		delta := from.Delta(100, now)
		for _, r := range to {
			r.Apply(node, delta, now)
		}
	}
}

func expectText(t *testing.T, name, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %q, want %q", name, got, want)
	}
}

// stake is the presence of alice in the part of one node.
type stake struct {
	node        room.NodeID
	name        string
	version     uint64
	since       float64 // seconds
	connections int
	until       float64 // seconds
	reason      room.Reason
}

func (s stake) presence() room.Presence {
	p := room.Presence{ID: "alice", Name: s.name, Info: []byte(`"` + s.name + `"`), Since: seconds(s.since),
		Connections: s.connections, Reason: s.reason}
	if s.version > 0 {
		p.Version = room.Version{Counter: s.version, Node: s.node}
	}
	if s.until > 0 {
		p.Until = seconds(s.until)
	}
	return p
}

// merges lists the rules of a view. The view is that at 10 s.
var merges = []struct {
	name   string
	stakes []stake
	view   string
	end    string // news when all grace periods have ended
}{
	{name: "one part", stakes: []stake{{"a", "A", 0, 1, 2, 0, ""}}, view: `alice A "A" 2 since 1s`},
	{name: "the sum", stakes: []stake{{"a", "A", 0, 1, 2, 0, ""}, {"b", "A", 0, 1, 3, 0, ""}}, view: `alice A "A" 5 since 1s`},
	{name: "the earliest time, and its record", stakes: []stake{{"a", "A", 0, 2, 1, 0, ""}, {"b", "B", 0, 1, 1, 0, ""}},
		view: `alice B "B" 2 since 1s`},
	{name: "the lowest node of two equal records of tokens", stakes: []stake{{"b", "B", 0, 1, 1, 0, ""}, {"a", "A", 0, 1, 1, 0, ""}},
		view: `alice A "A" 2 since 1s`},
	{name: "the highest version, and the earliest time", view: `alice B "B" 3 since 1s`,
		stakes: []stake{{"a", "A", 2, 1, 1, 0, ""}, {"b", "B", 3, 2, 1, 0, ""}, {"c", "C", 0, 3, 1, 0, ""}}},
	{name: "the highest node of two equal counters", stakes: []stake{{"a", "A", 3, 1, 1, 0, ""}, {"b", "B", 3, 2, 1, 0, ""}},
		view: `alice B "B" 2 since 1s`},
	{name: "the record of a grace period", stakes: []stake{{"a", "A", 5, 1, 0, 11, "slow"}, {"b", "B", 1, 2, 1, 0, ""}},
		view: `alice A "A" 1 since 1s`, end: `alice="B"`},
	{name: "a grace period alone", stakes: []stake{{"a", "A", 0, 1, 0, 11, "slow"}}, view: `alice A "A" 0 since 1s`, end: "-alice:slow"},
	{name: "the reason of the latest grace period", view: `alice A "A" 0 since 1s`, end: "-alice:timeout",
		stakes: []stake{{"a", "A", 0, 1, 0, 11, "slow"}, {"b", "A", 0, 1, 0, 12, "timeout"}, {"c", "A", 0, 1, 0, 11.5, "expired"}}},
	{name: "a grace period that has ended is not used", stakes: []stake{{"a", "A", 9, 1, 0, 10, "slow"}, {"b", "B", 1, 2, 1, 0, ""}},
		view: `alice B "B" 1 since 2s`},
	{name: "a user that has left a part", stakes: []stake{{"a", "", 0, 0, 0, 0, "closed"}, {"b", "B", 1, 2, 1, 0, ""}},
		view: `alice B "B" 1 since 2s`},
	{name: "a user that has left all parts", stakes: []stake{{"a", "", 0, 0, 0, 0, "closed"}, {"b", "B", 0, 1, 0, 9, "slow"}}},
}

// The view of a room is a function of the parts: the order in which they arrive has no effect.
func TestMergeRules(t *testing.T) {
	for _, test := range merges {
		for order := range permutations(len(test.stakes)) {
			r := newNode("observer")
			for _, i := range order {
				r.Apply(test.stakes[i].node, []room.Presence{test.stakes[i].presence()}, seconds(10))
			}
			name := fmt.Sprint(test.name, ", order ", order)
			expectText(t, name, viewOf(r), test.view)
			newsOf(r, seconds(10))
			r.Expire(seconds(20))
			expectText(t, name+", at the end", newsOf(r, seconds(20)), test.end)
			if r.HasDelta() {
				t.Errorf("%s: a node without the user has a delta: %s", name, partOf(r.Delta(10, seconds(20))))
			}
		}
	}
}

// permutations returns all orders of the numbers below n.
func permutations(n int) func(yield func([]int) bool) {
	return func(yield func([]int) bool) {
		var extend func(order []int) bool
		extend = func(order []int) bool {
			if len(order) == n {
				return yield(order)
			}
		next:
			for i := range n {
				for _, used := range order {
					if used == i {
						continue next
					}
				}
				if !extend(append(order[:len(order):len(order)], i)) {
					return false
				}
			}
			return true
		}
		extend(nil)
	}
}

// A node that has a worse record than another node adopts the better one and publishes it. So the
// record and the time of the first connection stay when the other part ends.
func TestAdoption(t *testing.T) {
	a, b, observer := newNode("a"), newNode("b"), newNode("observer")
	a.Join(1, room.User{ID: "alice", Name: "First", Info: []byte(`1`)}, seconds(0))
	b.Join(1, room.User{ID: "alice", Name: "Second", Info: []byte(`2`)}, seconds(1))
	newsOf(b, seconds(1))
	apply(b, "b", seconds(1), a, observer)
	if apply(a, "a", seconds(2), b, observer); a.HasDelta() {
		t.Error("the node with the better record has adopted another")
	}
	expectText(t, "news of the adopting node", newsOf(b, seconds(2)), "alice=1")
	adopted := b.Delta(10, seconds(2))
	expectText(t, "delta of the adopting node", partOf(adopted), "alice First 1 1 since 0s v0")
	observer.Apply("b", adopted, seconds(2))

	b.Update("alice", []byte(`3`), room.Version{Counter: 7, Node: "b"}, seconds(3))
	apply(b, "b", seconds(3), a, observer)
	expectText(t, "delta after an update", partOf(a.Delta(10, seconds(3))), "alice First 3 1 since 0s v7")
	a.Leave(1, "alice", room.Closed, seconds(4))
	apply(a, "a", seconds(4), b, observer)
	for _, r := range []*room.Room{a, b, observer} {
		r.Expire(seconds(20))
		expectText(t, "view after the first part has ended", viewOf(r), "alice First 3 1 since 0s")
	}
}

// A connection of a user that is a member through another node gets the record and the time of the
// member.
func TestJoinOnSecondNode(t *testing.T) {
	a, b := newNode("a"), newNode("b")
	a.Join(1, room.User{ID: "alice", Name: "First", Info: []byte(`1`)}, seconds(0))
	a.Update("alice", []byte(`2`), room.Version{Counter: 4, Node: "a"}, seconds(0))
	apply(a, "a", seconds(0), b)
	newsOf(b, seconds(0))
	b.Join(1, room.User{ID: "alice", Name: "Second", Info: []byte(`3`)}, seconds(1))
	expect(t, b, seconds(1), "", 2, 1)
	expectText(t, "delta", partOf(b.Delta(10, seconds(1))), "alice First 2 1 since 0s v4")
	if users, connections := b.Totals("b"); users != 1 || connections != 1 || b.OwnUsers() != 1 || b.OwnConnections() != 1 {
		t.Errorf("own part: got %d users, %d connections, %d, %d, want 1 of each", users, connections, b.OwnUsers(), b.OwnConnections())
	}
}

// An update with a lower version than the current record changes nothing. The version of the record
// is returned, so that the caller can try again with a higher one.
func TestStampOfUpdate(t *testing.T) {
	r := newNode("a")
	r.Join(1, room.User{ID: "alice", Info: []byte(`0`)}, seconds(0))
	for i, test := range []struct {
		stamp, want room.Version
		info        string
	}{
		{room.Version{Counter: 5, Node: "b"}, room.Version{Counter: 5, Node: "b"}, "1"},
		{room.Version{Counter: 5, Node: "c"}, room.Version{Counter: 5, Node: "c"}, "2"},
		{room.Version{Counter: 5, Node: "c"}, room.Version{Counter: 5, Node: "c"}, "2"},
		{room.Version{Counter: 2, Node: "z"}, room.Version{Counter: 5, Node: "c"}, "2"},
		{room.Version{Counter: 6, Node: "a"}, room.Version{Counter: 6, Node: "a"}, "5"},
	} {
		t.Run(fmt.Sprint(test.stamp), func(t *testing.T) {
			got, here := r.Update("alice", fmt.Append(nil, i+1), test.stamp, seconds(1))
			if !here || got != test.want {
				t.Errorf("got %v, %v; want %v, true", got, here, test.want)
			}
			if m, _ := r.Members("", 1); string(m[0].Info) != test.info {
				t.Errorf("info: got %s, want %s", m[0].Info, test.info)
			}
		})
	}
	r.Delta(1, seconds(1))
	r.Apply("b", []room.Presence{{ID: "bob", Connections: 1}}, seconds(1))
	if _, here := r.Update("bob", []byte(`1`), room.Version{Counter: 9, Node: "a"}, seconds(1)); here || r.HasDelta() {
		t.Error("Update changed a user that is only on another node")
	}
	r.Leave(1, "alice", room.Closed, seconds(1))
	_, grace := r.Update("alice", []byte(`2`), room.Version{}, seconds(5.9))
	if _, after := r.Update("alice", []byte(`3`), room.Version{}, seconds(6)); !grace || after {
		t.Errorf("Update: got %v in the grace period and %v after it, want true and false", grace, after)
	}
}

// A user that moves to another node within its grace period does not leave.
func TestMoveInGracePeriod(t *testing.T) {
	a, b, observer := newNode("a"), newNode("b"), newNode("observer")
	a.Join(1, room.User{ID: "alice"}, seconds(0))
	apply(a, "a", seconds(0), b, observer)
	a.Leave(1, "alice", room.Timeout, seconds(1))
	apply(a, "a", seconds(1), b, observer)
	b.Join(1, room.User{ID: "alice"}, seconds(5.9))
	apply(b, "b", seconds(5.95), a, observer)
	for _, r := range []*room.Room{a, b, observer} {
		r.Expire(seconds(6))
		expect(t, r, seconds(6), "+alice", 1, 1)
	}
	b.Leave(1, "alice", room.Slow, seconds(7))
	apply(b, "b", seconds(7), a, observer)
	for _, r := range []*room.Room{a, b, observer} {
		if due := r.Due(seconds(7)); !due.Equal(seconds(12)) {
			t.Errorf("due at %v, want 12 s", due.Sub(start))
		}
		r.Expire(seconds(11.9))
		expect(t, r, seconds(11.9), "", 0, 1)
		r.Expire(seconds(12))
		expect(t, r, seconds(12), "-alice:slow", 0, 0)
	}
	if a.HasDelta() || b.HasDelta() {
		t.Error("a node announces the end of a grace period, which every node ends itself")
	}
}

// A ban hides the user, even if other nodes still have it, until the ban ends or is lifted.
func TestBanHidesParts(t *testing.T) {
	for _, lift := range []bool{false, true} {
		a, b := newNode("a"), newNode("b")
		a.Join(1, room.User{ID: "alice"}, seconds(0))
		b.Join(1, room.User{ID: "alice"}, seconds(0))
		apply(a, "a", seconds(0), b)
		apply(b, "b", seconds(0), a)
		newsOf(a, seconds(0))
		if !a.Ban("alice", seconds(9), seconds(1)) {
			t.Error("Ban returned false for a member")
		}
		expect(t, a, seconds(1), "-alice:removed", 0, 0)
		if due := a.Due(seconds(1)); !due.Equal(seconds(9)) {
			t.Errorf("due at %v, want the end of the ban at 9 s", due.Sub(start))
		}
		expectText(t, "delta", partOf(a.Delta(10, seconds(1))), "alice gone:removed")
		b.Leave(1, "alice", room.Closed, seconds(1.5)) // b does not know the ban yet
		b.Join(2, room.User{ID: "alice"}, seconds(2))
		apply(b, "b", seconds(2), a)
		a.Leave(1, "alice", room.Closed, seconds(2)) // its socket closes later
		a.Expire(seconds(8.9))
		expect(t, a, seconds(8.9), "", 0, 0)
		end := seconds(8.95)
		if lift {
			a.Lift("alice", end)
		} else {
			a.Expire(seconds(9))
			end = seconds(9)
		}
		expect(t, a, end, "+alice", 1, 1)
		if a.HasDelta() {
			t.Error("the node of the ban still has the user in its part")
		}
	}
}

// A ban of a user that is only on other nodes hides it too. It hides a user that appears later.
func TestBanBeforePart(t *testing.T) {
	r := newNode("a")
	if r.Ban("alice", seconds(9), seconds(0)) {
		t.Error("Ban returned true for an absent user")
	}
	r.Apply("b", []room.Presence{{ID: "alice", Connections: 1, Since: seconds(1)}}, seconds(1))
	expect(t, r, seconds(1), "", 0, 0)
	if r.Has("alice") || r.HasDelta() {
		t.Error("a banned user is a member, or is in the part of a node that never had it")
	}
	r.Join(1, room.User{ID: "alice"}, seconds(2)) // the owner has admitted it
	expect(t, r, seconds(2), "+alice", 2, 1)
	r.Apply("b", []room.Presence{{ID: "bob", Until: seconds(7), Since: seconds(1), Reason: room.Slow}}, seconds(2))
	newsOf(r, seconds(2))
	r.Ban("bob", seconds(9), seconds(3))
	expect(t, r, seconds(3), "-bob:removed", 2, 1)
}

// Drop gives the users of a dead node a grace period that ends at a fixed time.
func TestDrop(t *testing.T) {
	r := newNode("observer")
	r.Apply("a", []room.Presence{
		{ID: "alice", Connections: 2, Since: seconds(0)},
		{ID: "bob", Connections: 1, Since: seconds(0)},
		{ID: "carol", Until: seconds(6), Since: seconds(0), Reason: room.Slow},
	}, seconds(2))
	r.Apply("b", []room.Presence{{ID: "bob", Connections: 1, Since: seconds(0)}}, seconds(2))
	expect(t, r, seconds(2), "+alice +bob +carol", 4, 3)
	r.Drop("a", seconds(7), room.Node, seconds(5))
	expect(t, r, seconds(5), "", 1, 3)
	if users, connections := r.Totals("a"); users != 0 || connections != 0 {
		t.Errorf("totals of the dead node: got %d users, %d connections, want none", users, connections)
	}
	r.Drop("a", seconds(20), room.Node, seconds(5)) // has no effect
	r.Expire(seconds(6))
	expect(t, r, seconds(6), "-carol:slow", 1, 2)
	r.Expire(seconds(7))
	expect(t, r, seconds(7), "-alice:node", 1, 1)
	r.Drop("b", seconds(3), room.Node, seconds(8)) // the grace period is over
	expect(t, r, seconds(8), "-bob:node", 0, 0)
	r.Drop("never seen", seconds(9), room.Node, seconds(8))
}

// Replace removes the users that the new part does not contain.
func TestReplace(t *testing.T) {
	r := newNode("observer")
	r.Apply("a", []room.Presence{
		{ID: "alice", Connections: 1, Since: seconds(0)},
		{ID: "bob", Connections: 1, Since: seconds(0)},
		{ID: "carol", Until: seconds(6), Since: seconds(0)},
		{ID: "dave", Connections: 1, Since: seconds(0)},
	}, seconds(0))
	r.Apply("b", []room.Presence{{ID: "dave", Connections: 1, Since: seconds(0)}}, seconds(0))
	newsOf(r, seconds(0))
	r.Replace("a", []room.Presence{
		{ID: "bob", Connections: 3, Since: seconds(0)},
		{ID: "eve", Connections: 1, Since: seconds(1)},
	}, seconds(1))
	expect(t, r, seconds(1), "-alice:closed -carol:closed +eve", 5, 3)
	if users, connections := r.Totals("a"); users != 2 || connections != 4 {
		t.Errorf("totals: got %d users, %d connections, want 2, 4", users, connections)
	}
	r.Replace("a", nil, seconds(2))
	expect(t, r, seconds(2), "-bob:closed -eve:closed", 1, 1)
}

// A partial room sends only counts. When no part is missing any more, every client gets a snapshot.
func TestPartialRoom(t *testing.T) {
	r := room.NewShared(room.Config{MemberLimit: 2}, "a", 0)
	r.SetPartial(true)
	r.Join(1, room.User{ID: "alice"}, seconds(0))
	expect(t, &r, seconds(0), "+alice", 1, 1)
	if r.HasNews(seconds(60)) {
		t.Error("partial room far below the member limit: want no news")
	}
	r.Join(2, room.User{ID: "bob"}, seconds(0))
	expect(t, &r, seconds(0), "+bob", 2, 2)
	if !r.Counting() || !r.Due(seconds(0)).IsZero() || r.HasNews(seconds(60)) {
		t.Error("partial room: want only counts, no due time and no news")
	}
	r.SetPartial(false)
	if !r.HasNews(seconds(60)) {
		t.Error("no news although no part is missing any more")
	}
	expect(t, &r, seconds(60), "sync", 2, 2)
	if r.Counting() || r.HasNews(seconds(60)) {
		t.Error("complete room: want members, and one sync")
	}

	r = room.NewShared(room.Config{MemberLimit: 2}, "a", 0)
	r.SetPartial(true)
	for i, id := range []room.UserID{"alice", "bob", "carol"} {
		r.Join(room.ConnID(i), room.User{ID: id}, seconds(0))
	}
	r.SetPartial(false)
	if expect(t, &r, seconds(0), "+alice +bob +carol", 3, 3); !r.Counting() {
		t.Error("complete room above the member limit: want only counts")
	}
}

// Delta returns each change once, by user, up to a limit.
func TestDelta(t *testing.T) {
	r := newNode("a")
	for i, id := range []room.UserID{"dave", "bob", "alice", "carol"} {
		r.Join(room.ConnID(i), room.User{ID: id, Info: []byte(`1`)}, seconds(0))
	}
	r.Join(9, room.User{ID: "bob"}, seconds(0))
	r.Apply("b", []room.Presence{{ID: "eve", Connections: 1, Since: seconds(0)}}, seconds(0)) // of another part
	expectText(t, "first", partOf(r.Delta(3, seconds(0))), "alice  1 1 since 0s v0, bob  1 2 since 0s v0, carol  1 1 since 0s v0")
	r.Leave(2, "alice", room.Slow, seconds(1))
	r.Leave(9, "bob", room.Closed, seconds(1))
	expectText(t, "second", partOf(r.Delta(3, seconds(1))), "alice until 6s:slow, bob  1 1 since 0s v0, dave  1 1 since 0s v0")
	if r.HasDelta() || len(r.Delta(3, seconds(1))) > 0 {
		t.Error("Delta returned a change twice")
	}
	r.Leave(3, "carol", room.Slow, seconds(1))
	expectText(t, "of a grace period that has ended", partOf(r.Delta(3, seconds(7))), "carol gone:closed")
	plain := newRoom(0, 10)
	plain.Join(1, room.User{ID: "alice"}, seconds(0))
	if plain.HasDelta() || plain.OwnUsers() != 1 || plain.OwnConnections() != 1 {
		t.Error("room of a node without peers: want no delta, one user and one connection")
	}
}

// Own returns the part by page. It omits the users that are only on other nodes.
func TestOwnByPage(t *testing.T) {
	r := newNode("a")
	for i, id := range []room.UserID{"d", "b", "a", "c", "e"} {
		r.Join(room.ConnID(i), room.User{ID: id}, seconds(0))
	}
	r.Apply("b", []room.Presence{{ID: "aa", Connections: 1}, {ID: "f", Connections: 1}, {ID: "c", Connections: 1}}, seconds(0))
	r.Leave(1, "b", room.Closed, seconds(0)) // b, in its grace period
	r.Leave(0, "d", room.Closed, seconds(1)) // d
	var got string
	for after, more := room.UserID(""), true; more; {
		var page []room.Presence
		page, more = r.Own(after, 2, seconds(5.5))
		for _, p := range page {
			got += fmt.Sprint(p.ID, p.Connections)
			after = p.ID
		}
		got += "|"
	}
	expectText(t, "pages", got, "a1c1|d0e1|")
	if page, more := r.Own("e", 2, seconds(1)); len(page) > 0 || more {
		t.Errorf("after the last user: got %v, more %v", page, more)
	}
	if r.OwnUsers() != 5 || r.Users() != 7 {
		t.Errorf("got %d own users of %d, want 5 of 7", r.OwnUsers(), r.Users())
	}
}

// A node adopts no record for a user that has left its part. It publishes nothing when a grace
// period ends, and keeps the reason of a removal.
func TestNoAdoptionAfterTheEnd(t *testing.T) {
	a := newNode("a")
	a.Join(1, room.User{ID: "alice"}, seconds(0))
	a.Apply("b", []room.Presence{{ID: "alice", Connections: 1, Since: seconds(1)}}, seconds(1)) // b has lost the frame of a
	a.Leave(1, "alice", room.Closed, seconds(2))
	a.Delta(10, seconds(2))
	a.Expire(seconds(7))
	if a.HasDelta() {
		t.Errorf("delta after the end of the grace period: got %q, want none", partOf(a.Delta(10, seconds(7))))
	}
	a.Join(2, room.User{ID: "alice"}, seconds(8))
	a.Ban("alice", seconds(9), seconds(9)) // the ban ends now
	expectText(t, "delta after a removal", partOf(a.Delta(10, seconds(9))), "alice gone:removed")
}
