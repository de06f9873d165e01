package room_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/presence/pkg/presence/room"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func at(d time.Duration) time.Time { return start.Add(d) }

func newRoom(linger time.Duration, limit int) *room.Room {
	r := room.New(room.Config{Linger: linger, MemberLimit: limit})
	return &r
}

// newsOf returns the room's news in a short form, for example: +alice -alice:closed sync
func newsOf(r *room.Room, now time.Time) string {
	var words []string
	news := r.News(now)
	for _, c := range news.Changes {
		switch c.Event {
		case room.EventJoin:
			words = append(words, "+"+string(c.Member.ID))
		case room.EventUpdate:
			words = append(words, fmt.Sprintf("%s=%s", c.Member.ID, c.Member.Info))
		case room.EventLeave:
			words = append(words, fmt.Sprintf("-%s:%s", c.Member.ID, c.Reason))
		}
	}
	if news.Sync {
		words = append(words, "sync")
	}
	return strings.Join(words, " ")
}

func expect(t *testing.T, r *room.Room, now time.Time, news string, connections, users int) {
	t.Helper()
	if got := newsOf(r, now); got != news {
		t.Errorf("news: got %q, want %q", got, news)
	}
	if c, u := r.Connections(), r.Users(); c != connections || u != users {
		t.Errorf("got %d connections of %d users, want %d of %d", c, u, connections, users)
	}
}

func TestTabsOfOneUser(t *testing.T) {
	r := newRoom(5*time.Second, 500)
	r.Join(1, room.User{ID: "alice", Name: "Alice", Info: []byte(`{"a":1}`)}, at(0))
	r.Join(2, room.User{ID: "alice", Name: "Other", Info: []byte(`{"a":2}`)}, at(time.Second))
	expect(t, r, at(time.Second), "+alice", 2, 1)
	members, more := r.Members("", 10)
	if len(members) != 1 || more {
		t.Fatalf("got %d members, more %v; want 1, false", len(members), more)
	}
	m := members[0]
	if m.Name != "Alice" || string(m.Info) != `{"a":1}` || m.Connections != 2 || !m.Since.Equal(at(0)) {
		t.Errorf("got %+v, want the name, info and time of the first connection, and 2 connections", m)
	}
	r.Leave(1, "alice", room.Closed, at(2*time.Second))
	r.Expire(at(time.Hour))
	expect(t, r, at(time.Hour), "", 1, 1)
}

func TestLinger(t *testing.T) {
	r := newRoom(5*time.Second, 500)
	r.Join(1, room.User{ID: "alice"}, at(0))
	expect(t, r, at(0), "+alice", 1, 1)

	r.Leave(1, "alice", room.Closed, at(time.Second))
	expect(t, r, at(time.Second), "", 0, 1)
	if due := r.Due(at(time.Second)); !due.Equal(at(6 * time.Second)) {
		t.Errorf("due at %v, want 6 s", due.Sub(start))
	}
	r.Join(2, room.User{ID: "alice"}, at(5*time.Second)) // a reload
	if due := r.Due(at(5 * time.Second)); !due.IsZero() {
		t.Errorf("due at %v, want no due time: no member is in its grace period", due)
	}
	r.Leave(2, "alice", room.Slow, at(5500*time.Millisecond))
	r.Expire(at(6 * time.Second)) // the end of the first grace period has no effect
	expect(t, r, at(6*time.Second), "", 0, 1)
	r.Expire(at(10500 * time.Millisecond))
	expect(t, r, at(10500*time.Millisecond), "-alice:slow", 0, 0)
}

func TestLeaveTwiceCountsOnce(t *testing.T) {
	r := newRoom(0, 500)
	r.Join(1, room.User{ID: "alice"}, at(0))
	r.Join(2, room.User{ID: "bob"}, at(0))
	for _, c := range []room.ConnID{1, 1, 7} {
		r.Leave(c, "alice", room.Closed, at(0))
	}
	r.Leave(2, "carol", room.Closed, at(0)) // that of bob
	r.Join(2, room.User{ID: "bob"}, at(0))  // again
	if r.Connections() != 1 || r.Users() != 1 || !r.Has("bob") {
		t.Errorf("got %d connections of %d users, want 1 of bob", r.Connections(), r.Users())
	}
}

func TestCanceledChangesAreOmitted(t *testing.T) {
	r := newRoom(0, 500)
	r.Join(1, room.User{ID: "alice"}, at(0))
	r.Leave(1, "alice", room.Closed, at(0))
	expect(t, r, at(0), "", 0, 0)
	r.Join(2, room.User{ID: "alice"}, at(0))
	expect(t, r, at(0), "+alice", 1, 1)
	r.Leave(2, "alice", room.Closed, at(0))
	r.Join(3, room.User{ID: "alice", Name: "new"}, at(0))
	expect(t, r, at(0), "-alice:closed +alice", 1, 1)
}

func TestMemberLimit(t *testing.T) { // promise 6
	r := newRoom(0, 10)
	for i := range 10 {
		r.Join(room.ConnID(i), room.User{ID: room.UserID(fmt.Sprint("u", i))}, at(0))
	}
	newsOf(r, at(0))
	if r.Counting() {
		t.Fatal("room at the limit sends only counts, want members")
	}
	r.Join(10, room.User{ID: "u10"}, at(time.Second))
	expect(t, r, at(time.Second), "+u10 sync", 11, 11)
	for i := range 3 {
		r.Leave(room.ConnID(i), room.UserID(fmt.Sprint("u", i)), room.Closed, at(2*time.Second))
	}
	if r.HasNews(at(2*time.Second)) != true || newsOf(r, at(2*time.Second)) != "-u0:closed -u1:closed -u2:closed" || !r.Counting() {
		t.Error("room sends members again less than 10 s after it crossed the limit")
	}
	if due := r.Due(at(2 * time.Second)); !due.Equal(at(11 * time.Second)) {
		t.Errorf("due at %v, want 11 s", due.Sub(start))
	}
	r.Join(20, room.User{ID: "u20"}, at(3*time.Second)) // 9 users, above 80 %
	if due := r.Due(at(3 * time.Second)); !due.IsZero() {
		t.Errorf("due at %v, want no due time above 80 %% of the limit", due.Sub(start))
	}
	r.Leave(20, "u20", room.Closed, at(12*time.Second))
	if got := newsOf(r, at(12*time.Second)); !strings.HasSuffix(got, "sync") || r.Counting() {
		t.Errorf("got %q, want a sync at 80 %% of the limit, 10 s after the room crossed it", got)
	}
}

// Due returns the end of a grace period even while a crossing of the member limit is due.
func TestDueBehindACrossing(t *testing.T) {
	r := newRoom(5*time.Second, 10)
	for i := range 11 {
		r.Join(room.ConnID(i), room.User{ID: room.UserID(fmt.Sprint("u", i))}, at(0))
	}
	newsOf(r, at(0))
	for i := range 4 {
		r.Leave(room.ConnID(i), room.UserID(fmt.Sprint("u", i)), room.Closed, at(time.Duration(20+i/3)*time.Second))
	}
	r.Expire(at(25 * time.Second))
	if !r.HasNews(at(25 * time.Second)) {
		t.Error("no news after three members have left")
	}
	if due := r.Due(at(25 * time.Second)); !due.Equal(at(26 * time.Second)) {
		t.Errorf("due at %v, want 26 s", due.Sub(start))
	}
}

// News returns the last of several updates. If the member's join or leave is also pending, the
// update is merged into it.
func TestUpdate(t *testing.T) {
	r := newRoom(time.Second, 500)
	if _, here := r.Update("alice", []byte(`1`), room.Version{}, at(0)); here {
		t.Error("Update returned true for an absent user")
	}
	r.Join(1, room.User{ID: "alice", Info: []byte(`0`)}, at(0))
	if _, here := r.Update("alice", []byte(`1`), room.Version{}, at(0)); !here {
		t.Error("Update returned false for a member")
	}
	news := r.News(at(0))
	if len(news.Changes) != 1 || string(news.Changes[0].Member.Info) != `1` {
		t.Errorf("got %+v, want one join with the current info", news.Changes)
	}
	for _, info := range []string{`2`, `3`, `4`} {
		r.Update("alice", []byte(info), room.Version{}, at(0))
	}
	expect(t, r, at(0), "alice=4", 1, 1)
	r.Update("alice", []byte(`5`), room.Version{}, at(0))
	expect(t, r, at(0), "alice=5", 1, 1)
	r.Leave(1, "alice", room.Closed, at(0))
	r.Update("alice", []byte(`6`), room.Version{}, at(0)) // during the grace period
	r.Join(2, room.User{ID: "alice", Info: []byte(`0`)}, at(0))
	expect(t, r, at(0), "alice=6", 1, 1)
	r.Update("alice", []byte(`7`), room.Version{}, at(0))
	r.Leave(2, "alice", room.Closed, at(0))
	r.Expire(at(time.Second))
	expect(t, r, at(time.Second), "-alice:closed", 0, 0)
	r.Join(3, room.User{ID: "alice", Info: []byte(`0`)}, at(time.Second))
	if m, _ := r.Members("", 1); string(m[0].Info) != `0` {
		t.Errorf("info after a leave and a join: got %s, want the info of the join", m[0].Info)
	}
}

// Ban removes a user with all its connections, without a grace period.
func TestBan(t *testing.T) {
	r := newRoom(time.Hour, 500)
	r.Join(1, room.User{ID: "alice"}, at(0))
	r.Join(2, room.User{ID: "alice"}, at(0))
	r.Join(3, room.User{ID: "bob"}, at(0))
	newsOf(r, at(0))
	if !r.Ban("alice", at(0), at(0)) || r.Ban("alice", at(0), at(0)) || r.Has("alice") || !r.Has("bob") {
		t.Error("Ban: want alice removed once, and bob still in the room")
	}
	expect(t, r, at(0), "-alice:removed", 1, 1)
	r.Join(4, room.User{ID: "alice"}, at(0)) // is admitted again
	r.Leave(1, "alice", room.Closed, at(0))  // its socket closes later
	expect(t, r, at(0), "+alice", 2, 2)
	r.Ban("alice", at(0), at(0))
	expect(t, r, at(0), "-alice:removed", 1, 1)
	r.Leave(3, "bob", room.Closed, at(0))
	r.Ban("bob", at(0), at(0)) // during the grace period
	expect(t, r, at(0), "-bob:removed", 0, 0)
	if due := r.Due(at(0)); !due.IsZero() {
		t.Errorf("due at %v, want no due time for an empty room", due)
	}
}

func TestMembersByPage(t *testing.T) {
	r := newRoom(0, 500)
	for i, id := range []room.UserID{"d", "b", "a", "c", "e"} {
		r.Join(room.ConnID(i), room.User{ID: id}, at(0))
	}
	var got string
	for after, more := room.UserID(""), true; more; {
		var page []room.Member
		page, more = r.Members(after, 2)
		for _, m := range page {
			got += string(m.ID)
			after = m.ID
		}
		got += "|"
	}
	if want := "ab|cd|e|"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestAgainstReference applies random changes to a room and to a simple reference model, and
// compares them. It also applies the news as a client would.
func TestAgainstReference(t *testing.T) { // promise 1
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	const linger = 5 * time.Second
	r := newRoom(linger, 1000)
	type user struct {
		conns map[room.ConnID]bool
		until time.Time
	}
	users := map[room.UserID]*user{}
	owner := map[room.ConnID]room.UserID{}
	var open []room.ConnID
	view := map[room.UserID]bool{}
	now, next := start, room.ConnID(0)
	for step := range 20_000 {
		switch rnd.IntN(5) {
		case 0, 1:
			id := room.UserID(fmt.Sprint(rnd.IntN(40)))
			next++
			r.Join(next, room.User{ID: id}, now)
			if users[id] == nil {
				users[id] = &user{conns: map[room.ConnID]bool{}}
			}
			users[id].conns[next] = true
			owner[next] = id
			open = append(open, next)
		case 2, 3:
			if len(open) == 0 {
				break
			}
			i := rnd.IntN(len(open))
			c := open[i]
			open = slices.Delete(open, i, i+1)
			r.Leave(c, owner[c], room.Closed, now)
			u := users[owner[c]]
			delete(u.conns, c)
			if len(u.conns) == 0 {
				u.until = now.Add(linger)
			}
		case 4:
			now = now.Add(time.Duration(rnd.Int64N(int64(2 * time.Second))))
			r.Expire(now)
			for id, u := range users {
				if len(u.conns) == 0 && !u.until.After(now) {
					delete(users, id)
				}
			}
		}
		if r.Connections() != len(open) || r.Users() != len(users) {
			t.Fatalf("step %d: got %d connections of %d users, want %d of %d", step, r.Connections(), r.Users(), len(open), len(users))
		}
		if rnd.IntN(20) == 0 {
			after := room.UserID(fmt.Sprint(rnd.IntN(40)))
			var got, want []room.UserID
			members, more := r.Members(after, 10)
			for _, m := range members {
				got = append(got, m.ID)
			}
			for _, id := range slices.Sorted(maps.Keys(users)) {
				if id > after {
					want = append(want, id)
				}
			}
			if cut := want[:min(10, len(want))]; !slices.Equal(got, cut) || more != (len(want) > 10) {
				t.Fatalf("step %d: after %q: got %q, more %v; want of %q", step, after, got, more, want)
			}
		}
		if rnd.IntN(10) > 0 {
			continue
		}
		for _, c := range r.News(now).Changes {
			if view[c.Member.ID] == (c.Event == room.EventJoin) {
				t.Fatalf("step %d: the join or leave of %q was returned twice", step, c.Member.ID)
			}
			view[c.Member.ID] = c.Event == room.EventJoin
			if c.Event == room.EventLeave {
				delete(view, c.Member.ID)
			}
		}
		if len(view) != len(users) {
			t.Fatalf("step %d: client that applies the news: got %d users, want %d", step, len(view), len(users))
		}
	}
}
