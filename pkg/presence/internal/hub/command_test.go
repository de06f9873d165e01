package hub_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/internal/hub"
	"example.com/presence/pkg/presence/room"
)

// Commands preserve every byte. Clients receive an info exactly as it was sent, and an
// authenticator may use any bytes in a SID or session.
func TestCommandsKeepBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := openNode(t, memory())
		sid, session, next := "\xfe<sid>", "\xff\x00<session>", "\xfd"
		in := func(d time.Duration) time.Time { return time.Now().Add(d) }
		alice := n.join("lobby", "alice", hub.Lease{SID: sid, Session: session, Expires: in(time.Minute)}, "")
		time.Sleep(time.Second)
		for _, info := range []string{"{\"a\":\"<b>&\u2028\"}", "null", `"\u003c"`, "1.50e3"} {
			if err := n.Update(t.Context(), "lobby", "alice", []byte(info)); err != nil {
				t.Fatal(err)
			}
			page, err := n.Members(t.Context(), "lobby", "", 10)
			if err != nil {
				t.Fatal(err)
			}
			if got := string(page.Members[0].Info); got != info {
				t.Errorf("info: got %s, want %s", got, info)
			}
		}
		lease := hub.Lease{SID: sid, Session: next, Expires: in(2 * time.Minute)}
		if err := n.Renew(t.Context(), "alice", room.Patterns{"lobby"}, lease, session); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if got := alice.take(); strings.Contains(got, "goodbye") {
			t.Errorf("after a renewal alice got %q, want no goodbye", got)
		}
		if err := n.SignOut(t.Context(), "alice", next); err != nil {
			t.Fatal(err)
		}
		if got := alice.take(); !strings.HasSuffix(got, `goodbye:{"reason":"signed out"}`) {
			t.Errorf("after a sign-out alice got %q, want goodbye signed out", got)
		}
	})
}

// After Close, Renew and SignOut succeed, because this node has no streams left.
func TestSessionAfterClose(t *testing.T) {
	for _, own := range []bool{false, true} {
		n := openNode(t, memory(), func(c *hub.Config) { c.OwnBus = own })
		if err := n.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := n.Renew(t.Context(), "alice", room.Patterns{"*"}, hub.Lease{}, ""); err != nil {
			t.Errorf("own bus %v: Renew: %v", own, err)
		}
		if err := n.SignOut(t.Context(), "alice", "s"); err != nil {
			t.Errorf("own bus %v: SignOut: %v", own, err)
		}
	}
}

// Clients receive an update at the end of the flush interval. Update returns a specific error if
// the user is absent, the hub is closed, or no node answers.
func TestUpdate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := &hookedBus{Bus: memory()}
		n := openNode(t, bus)
		alice := n.join("lobby", "alice", hub.Lease{}, "")
		time.Sleep(time.Second)
		for range 2 { // the second join is sent a count that the other clients do not have yet
			n.join("lobby", "alice", hub.Lease{}, "")
		}
		time.Sleep(time.Second)
		alice.take()
		update := func(user room.UserID) error { return n.Update(t.Context(), "lobby", user, []byte(`{"n":1}`)) }
		if err := update("alice"); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second)
		if got := alice.take(); got != `update:{"id":"alice","info":{"n":1}}` && got != "update" {
			t.Errorf("got %q", got)
		}
		if err := update("bob"); !errors.Is(err, hub.ErrNotInRoom) {
			t.Errorf("update of an absent user: got %v, want %v", err, hub.ErrNotInRoom)
		}
		bus.mute = true
		if err := update("alice"); !errors.Is(err, backplane.ErrUnavailable) {
			t.Errorf("update without an answer: got %v, want %v", err, backplane.ErrUnavailable)
		}
		bus.mute = false
		if err := n.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if err := update("alice"); !errors.Is(err, hub.ErrDraining) {
			t.Errorf("update after Close: got %v, want %v", err, hub.ErrDraining)
		}
	})
}

// Close closes the bus if the hub owns it. If Open fails, no subscription remains.
func TestOwnBus(t *testing.T) {
	for _, own := range []bool{false, true} {
		bus := memory()
		n := openNode(t, bus, func(c *hub.Config) { c.OwnBus = own })
		if err := n.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, _, err := bus.Append(t.Context(), "lobby", "", []byte("1")); errors.Is(err, backplane.ErrClosed) != own {
			t.Errorf("own bus %v: append after Close: %v", own, err)
		}
	}
	bus := &countingBus{Bus: &hookedBus{Bus: memory(), watch: errors.New("no bucket")}}
	if _, err := hub.Open(hub.Config{Bus: bus, Streams: &fakeStreams{t: t}}); err == nil || len(bus.open()) > 0 {
		t.Errorf("Watch fails: got error %v and subscriptions of %q, want an error and none", err, bus.open())
	}
}
