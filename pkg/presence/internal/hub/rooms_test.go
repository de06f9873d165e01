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

// A room whose last member was removed is kept until the connections of that member have ended:
// until then neither its age nor the limit on rooms drops it.
func TestRemovedMemberHoldsRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := openNode(t, memory(), func(c *hub.Config) { c.RoomAge, c.MaxRooms = time.Second, 1 })
		n.join("lobby", "bob", hub.Lease{}, "", func(c *fakeClient) { c.stalls = 2 * time.Second })
		if err := n.Kick(t.Context(), "lobby", "bob", time.Second); err != nil {
			t.Fatal(err)
		}
		if _, err := n.Connect(t.Context(), "den", "carol", hub.Lease{}); !errors.Is(err, hub.ErrTooManyRooms) {
			t.Errorf("a second room beside one with a connection: %v", err)
		}
		time.Sleep(1500 * time.Millisecond)
		if rooms := n.Stats().Rooms; rooms != 1 {
			t.Errorf("%d rooms while the connection ends, want 1", rooms)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if s := n.Stats(); s.Rooms != 0 || s.Connections != 0 {
			t.Errorf("%d rooms and %d connections after the end of the connection", s.Rooms, s.Connections)
		}
		conn, err := n.Connect(t.Context(), room.Name("den"), "carol", hub.Lease{})
		if err != nil {
			t.Fatal(err)
		}
		n.Leave(conn, stream.Closed)
	})
}
