package hub_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/internal/hub"
	"example.com/presence/pkg/presence/internal/stream"
	"example.com/presence/pkg/presence/room"
)

// listBans returns the users of a page of bans, and … if there are more.
func (n *node) listBans(name room.Name, after room.UserID, limit int) string {
	n.t.Helper()
	page, more, err := n.Bans(name, after, limit)
	if err != nil || page == nil {
		n.t.Errorf("bans from %s after %q: got %v, %v; want a page", name, after, page, err)
	}
	var users []string
	for _, b := range page {
		users = append(users, string(b.ID))
	}
	if more {
		users = append(users, "…")
	}
	return strings.Join(users, " ")
}

// admits reports whether the node admits the user.
func (n *node) admits(name room.Name, user room.UserID) bool {
	n.t.Helper()
	conn, err := n.Connect(n.t.Context(), name, user, hub.Lease{})
	if err != nil {
		n.t.Fatal(err)
	}
	defer n.Leave(conn, stream.Closed)
	err = n.Join(n.t.Context(), conn, room.User{ID: user}, &fakeClient{node: n, conn: conn, room: string(name), user: string(user)}, "")
	if err != nil && !errors.Is(err, hub.ErrBanned) {
		n.t.Errorf("join of %s: got %v, want %v or no error", user, err, hub.ErrBanned)
	}
	return err == nil
}

// A user need not be in the room when it is banned: the room may not exist, the user may be in its
// grace period, or banned already. Only a member causes a leave.
func TestBanOfAbsentUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := openNode(t, memory())
		if err := n.Ban(t.Context(), "lobby", "absent", time.Minute); err != nil {
			t.Fatal(err)
		}
		alice := n.join("lobby", "alice", hub.Lease{}, "")
		n.join("lobby", "bob", hub.Lease{}, "").Drop(stream.Closed)
		time.Sleep(time.Second)
		alice.take()
		for _, c := range []struct{ user, want string }{{"bob", "leave"}, {"carol", ""}, {"absent", ""}} {
			if err := n.Ban(t.Context(), "lobby", room.UserID(c.user), time.Minute); err != nil {
				t.Fatal(err)
			}
			if got := alice.take(); got != c.want {
				t.Errorf("ban of %s: alice got %q, want %q", c.user, got, c.want)
			}
			if n.admits("lobby", room.UserID(c.user)) {
				t.Errorf("%s was admitted", c.user)
			}
		}
		if !n.admits("den", "absent") {
			t.Error("a user that is banned from one room was not admitted to another")
		}
		for _, d := range []time.Duration{hub.MinBan - 1, hub.MaxBan + 1} {
			if err := n.Ban(t.Context(), "lobby", "alice", d); err != hub.ErrBan {
				t.Errorf("ban for %v: got %v, want %v", d, err, hub.ErrBan)
			}
		}
	})
}

// A second ban replaces the first one, so that it ends earlier or later. When a ban has ended, it
// is not listed, although the engine may keep its row longer.
func TestBanReplacesAnother(t *testing.T) {
	for _, second := range []time.Duration{10 * time.Second, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			rows := 0
			n := openNode(t, &hookedBus{Bus: memory(), row: func(deliver func()) {
				if rows++; rows <= 2 { // the end of the row does not arrive
					deliver()
				}
			}})
			for _, d := range []time.Duration{time.Minute, second} {
				if err := n.Ban(t.Context(), "lobby", "bob", d); err != nil {
					t.Fatal(err)
				}
			}
			page, _, err := n.Bans("lobby", "", 10)
			if err != nil || len(page) != 1 || page[0].ID != "bob" || !page[0].Until.Equal(time.Now().Add(second)) || page[0].Until.Location() != time.UTC {
				t.Errorf("got bans %v, %v; want one of bob for %v", page, err, second)
			}
			time.Sleep(second - 1)
			if n.admits("lobby", "bob") {
				t.Errorf("admitted before the end of the second ban of %v", second)
			}
			if got := n.listBans("lobby", "", 10); got != "bob" {
				t.Errorf("before the end: got bans %q, want bob", got)
			}
			time.Sleep(time.Nanosecond)
			if !n.admits("lobby", "bob") {
				t.Errorf("not admitted at the end of the second ban of %v", second)
			}
			if got := n.listBans("lobby", "", 10); got != "" {
				t.Errorf("at the end: got bans %q, want none", got)
			}
		})
	}
}

// The bans of a room are listed in pages, sorted by user. The end of a ban is rounded up.
func TestBansInPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := openNode(t, memory())
		for _, user := range []room.UserID{"c", "a", "é", "b"} {
			if err := n.Ban(t.Context(), "lobby", user, time.Minute+time.Millisecond); err != nil {
				t.Fatal(err)
			}
		}
		if err := n.Ban(t.Context(), "den", "d", time.Minute); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			after room.UserID
			limit int
			want  string
		}{{"", 1, "a …"}, {"a", 2, "b c …"}, {"a", 3, "b c é"}, {"bb", 10, "c é"}, {"é", 10, ""}} {
			if got := n.listBans("lobby", c.after, c.limit); got != c.want {
				t.Errorf("%d bans after %q: got %q, want %q", c.limit, c.after, got, c.want)
			}
		}
		for i := range 300 { // far more than a page
			if err := n.Ban(t.Context(), "attic", room.UserID(fmt.Sprint(1001+i)), time.Minute); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 300 {
			want := fmt.Sprintf("%d %d …", 1001+i, 1002+i)
			switch i {
			case 298:
				want = "1299 1300"
			case 299:
				want = "1300"
			}
			if got := n.listBans("attic", room.UserID(fmt.Sprint(1000+i)), 2); got != want {
				t.Errorf("page %d of 300 bans: got %q, want %q", i, got, want)
			}
		}
		if page, _, _ := n.Bans("lobby", "", 1); !page[0].Until.Equal(time.Now().Add(61 * time.Second)) {
			t.Errorf("a ban of 60.001 s ends at %v, want 61 s from %v", page[0].Until, time.Now())
		}
		if got := n.listBans("yard", "", 10); got != "" {
			t.Errorf("another room: got bans %q, want none", got)
		}
	})
}

// A node that has not received the row of a ban yet can lift the ban: it asks the other nodes. If
// none knows a ban, the result is ErrNotBanned.
func TestUnbanOnLaggingNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b, lagging := openLagging(t, 3*time.Second)
		if err := a.Ban(t.Context(), "lobby", "bob", time.Minute); err != nil {
			t.Fatal(err)
		}
		if err := lagging.Unban(t.Context(), "lobby", "carol"); err != hub.ErrNotBanned {
			t.Errorf("no ban: got %v, want %v", err, hub.ErrNotBanned)
		}
		if err := lagging.Unban(t.Context(), "lobby", "bob"); err != nil {
			t.Errorf("ban that has not arrived: got %v, want it lifted", err)
		}
		time.Sleep(10 * time.Second)
		for i, n := range []*node{a, b, lagging} {
			if !n.admits("lobby", "bob") {
				t.Errorf("node %d: bob was not admitted", i)
			}
		}
	})
}

// After Unban the user is admitted, and a full table has space again.
func TestUnban(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := openNode(t, backplane.NewMemory(backplane.MemoryConfig{MaxRows: 1}))
		if err := n.Unban(t.Context(), "lobby", "bob"); err != hub.ErrNotBanned {
			t.Errorf("no ban: got %v, want %v", err, hub.ErrNotBanned)
		}
		if err := n.Ban(t.Context(), "lobby", "bob", time.Hour); err != nil {
			t.Fatal(err)
		}
		if err := n.Ban(t.Context(), "lobby", "bob", time.Minute); err != nil {
			t.Errorf("a full table does not replace a ban: %v", err)
		}
		for _, other := range []struct {
			room room.Name
			user room.UserID
		}{{"den", "bob"}, {"lobby", "carol"}} {
			if err := n.Unban(t.Context(), other.room, other.user); err != hub.ErrNotBanned {
				t.Errorf("%s in %s: got %v, want %v", other.user, other.room, err, hub.ErrNotBanned)
			}
		}
		if err := n.Ban(t.Context(), "lobby", "carol", time.Hour); err == nil || err.Error() != "ban limit reached (1)" {
			t.Errorf("second user at a limit of 1: got %v, want ban limit reached (1)", err)
		}
		start := time.Now()
		if err := n.Unban(t.Context(), "lobby", "bob"); err != nil || time.Since(start) > 0 {
			t.Errorf("got %v after %v, want no error at once", err, time.Since(start))
		}
		if got := n.Stats().Bans; got != 0 || n.listBans("lobby", "", 1) != "" || !n.admits("lobby", "bob") {
			t.Errorf("got %d bans, want none, and the user admitted", got)
		}
		if err := n.Unban(t.Context(), "lobby", "bob"); err != hub.ErrNotBanned {
			t.Errorf("again: got %v, want %v", err, hub.ErrNotBanned)
		}
		if err := n.Ban(t.Context(), "lobby", "carol", time.Second); err != nil {
			t.Errorf("after the table has space: got %v", err)
		}
		time.Sleep(time.Second)
		if err := n.Unban(t.Context(), "lobby", "carol"); err != hub.ErrNotBanned {
			t.Errorf("after the end: got %v, want %v", err, hub.ErrNotBanned)
		}
		n.Close(t.Context())
		_, _, err := n.Bans("lobby", "", 1)
		for what, err := range map[string]error{"Ban": n.Ban(t.Context(), "lobby", "bob", time.Minute), "Unban": n.Unban(t.Context(), "lobby", "bob"), "Bans": err} {
			if err != hub.ErrDraining {
				t.Errorf("%s of a closed hub: got %v, want %v", what, err, hub.ErrDraining)
			}
		}
	})
}

// Whichever node lifts a ban, it returns when all live nodes admit the user, or after 1 s. It asks
// them every 100 ms.
func TestUnbanWaitsForNodes(t *testing.T) {
	for delay, want := range map[time.Duration]time.Duration{0: 0, 350 * time.Millisecond: 400 * time.Millisecond, time.Hour: time.Second} {
		for i := range 3 {
			if i == 2 && delay == 350*time.Millisecond {
				want = delay // this node need not ask itself
			}
			synctest.Test(t, func(t *testing.T) {
				_, a, b, lagging := openLagging(t, delay)
				if err := a.Ban(t.Context(), "lobby", "bob", 2*time.Hour); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Hour)
				if got := lagging.listBans("lobby", "", 1); got != "bob" {
					t.Fatalf("rows delayed by %v: got bans %q, want bob", delay, got)
				}
				start := time.Now()
				if err := []*node{a, b, lagging}[i].Unban(t.Context(), "lobby", "bob"); err != nil || time.Since(start) != want {
					t.Errorf("rows delayed by %v: got %v after %v, want success after %v", delay, err, time.Since(start), want)
				}
				for j, n := range []*node{a, b, lagging} {
					if want := n != lagging || delay < time.Hour; n.admits("lobby", "bob") != want {
						t.Errorf("rows delayed by %v: node %d admits the user: %v, want %v", delay, j, !want, want)
					}
				}
			})
		}
	}
}

// A node that lists and lifts a ban need not be the one that has stored it. A node that is cut off
// may lack bans: its list may be incomplete, and it does not know that there is no ban.
func TestBansOfAnotherNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := &lossyBus{Bus: sharedMemory()}
		a, b := openNode(t, bus.Bus), openNode(t, bus)
		time.Sleep(2 * time.Second)
		for _, user := range []room.UserID{"bob", "carol"} {
			if err := a.Ban(t.Context(), "lobby", user, time.Hour); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.Unban(t.Context(), "lobby", "bob"); err != nil {
			t.Error(err)
		}
		for i, n := range []*node{a, b} {
			if got := n.listBans("lobby", "", 10); got != "carol" {
				t.Errorf("node %d: got bans %q, want carol", i, got)
			}
		}
		if err := b.Unban(t.Context(), "lobby", "bob"); err != hub.ErrNotBanned {
			t.Errorf("with contact: got %v, want %v", err, hub.ErrNotBanned)
		}
		bus.change(func() { bus.off = true })
		if page, more, err := b.Bans("lobby", "", 10); err != hub.ErrIncomplete || more || len(page) != 1 || page[0].ID != "carol" {
			t.Errorf("cut off: got bans %v, %v, %v; want carol and %v", page, more, err, hub.ErrIncomplete)
		}
		if err := b.Unban(t.Context(), "lobby", "bob"); err != backplane.ErrUnavailable {
			t.Errorf("cut off: got %v, want %v", err, backplane.ErrUnavailable)
		}
	})
}

// Joins, bans and their ends race on two nodes. Afterwards both nodes have the same ban or none,
// and the user is in the room if it was admitted, but not if it is banned.
func TestBanRaces(t *testing.T) {
	for i := range 200 {
		synctest.Test(t, func(t *testing.T) {
			bus := sharedMemory()
			nodes := []*node{openNode(t, bus), openNode(t, bus)}
			time.Sleep(2 * time.Second)
			if i%2 == 0 {
				if err := nodes[0].Ban(t.Context(), "lobby", "bob", time.Hour); err != nil {
					t.Fatal(err)
				}
			}
			var calls sync.WaitGroup
			var admitted sync.Map // of nodes
			start := time.Now()
			for _, k := range rand.Perm(6) {
				n := nodes[k%2]
				calls.Go(func() {
					switch k / 2 {
					case 0:
						conn, err := n.Connect(t.Context(), "lobby", "bob", hub.Lease{})
						if err != nil {
							t.Error(err)
							return
						}
						c := &fakeClient{node: n, conn: conn, room: "lobby", user: "bob"}
						if err := n.Join(t.Context(), conn, room.User{ID: "bob", Info: []byte("{}")}, c, ""); err != nil {
							n.Leave(conn, stream.Closed)
							return
						}
						admitted.Store(k, c)
					case 1:
						if err := n.Ban(t.Context(), "lobby", "bob", time.Hour); err != nil {
							t.Error(err)
						}
					default:
						if err := n.Unban(t.Context(), "lobby", "bob"); err != nil && err != hub.ErrNotBanned {
							t.Error(err)
						}
					}
				})
			}
			calls.Wait()
			if d := time.Since(start); d > 1100*time.Millisecond {
				t.Errorf("the calls took %v, want at most 1 s", d)
			}
			time.Sleep(10 * time.Second) // grace periods end
			open := 0
			admitted.Range(func(_, c any) bool {
				if c.(*fakeClient).end() == "" {
					open++
				}
				return true
			})
			first := nodes[0].BanEnd("lobby", "bob")
			want := fmt.Sprintf("%d %d", open, min(open, 1))
			for j, n := range nodes {
				if end := n.BanEnd("lobby", "bob"); !end.Equal(first) {
					t.Errorf("node %d: the ban ends %v, want %v", j, end, first)
				}
				if got := n.list("lobby"); !strings.HasPrefix(got, want) || open > 0 && !first.IsZero() {
					t.Errorf("node %d: got %q with %d streams, and the end of the ban %v", j, got, open, first)
				}
			}
		})
	}
}
