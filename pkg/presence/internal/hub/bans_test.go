package hub_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence/internal/hub"
	"example.com/presence/pkg/presence/internal/stream"
	"example.com/presence/pkg/presence/room"
)

// Kick returns when this node has applied the row, or after a second. A ban holds in its room alone,
// and ends by the clock of the hub, however long the engine keeps the row.
func TestKick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		delay, clock := 300*time.Millisecond, &stoppedClock{}
		bus := &hookedBus{Bus: memory(), row: func(deliver func()) { time.AfterFunc(delay, deliver) }}
		n := openNode(t, bus, func(c *hub.Config) { c.Clock = clock })
		var atEnd time.Time
		bob := n.join("lobby", "bob", hub.Lease{}, "", func(c *fakeClient) {
			c.atEnd = func() { atEnd = n.BanEnd("lobby", "bob") }
		})
		n.join("den", "bob", hub.Lease{}, "")

		if err := n.Kick(t.Context(), "lobby", "absent", time.Minute); !errors.Is(err, hub.ErrNotInRoom) {
			t.Errorf("of an absent user: %v", err)
		}
		for _, d := range []time.Duration{hub.MinBan - 1, hub.MaxBan + 1} {
			if err := n.Kick(t.Context(), "lobby", "bob", d); !errors.Is(err, hub.ErrBan) {
				t.Errorf("for %v: %v", d, err)
			}
		}
		start := time.Now()
		if err := n.Kick(t.Context(), "lobby", "bob", time.Minute); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d != delay {
			t.Errorf("it returned after %v, the row came after %v", d, delay)
		}
		if synctest.Wait(); bob.end() != hub.EndRemoved {
			t.Errorf("the user's stream ended %q", bob.end())
		}
		if atEnd.IsZero() {
			t.Error("the stream ended before the ban was known: its client could join again")
		}
		if end := n.BanEnd("den", "bob"); !end.IsZero() {
			t.Errorf("banned from another room until %v", end)
		}
		n.join("den", "bob", hub.Lease{}, "")
		clock.advance(time.Minute)
		if end := n.BanEnd("lobby", "bob"); !end.IsZero() {
			t.Errorf("banned until %v, and now it is %v", end, clock.Now())
		}
		n.join("lobby", "bob", hub.Lease{}, "")

		delay = time.Hour
		start = time.Now()
		if err := n.Kick(t.Context(), "lobby", "bob", time.Minute); err != nil || time.Since(start) != time.Second {
			t.Errorf("a row that does not come: %v after %v", err, time.Since(start))
		}
	})
}

// A ban that comes while the user's replay is read refuses the join, and the room stays a candidate
// for eviction.
func TestBanDuringReplay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &slowBus{Bus: memory()}
		n := openNode(t, slow, func(c *hub.Config) { c.MaxRooms, c.Linger = 1, 0 })
		first := n.send("lobby", "alice", "1")
		n.send("lobby", "alice", "2")
		n.join("lobby", "bob", hub.Lease{}, "")
		conn, err := n.Connect(t.Context(), "lobby", "bob", hub.Lease{})
		if err != nil {
			t.Fatal(err)
		}
		slow.set(time.Second, false)
		joined := make(chan error)
		go func() {
			joined <- n.Join(t.Context(), conn, room.User{ID: "bob"}, &fakeClient{node: n, conn: conn}, first)
		}()
		synctest.Wait()
		slow.set(0, false)
		if err := n.Kick(t.Context(), "lobby", "bob", time.Minute); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if _, err := n.Connect(t.Context(), "den", "carol", hub.Lease{}); !errors.Is(err, hub.ErrTooManyRooms) {
			t.Errorf("while the log of the room is read: %v", err)
		}
		if err := <-joined; !errors.Is(err, hub.ErrBanned) {
			t.Errorf("the join: %v", err)
		}
		n.Leave(conn, stream.Closed)
		n.join("den", "carol", hub.Lease{}, "")
	})
}
