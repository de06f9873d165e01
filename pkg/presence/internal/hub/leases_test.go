package hub_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence/internal/hub"
	"example.com/presence/pkg/presence/internal/stream"
	"example.com/presence/pkg/presence/room"
)

// A client receives expiring only after its sync, and at most once per expiry second.
func TestExpiring(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := openNode(t, memory())
		end := time.Now().Truncate(time.Second).Add(20 * time.Second)
		n.join("lobby", "alice", hub.Lease{}, "")
		bob := n.join("lobby", "bob", hub.Lease{SID: "s", Expires: end}, "") // waits for its sync until the interval ends
		if got := bob.take(); got != "" {
			t.Fatalf("within the flush interval bob got %q, want no event", got)
		}
		time.Sleep(time.Second)
		if got := bob.take(); got != `sync user count:2 expiring:{"in":20}` {
			t.Errorf("got %q", got)
		}
		for i := range 5 {
			lease := hub.Lease{SID: "s", Expires: end.Add(time.Duration(i+1) * 100 * time.Millisecond)}
			if err := n.Renew(t.Context(), "bob", room.Patterns{"*"}, lease, ""); err != nil {
				t.Fatal(err)
			}
		}
		if got := bob.take(); got != "" {
			t.Errorf("after renewals within one expiry second bob got %q, want no event", got)
		}
		time.Sleep(time.Minute)
		if got := bob.take(); got != `goodbye:{"reason":"expired"}` {
			t.Errorf("at the end of the lease bob got %q", got)
		}
	})
}

// A client receives expiring 30 s before the expiry of its lease, and again before the expiry of
// the renewed lease.
func TestExpiringNotice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := openNode(t, memory())
		began := time.Now()
		alice := n.join("lobby", "alice", hub.Lease{Expires: began.Add(5 * time.Minute)}, "")
		time.Sleep(5*time.Minute - 30*time.Second - time.Millisecond)
		if got := alice.take(); got != "sync user count:1" {
			t.Errorf("before the notice alice got %q", got)
		}
		time.Sleep(2 * time.Millisecond)
		if got := alice.take(); got != `expiring:{"in":30}` {
			t.Errorf("30 s before the expiry alice got %q, want an expiring event", got)
		}
		if err := n.Renew(t.Context(), "alice", room.Patterns{"*"}, hub.Lease{Expires: began.Add(8 * time.Minute)}, ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Minute)
		if got := alice.take(); got != `expiring:{"in":30}` {
			t.Errorf("30 s before the second expiry alice got %q, want an expiring event", got)
		}
	})
}

// A renewal applies to one user, and only in rooms that its patterns match. It never sets an expiry
// on a lease that has none.
func TestRenewalScope(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := openNode(t, memory())
		soon := hub.Lease{Expires: time.Now().Add(time.Minute)}
		den := n.join("den", "alice", soon, "")
		doc := n.join("doc-1", "alice", soon, "")
		endless := n.join("doc-2", "alice", hub.Lease{}, "")
		bob := n.join("doc-1", "bob", soon, "")
		carol := n.join("doc-1", "carol", hub.Lease{}, "")
		renewed := n.join("doc-1", "carol", hub.Lease{Expires: time.Now().Add(10 * time.Minute)}, "")
		later := hub.Lease{Expires: time.Now().Add(time.Hour)}
		if err := n.Renew(t.Context(), "alice", room.Patterns{"doc-*"}, later, ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		for c, want := range map[*fakeClient]stream.End{den: hub.EndExpired, doc: "", endless: "", bob: hub.EndExpired} {
			if got := c.end(); got != want {
				t.Errorf("%s in %s: ended %q, want %q", c.user, c.room, got, want)
			}
		}
		if err := n.Renew(t.Context(), "carol", room.Patterns{"*"}, later, ""); err != nil {
			t.Fatal(err)
		}
		if err := n.Renew(t.Context(), "alice", room.Patterns{"*"}, hub.Lease{}, ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Minute)
		if synctest.Wait(); renewed.end() != "" {
			t.Errorf("stream renewed for one hour: ended %q after 32 minutes", renewed.end())
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if doc.end() != "" || endless.end() != "" {
			t.Errorf("streams without an expiry: ended %q and %q", doc.end(), endless.end())
		}
		if carol.end() != "" || renewed.end() != hub.EndExpired {
			t.Errorf("carol's stream without an expiry: ended %q, want no end; with an expiry: ended %q, want %q",
				carol.end(), renewed.end(), hub.EndExpired)
		}
	})
}

// A sign-out ends only the streams of its session, including streams that are not counted yet. A
// renewal moves streams to the session of the new token.
func TestSignOutOfOneSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := openNode(t, memory())
		a := n.join("lobby", "alice", hub.Lease{Session: "a"}, "")
		b := n.join("lobby", "alice", hub.Lease{Session: "b"}, "")
		conn, err := n.Connect(t.Context(), "lobby", "alice", hub.Lease{Session: "a"})
		if err != nil {
			t.Fatal(err)
		}
		if err := n.SignOut(t.Context(), "alice", "a"); err != nil {
			t.Fatal(err)
		}
		late := &fakeClient{node: n, conn: conn, user: "alice", room: "lobby"}
		if err := n.Join(t.Context(), conn, room.User{ID: "alice", Info: []byte("{}")}, late, ""); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if a.end() != hub.EndSignedOut || b.end() != "" || late.end() != hub.EndSignedOut {
			t.Errorf("ended: %q in the session, %q in another session, %q in the session but not counted yet", a.end(), b.end(), late.end())
		}

		if err := n.Renew(t.Context(), "alice", room.Patterns{"*"}, hub.Lease{Session: "c"}, "b"); err != nil {
			t.Fatal(err)
		}
		for _, session := range []string{"b", "c"} {
			if b.end() != "" {
				t.Error("sign-out of the old session ended the moved stream")
			}
			if err := n.SignOut(t.Context(), "alice", session); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		if b.end() != hub.EndSignedOut {
			t.Errorf("sign-out of the new session: the moved stream ended %q, want %q", b.end(), hub.EndSignedOut)
		}
	})
}

// The connections share a timer, until the last one that expires has closed. A closed connection
// releases its slot only once, even if Leave is called twice.
func TestEndedConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := &stoppedClock{}
		n := openNode(t, memory(), func(c *hub.Config) {
			c.Clock, c.MaxConnections, c.MaxConnectionsPerUser = clock, 3, 2
		})
		alice := []*fakeClient{}
		for range 2 {
			alice = append(alice, n.join("lobby", "alice", hub.Lease{Expires: clock.Now().Add(time.Hour)}, ""))
		}
		if _, err := n.Connect(t.Context(), "lobby", "alice", hub.Lease{}); !errors.Is(err, hub.ErrUserFull) {
			t.Errorf("third connection of alice: got %v, want %v", err, hub.ErrUserFull)
		}
		bob := n.join("lobby", "bob", hub.Lease{Expires: clock.Now().Add(time.Hour)}, "")
		if _, err := n.Connect(t.Context(), "lobby", "carol", hub.Lease{}); !errors.Is(err, hub.ErrFull) {
			t.Errorf("fourth connection: got %v, want %v", err, hub.ErrFull)
		}
		bob.Drop(stream.Closed)
		synctest.Wait()
		conn, err := n.Connect(t.Context(), "lobby", "bob", hub.Lease{})
		if err != nil {
			t.Fatal(err)
		}
		n.Leave(conn, stream.Closed)
		n.Leave(conn, stream.Closed)
		if s := n.Stats(); s.Connections != 2 || s.Users != 1 {
			t.Errorf("got %d connections of %d users, want 2 of 1", s.Connections, s.Users)
		}
		for i, want := range []int{0, 1} {
			before := clock.armed()
			alice[i].Drop(stream.Closed)
			synctest.Wait()
			if ended := before - clock.armed(); ended != want {
				t.Errorf("end of connection %d of alice: %d timers ended, want %d", i, ended, want)
			}
		}
	})
}

// The reason of a leave is the reason for which the user's last connection closed.
func TestLeaveReasons(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []string
		n := openNode(t, memory(), func(c *hub.Config) {
			c.OnLeave = func(_ string, m room.Member, why room.Reason) { got = append(got, string(m.ID)+" "+string(why)) }
		})
		for _, why := range []stream.End{stream.Closed, stream.Slow, stream.Timeout, hub.EndExpired, hub.EndSignedOut, hub.EndDraining} {
			c := n.join("lobby", string(why), hub.Lease{}, "")
			time.Sleep(time.Second)
			c.Drop(why)
			time.Sleep(10 * time.Second)
		}
		synctest.Wait()
		want := "closed closed, slow slow, timeout timeout, expired expired, signed out closed, draining closed"
		if s := strings.Join(got, ", "); s != want {
			t.Errorf("got %q, want %q", s, want)
		}
	})
}

// Each of many streams ends at the expiry of its own lease, for any order of joins, renewals and
// leaves. Many end at the same time.
func TestManyExpiries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := openNode(t, memory())
		began := time.Now()
		const clients = 900
		var all [clients]*fakeClient
		minutes := func(i int) int { return 1 + i*7%4 } // 225 end in each of the minutes 1 to 4
		for i := range all {
			lease := hub.Lease{Expires: began.Add(time.Duration(minutes(i)) * time.Minute)}
			all[i] = n.join(fmt.Sprint("room-", i%10), fmt.Sprint("user-", i), lease, "")
		}
		for i := 0; i < clients; i += 3 {
			later := hub.Lease{Expires: began.Add(10 * time.Minute)}
			if err := n.Renew(t.Context(), room.UserID(all[i].user), room.Patterns{"*"}, later, ""); err != nil {
				t.Fatal(err)
			}
		}
		for i := 1; i < clients; i += 9 {
			all[i].Drop(stream.Closed)
		}
		synctest.Wait()
		if got := n.Expiries(); got != clients-clients/9 {
			t.Errorf("got %d expiries after %d streams have ended, want %d", got, clients/9, clients-clients/9)
		}
		for minute := range 12 {
			time.Sleep(time.Until(began.Add(time.Duration(minute)*time.Minute + time.Millisecond)))
			synctest.Wait()
			for i, c := range all {
				want := stream.End("")
				switch end := minutes(i); {
				case i%9 == 1:
					continue // it has left
				case i%3 == 0 && minute >= 10, i%3 > 0 && minute >= end:
					want = hub.EndExpired
				}
				if got := c.end(); got != want {
					t.Fatalf("after %d minutes client %d ended %q, want %q", minute, i, got, want)
				}
			}
		}
		if got := n.Expiries(); got != 0 {
			t.Errorf("got %d expiries at the end, want none", got)
		}
	})
}
