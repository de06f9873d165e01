package hub_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence/internal/hub"
	"example.com/presence/pkg/presence/internal/stream"
	"example.com/presence/pkg/presence/room"
)

// A room whose last member was removed stays until that member's connections are closed. Until then
// it does not expire, and is not evicted if the room limit is reached.
func TestRemovedMemberKeepsRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := openNode(t, memory(), func(c *hub.Config) { c.RoomAge, c.MaxRooms = time.Second, 1 })
		n.join("lobby", "bob", hub.Lease{}, "", func(c *fakeClient) { c.stalls = 2 * time.Second })
		if err := n.Kick(t.Context(), "lobby", "bob", time.Second); err != nil {
			t.Fatal(err)
		}
		if _, err := n.Connect(t.Context(), "den", "carol", hub.Lease{}); !errors.Is(err, hub.ErrTooManyRooms) {
			t.Errorf("second room while the connection is open: got %v, want %v", err, hub.ErrTooManyRooms)
		}
		time.Sleep(1500 * time.Millisecond)
		if rooms := n.Stats().Rooms; rooms != 1 {
			t.Errorf("%d rooms while the connection is open, want 1", rooms)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if s := n.Stats(); s.Rooms != 0 || s.Connections != 0 {
			t.Errorf("%d rooms and %d connections after the connection closed, want 0 and 0", s.Rooms, s.Connections)
		}
		conn, err := n.Connect(t.Context(), room.Name("den"), "carol", hub.Lease{})
		if err != nil {
			t.Fatal(err)
		}
		n.Leave(conn, stream.Closed)
	})
}

// A room can be evicted again as soon as the connections of its removed member are closed.
func TestRemovedMemberFreesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := openNode(t, memory(), func(c *hub.Config) { c.MaxRooms = 1 })
		n.join("lobby", "bob", hub.Lease{}, "", func(c *fakeClient) { c.stalls = 2 * time.Second })
		if err := n.Kick(t.Context(), "lobby", "bob", time.Second); err != nil {
			t.Fatal(err)
		}
		if _, err := n.Connect(t.Context(), "den", "carol", hub.Lease{}); !errors.Is(err, hub.ErrTooManyRooms) {
			t.Errorf("second room while the connection is open: got %v, want %v", err, hub.ErrTooManyRooms)
		}
		time.Sleep(3 * time.Second)
		n.join("den", "carol", hub.Lease{}, "")
	})
}

// Rooms are listed in pages, each room with its own counts. Rooms without users are omitted.
func TestRoomsInPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := openNode(t, memory())
		for _, name := range []string{"a", "a", "b", "d"} {
			n.join(name, "alice", hub.Lease{}, "")
		}
		n.join("b", "bob", hub.Lease{}, "")
		n.send("c", "alice", "1")
		for _, c := range []struct {
			after, want string
			more        bool
		}{
			{"", "[{a 2 1} {b 2 2}]", true},
			{"a", "[{b 2 2} {d 1 1}]", false},
			{"b", "[{d 1 1}]", false},
			{"d", "[]", false},
		} {
			page, more, err := n.Rooms(t.Context(), c.after, 2)
			if err != nil || fmt.Sprint(page) != c.want || more != c.more || page == nil {
				t.Errorf("after %q: got %v, %v, %v; want %s, %v", c.after, page, more, err, c.want, c.more)
			}
		}
		p, err := n.Members(t.Context(), "b", "", 1)
		if err != nil || p.Connections != 2 || p.Users != 2 || len(p.Members) != 1 || p.Members[0].ID != "alice" || !p.More {
			t.Errorf("members of b: got %+v, %v", p, err)
		}
		if p, err = n.Members(t.Context(), "b", "alice", 1); err != nil || len(p.Members) != 1 || p.Members[0].ID != "bob" || p.More {
			t.Errorf("members of b after alice: got %+v, %v", p, err)
		}
		if p, err = n.Members(t.Context(), "a", "", 1); err != nil || p.Connections != 2 || p.Users != 1 {
			t.Errorf("members of a: got %+v, %v", p, err)
		}
	})
}
