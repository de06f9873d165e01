package hub_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/internal/hub"
	"example.com/presence/pkg/presence/internal/stream"
	"example.com/presence/pkg/presence/room"
)

// Kick returns when this node has applied the row, or after 1 s. A ban applies to one room. It ends
// according to the clock of the hub, even if the engine keeps the row longer.
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
			t.Errorf("kick of an absent user: got %v, want %v", err, hub.ErrNotInRoom)
		}
		for _, d := range []time.Duration{hub.MinBan - 1, hub.MaxBan + 1} {
			if err := n.Kick(t.Context(), "lobby", "bob", d); !errors.Is(err, hub.ErrBan) {
				t.Errorf("kick for %v: got %v, want %v", d, err, hub.ErrBan)
			}
		}
		start := time.Now()
		if err := n.Kick(t.Context(), "lobby", "bob", time.Minute); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d != delay {
			t.Errorf("Kick returned after %v, want %v, the delay of the row", d, delay)
		}
		if synctest.Wait(); bob.end() != hub.EndRemoved {
			t.Errorf("stream of the kicked user: ended %q, want %q", bob.end(), hub.EndRemoved)
		}
		if atEnd.IsZero() {
			t.Error("the stream ended before the ban was recorded: its client could rejoin")
		}
		if end := n.BanEnd("den", "bob"); !end.IsZero() {
			t.Errorf("banned from another room until %v, want no ban", end)
		}
		n.join("den", "bob", hub.Lease{}, "")
		clock.advance(time.Minute)
		if end := n.BanEnd("lobby", "bob"); !end.IsZero() {
			t.Errorf("banned until %v at %v, want no ban", end, clock.Now())
		}
		n.join("lobby", "bob", hub.Lease{}, "")

		delay = time.Hour
		start = time.Now()
		if err := n.Kick(t.Context(), "lobby", "bob", time.Minute); err != nil || time.Since(start) != time.Second {
			t.Errorf("kick whose row does not arrive: got %v after %v, want no error after 1 s", err, time.Since(start))
		}
	})
}

// A full table rejects a ban with the limit of the engine, and still replaces the bans that exist.
// An engine need not know its limit.
func TestFullTable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := backplane.NewMemory(backplane.MemoryConfig{MaxRows: 1})
		n := openNode(t, &hookedBus{Bus: bus})
		n.join("lobby", "alice", hub.Lease{}, "")
		n.join("lobby", "bob", hub.Lease{}, "")
		if err := n.Kick(t.Context(), "lobby", "alice", time.Minute); err != nil {
			t.Fatal(err)
		}
		if err := n.Kick(t.Context(), "lobby", "bob", time.Minute); !errors.Is(err, hub.ErrTooManyBans) || err.Error() != "ban limit reached (1)" {
			t.Errorf("second ban at a limit of 1: got %v, want ban limit reached (1)", err)
		}
		other := openNode(t, &hookedBus{Bus: memory(), put: backplane.ErrTableFull})
		other.join("lobby", "bob", hub.Lease{}, "")
		if err := other.Kick(t.Context(), "lobby", "bob", time.Minute); err != hub.ErrTooManyBans {
			t.Errorf("engine without a limit: got %v, want %v", err, hub.ErrTooManyBans)
		}
	})
}

// A join is rejected if a ban arrives while the replay is read. The rejected join leaves the room
// as a candidate for eviction.
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
			t.Errorf("second room while the log of the first is read: got %v, want %v", err, hub.ErrTooManyRooms)
		}
		if err := <-joined; !errors.Is(err, hub.ErrBanned) {
			t.Errorf("join of a banned user: got %v, want %v", err, hub.ErrBanned)
		}
		n.Leave(conn, stream.Closed)
		n.join("den", "carol", hub.Lease{}, "")
	})
}
