package hub_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
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

// A message releases its slot if it is rejected or if its idempotency key is already known. Users
// do not share keys.
func TestRejectedMessagesReleaseSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := openNode(t, memory())
		alice := n.join("lobby", "alice", hub.Lease{}, "")
		n.join("lobby", "bob", hub.Lease{}, "")
		if err := n.Kick(t.Context(), "lobby", "bob", time.Minute); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		alice.take()
		send := func(user room.UserID, data string) (string, error) {
			return n.Send(t.Context(), "lobby", hub.Draft{Event: "message", Data: []byte(data)}, user, "key")
		}
		first, err := send("alice", "1")
		if err != nil {
			t.Fatal(err)
		}
		for range 100 { // more messages than slots
			if _, err := send("bob", "2"); !errors.Is(err, hub.ErrBanned) {
				t.Fatalf("message of a banned user: got %v, want %v", err, hub.ErrBanned)
			}
			if id, err := send("alice", "3"); err != nil || id != first {
				t.Fatalf("message with a known key: got %s, %v; want %s", id, err, first)
			}
		}
		if _, err := send("carol", "4"); err != nil {
			t.Fatal(err)
		}
		if got := alice.take(); got != "message:1 message:4" {
			t.Errorf("got %q", got)
		}
	})
}

// A room may be dropped while a message waits for a slot. The message is then sent to the new room.
// If the hub closes instead, the message is rejected.
func TestRoomEndsBeforeSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &slowBus{Bus: memory()}
		n := openNode(t, slow, func(c *hub.Config) { c.RoomAge = time.Second })
		n.send("lobby", "alice", "1")
		s := n.streams.last()
		for range cap(s.slots) {
			s.slots <- struct{}{}
		}
		var wait sync.WaitGroup
		wait.Go(func() { n.send("lobby", "alice", "2") })
		time.Sleep(1500 * time.Millisecond)
		if rooms := n.Stats().Rooms; rooms != 0 {
			t.Errorf("%d rooms after the room expired, want 0", rooms)
		}
		for range cap(s.slots) {
			s.Release()
		}
		wait.Wait()
		if rooms := n.Stats().Rooms; rooms != 1 {
			t.Errorf("%d rooms after the message, want 1", rooms)
		}

		slow.set(time.Second, false)
		wait.Go(func() { n.send("lobby", "alice", "3") }) // waits for the log
		synctest.Wait()
		s = n.streams.last()
		for range cap(s.slots) - 1 {
			s.slots <- struct{}{}
		}
		wait.Go(func() {
			if _, err := n.Send(t.Context(), "lobby", hub.Draft{Event: "message", Data: []byte("4")}, "alice", ""); !errors.Is(err, hub.ErrDraining) {
				t.Errorf("message while the hub closes: got %v, want %v", err, hub.ErrDraining)
			}
		})
		synctest.Wait()
		wait.Go(func() { n.Close(context.Background()) })
		synctest.Wait()
		for range cap(s.slots) - 1 {
			s.Release()
		}
		wait.Wait()
	})
}

// A message that waits for the log keeps its slot and its room, even if a message with the same
// number arrives from another node.
func TestMessageKeepsSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := memory()
		slow := &slowBus{Bus: bus}
		a, b := openNode(t, slow, func(c *hub.Config) { c.MaxRooms = 1 }), openNode(t, bus)
		slow.set(time.Second, false)
		var wait sync.WaitGroup
		wait.Go(func() { a.send("lobby", "alice", "1") })
		synctest.Wait()
		b.send("lobby", "bob", "2") // has number 1 on its node, too
		if n := len(a.streams.last().slots); n != 1 {
			t.Errorf("%d slots reserved, want 1", n)
		}
		if _, err := a.Connect(t.Context(), "den", "carol", hub.Lease{}); !errors.Is(err, hub.ErrTooManyRooms) {
			t.Errorf("second room while a message of the first waits for the log: got %v, want %v", err, hub.ErrTooManyRooms)
		}
		wait.Wait()

		slow.set(time.Second, false)
		slow.fail(backplane.ErrUnavailable, false)
		wait.Go(func() { a.Send(t.Context(), "lobby", hub.Draft{Event: "message", Data: []byte("3")}, "alice", "") })
		synctest.Wait()
		if _, err := a.Connect(t.Context(), "den", "carol", hub.Lease{}); !errors.Is(err, hub.ErrTooManyRooms) {
			t.Errorf("second room while a message of the first waits for the log: got %v, want %v", err, hub.ErrTooManyRooms)
		}
		wait.Wait()
		slow.fail(nil, false)
		conn, err := a.Connect(t.Context(), "den", "carol", hub.Lease{})
		if err != nil {
			t.Fatalf("second room after the message failed: %v", err)
		}
		a.Leave(conn, stream.Closed)
	})
}

// Only the node that accepted a message calls OnMessage. A hook that is fast enough receives every
// call, however large the total size of the messages is.
func TestHooksOfOneNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := backplane.NewMemory(backplane.MemoryConfig{Messages: 10, Age: time.Minute, Bytes: 64 << 20})
		var mine, theirs int
		a := openNode(t, bus, func(c *hub.Config) { c.OnMessage = func(room.Message) { mine++ } })
		b := openNode(t, bus, func(c *hub.Config) { c.OnMessage = func(room.Message) { theirs++ } })
		b.send("lobby", "bob", "1") // b is subscribed to the room
		synctest.Wait()
		mine, theirs = 0, 0
		data := `"` + strings.Repeat("x", 1<<20) + `"`
		for range 100 {
			a.send("lobby", "alice", data)
			synctest.Wait()
		}
		if mine != 100 || theirs != 0 {
			t.Errorf("calls of OnMessage: got %d on the sender's node and %d on the other, want 100 and 0", mine, theirs)
		}
	})
}

// The least recently used room is evicted. A message counts as a use. Rooms with users are not
// evicted.
func TestEviction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := openNode(t, memory(), func(c *hub.Config) { c.MaxRooms = 3 })
		for _, name := range []string{"a", "b", "c", "a"} {
			n.send(name, "", "1")
			time.Sleep(time.Second)
		}
		n.join("d", "alice", hub.Lease{}, "")
		n.expectRooms("a", "c", "d")
		n.join("c", "alice", hub.Lease{}, "")
		n.send("e", "", "1")
		n.expectRooms("c", "d", "e")
		last := n.join("e", "alice", hub.Lease{}, "")
		if _, err := n.Connect(t.Context(), "f", "bob", hub.Lease{}); !errors.Is(err, hub.ErrTooManyRooms) {
			t.Errorf("fourth room with three in use: got %v, want %v", err, hub.ErrTooManyRooms)
		}
		if c := n.Stats().Connections; c != 3 {
			t.Errorf("%d connections hold a slot, want 3", c)
		}
		last.Drop(stream.Closed)
		time.Sleep(10 * time.Second)
		n.send("f", "alice", "1")
		n.expectRooms("c", "d", "f")
		time.Sleep(40 * time.Second)
		n.send("f", "alice", "2")
		time.Sleep(40 * time.Second)
		n.expectRooms("c", "d", "f")
		time.Sleep(time.Minute)
		n.expectRooms("c", "d")
	})
}

// expectRooms checks that the hub is subscribed to exactly these rooms.
func (n *node) expectRooms(names ...room.Name) {
	n.t.Helper()
	synctest.Wait()
	want := append(append([]room.Name{backplane.Nodes}, names...), "table")
	if got := n.subs.open(); !slices.Equal(got, want) || n.Stats().Rooms != len(names) {
		n.t.Errorf("subscriptions: got %q with %d rooms, want %q", got, n.Stats().Rooms, want)
	}
}

// A room that cannot be opened leaves no resources behind. The next caller opens it again.
func TestFailedOpening(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := &hookedBus{Bus: memory(), last: func() (uint64, error) { return 0, errors.New("no leader") }}
		n := openNode(t, bus)
		if _, err := n.Connect(t.Context(), "lobby", "alice", hub.Lease{}); !errors.Is(err, backplane.ErrUnavailable) {
			t.Errorf("got %v, want %v", err, backplane.ErrUnavailable)
		}
		n.expectRooms()
		if c := n.Stats().Connections; c != 0 {
			t.Errorf("%d connections hold a slot, want 0", c)
		}
		bus.last = nil
		n.join("lobby", "alice", hub.Lease{}, "")
		n.expectRooms("lobby")
	})
}

// A new room starts at the end of its log, even if messages arrive while it is opened. Clients can
// resume from earlier ids, and ids never decrease.
func TestRoomStartsAtLogEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := memory()
		bus := &hookedBus{Bus: inner}
		n := openNode(t, bus, func(c *hub.Config) { c.RoomAge = time.Second })
		n.send("lobby", "alice", "1")
		id := n.send("lobby", "alice", "2")
		time.Sleep(5 * time.Second)
		n.expectRooms()
		if got := n.join("lobby", "bob", hub.Lease{}, id).take(); !strings.HasPrefix(got, "sync") {
			t.Errorf("resume with the last id of the log: got %q, want sync first", got)
		}

		other := openNode(t, inner)
		bus.last = func() (uint64, error) {
			last, err := inner.Last(t.Context(), "den")
			other.send("den", "alice", "2")
			return last, err
		}
		other.send("den", "alice", "1")
		c := n.join("den", "bob", hub.Lease{}, "")
		synctest.Wait()
		if _, seq, _ := strings.Cut(c.view.position, "-"); seq != fmt.Sprint(other.lastOf("den")) {
			t.Errorf("position of the room: got %s, want sequence number %d", c.view.position, other.lastOf("den"))
		}
	})
}

// lastOf returns the position of the last message of the room's log.
func (n *node) lastOf(name room.Name) uint64 {
	n.t.Helper()
	last, err := n.bus.Last(n.t.Context(), name)
	if err != nil {
		n.t.Fatal(err)
	}
	return last
}
