package hub_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/internal/hub"
	"example.com/presence/pkg/presence/room"
)

// operations are calls that need the answers of all live nodes.
func operations(n *node) map[string]func() error {
	ctx := n.t.Context()
	return map[string]func() error{
		"Renew":   func() error { return n.Renew(ctx, "bob", room.Patterns{"*"}, hub.Lease{}, "") },
		"SignOut": func() error { return n.SignOut(ctx, "bob", "none") },
		"Update":  func() error { return n.Update(ctx, "lobby", "alice", []byte(`1`)) },
		"Rooms":   func() error { _, _, err := n.Rooms(ctx, "", 10); return err },
		"Members": func() error { _, err := n.Members(ctx, "absent", "", 10); return err },
		"absent user": func() error {
			if err := n.Kick(ctx, "lobby", "absent", time.Minute); !errors.Is(err, hub.ErrNotInRoom) {
				return err
			}
			return nil
		},
	}
}

// A command is repeated after 250 ms and after 500 ms to the nodes that have not answered, because
// the command or the answer may have been lost.
func TestLostCommands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes, buses := openCluster(t, 3)
		nodes[0].join("lobby", "alice", hub.Lease{}, "")
		time.Sleep(time.Second)
		for name, do := range operations(nodes[0]) {
			for _, f := range []fate{{}, {lost: true}, {mute: true}} {
				buses[2].set(once(f))
				start, want := time.Now(), time.Duration(0)
				if f != (fate{}) {
					want = 250 * time.Millisecond
				}
				if err := do(); err != nil || time.Since(start) != want {
					t.Errorf("%s, %+v: got %v after %v, want success after %v", name, f, err, time.Since(start), want)
				}
			}
		}
		buses[2].set(func(string) fate { return fate{lost: buses[2].asked < 3} })
		start := time.Now()
		if err := operations(nodes[0])["Update"](); err != nil || time.Since(start) != 500*time.Millisecond {
			t.Errorf("command lost twice: got %v after %v, want success after 500ms", err, time.Since(start))
		}
	})
}

// A command fails if a live node does not answer within 1 s, and a list is incomplete. Both succeed
// again once that node's lease has ended. One node is enough to find a user.
func TestMissingAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes, buses := openCluster(t, 2)
		nodes[0].join("lobby", "alice", hub.Lease{}, "")
		nodes[0].join("lobby", "eve", hub.Lease{}, "")
		time.Sleep(time.Second)
		buses[1].set(func(string) fate { return fate{lost: true} })
		for name, do := range operations(nodes[0]) {
			want := backplane.ErrUnavailable
			if name == "Rooms" || name == "Members" {
				want = hub.ErrIncomplete
			}
			start := time.Now()
			if err := do(); !errors.Is(err, want) || time.Since(start) != time.Second {
				t.Errorf("%s without an answer: got %v after %v, want %v after 1s", name, err, time.Since(start), want)
			}
			if buses[1].count() != 3 {
				t.Errorf("%s: the node was asked %d times, want 3", name, buses[1].count())
			}
			buses[1].set(buses[1].fate)
		}
		if err := nodes[0].Kick(t.Context(), "lobby", "eve", time.Minute); err != nil {
			t.Errorf("kick of a user on this node: %v", err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errors.New("gone"))
		if err := nodes[0].SignOut(ctx, "alice", ""); err == nil || err.Error() != "gone" {
			t.Errorf("command of a caller that has gone: got %v, want the cause of ctx", err)
		}

		buses[1].change(func() { buses[1].silent = true })
		time.Sleep(6 * time.Second)
		for name, do := range operations(nodes[0]) {
			if err := do(); err != nil {
				t.Errorf("%s after the end of the other node's lease: %v", name, err)
			}
		}
	})
}

// A node that is cut off rejects commands at once, and returns the members that it knows.
func TestCommandsWhileCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes, buses := openCluster(t, 2)
		nodes[0].join("lobby", "alice", hub.Lease{}, "")
		time.Sleep(time.Second)
		do := operations(nodes[0])
		delete(do, "Members")
		delete(do, "Rooms")
		do["Kick"] = func() error { return nodes[0].Kick(t.Context(), "lobby", "alice", time.Minute) }
		buses[0].change(func() { buses[0].off = true })
		start := time.Now()
		for name, do := range do {
			if err := do(); !errors.Is(err, backplane.ErrUnavailable) {
				t.Errorf("%s: got %v, want %v", name, err, backplane.ErrUnavailable)
			}
		}
		if got := nodes[0].list("lobby"); got != "1 1 alice={} incomplete" {
			t.Errorf("members of the lobby: got %q, want alice", got)
		}
		if got := nodes[0].list("absent"); got != "0 0 incomplete" {
			t.Errorf("members of an absent room: got %q, want none", got)
		}
		if page, _, err := nodes[0].Rooms(t.Context(), "", 10); err != hub.ErrIncomplete || len(page) != 1 || page[0].Room != "lobby" {
			t.Errorf("rooms: got %v, %v; want the lobby and %v", page, err, hub.ErrIncomplete)
		}
		if d := time.Since(start); d != 0 {
			t.Errorf("the calls took %v, want 0s", d)
		}
	})
}

// A command of an unknown version, and one without a known field, is neither applied nor answered.
// Unknown fields are ignored.
func TestForeignCommands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes, _ := openCluster(t, 2)
		alice := nodes[1].join("lobby", "alice", hub.Lease{Session: "s"}, "")
		time.Sleep(time.Second)
		for _, c := range []struct {
			request string
			answers int
		}{
			{`{"v":2,"from":"x","sign_out":{"user":"alice","session":"cw=="}}`, 0},
			{`{"from":"x","sign_out":{"user":"alice","session":"cw=="}}`, 0},
			{`{"v":1,"from":"x","later":{"user":"alice"}}`, 0},
			{`{"v":1`, 0},
			{`{"v":1,"from":"x","of":["y"],"sign_out":{"user":"alice","session":"cw=="}}`, 0},
			{`{"v":1,"from":"x","find":{"room":"lobby","user":"alice","later":1},"later":1}`, 2},
		} {
			answers := 0
			nodes[0].bus.Ask(t.Context(), backplane.Nodes, []byte(c.request), func([]byte) bool { answers++; return true })
			if answers != c.answers {
				t.Errorf("%s: got %d answers, want %d", c.request, answers, c.answers)
			}
		}
		if synctest.Wait(); alice.end() != "" {
			t.Errorf("the stream ended %q, want no end", alice.end())
		}
	})
}

// A sign-out and a renewal apply to a connection that is being opened on another node, although its
// room does not count it yet.
func TestSessionWhileConnecting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes, _ := openCluster(t, 2)
		a, b := nodes[0], nodes[1]
		connect := func(session string) (late *fakeClient) {
			lease := hub.Lease{SID: "s", Session: session, Expires: time.Now().Add(time.Minute)}
			conn, err := b.Connect(t.Context(), "lobby", "alice", lease)
			if err != nil {
				t.Fatal(err)
			}
			return &fakeClient{node: b, conn: conn, user: "alice", room: "lobby"}
		}
		out, renewed := connect("out"), connect("in")
		if err := a.SignOut(t.Context(), "alice", "out"); err != nil {
			t.Fatal(err)
		}
		lease := hub.Lease{SID: "s", Session: "in", Expires: time.Now().Add(time.Hour)}
		if err := a.Renew(t.Context(), "alice", room.Patterns{"*"}, lease, "in"); err != nil {
			t.Fatal(err)
		}
		for _, c := range []*fakeClient{out, renewed} {
			if err := b.Join(t.Context(), c.conn, room.User{ID: "alice", Info: []byte("{}")}, c, ""); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if out.end() != hub.EndSignedOut || renewed.end() != "" {
			t.Errorf("ended: %q after the sign-out, %q after the renewal; want %q and none", out.end(), renewed.end(), hub.EndSignedOut)
		}
	})
}

// list returns the counts and the members of a room, and whether the list is incomplete.
func (n *node) list(name room.Name) string {
	n.t.Helper()
	p, err := n.Members(n.t.Context(), name, "", 100)
	if err != nil && err != hub.ErrIncomplete {
		n.t.Fatal(err)
	}
	words := []string{fmt.Sprint(p.Connections), fmt.Sprint(p.Users)}
	for _, m := range p.Members {
		words = append(words, string(m.ID)+"="+string(m.Info))
	}
	if err != nil {
		words = append(words, "incomplete")
	}
	return strings.Join(words, " ")
}
