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

// post sends a message of the user, which creates the room if necessary.
func (n *node) post(name, user string) error {
	d := hub.Draft{Event: "message", Data: []byte("1"), From: &room.Sender{ID: user}}
	_, err := n.Send(n.t.Context(), room.Name(name), d, room.UserID(user), "")
	return err
}

// A user that creates as many rooms as it can, and keeps all of them in use, leaves rooms to the
// others.
func TestOneUserLeavesRooms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := openNode(t, memory(), func(c *hub.Config) { c.MaxRooms = 300 })
		first := n.join("doc-0", "mallory", hub.Lease{}, "")
		owned, err := 1, error(nil)
		for ; owned < 1000; owned++ {
			var conn *hub.Connection
			if conn, err = n.Connect(t.Context(), room.Name(fmt.Sprint("doc-", owned)), "mallory", hub.Lease{}); err != nil {
				break
			}
			n.Leave(conn, stream.Closed)
			n.join(fmt.Sprint("doc-", owned), "mallory", hub.Lease{}, "")
		}
		if owned != 151 || !errors.Is(err, hub.ErrUserRooms) || err.Error() != "per-user room limit reached (151)" {
			t.Errorf("got %d rooms and then %v, want 151 and %v", owned, err, hub.ErrUserRooms)
		}
		if err := n.post("doc-new", "mallory"); !errors.Is(err, hub.ErrUserRooms) {
			t.Errorf("message to one more room: got %v, want %v", err, hub.ErrUserRooms)
		}
		for user := range 10 {
			for i := range 10 {
				n.join(fmt.Sprintf("room-%d-%d", user, i), fmt.Sprint("user-", user), hub.Lease{}, "")
			}
		}
		if s := n.Stats(); s.Rooms != 251 || s.RoomsEvicted != 0 {
			t.Errorf("got %d rooms, %d evicted; want 251 and none", s.Rooms, s.RoomsEvicted)
		}
		first.Drop(stream.Closed)
		time.Sleep(10 * time.Second)
		if err := n.post("doc-new", "mallory"); err != nil {
			t.Errorf("one more room after one is unused: %v", err)
		}
		if n.RoomOf("doc-0") != nil {
			t.Error("the unused room of the same user was not evicted")
		}
	})
}

// A user that creates many rooms one after the other evicts its own rooms, and not the unused rooms
// of others.
func TestUnusedRoomsOfOthersStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := openNode(t, memory(), func(c *hub.Config) { c.MaxRooms = 300 })
		for user := range 10 {
			for i := range 10 {
				if err := n.post(fmt.Sprintf("room-%d-%d", user, i), fmt.Sprint("user-", user)); err != nil {
					t.Fatal(err)
				}
			}
		}
		for i := range 10_000 {
			if err := n.post(fmt.Sprint("doc-", i), "mallory"); err != nil {
				t.Fatal(err)
			}
		}
		for user := range 10 {
			for i := range 10 {
				if name := fmt.Sprintf("room-%d-%d", user, i); n.RoomOf(room.Name(name)) == nil {
					t.Errorf("%s was evicted", name)
				}
			}
		}
		if s := n.Stats(); s.Rooms != 201 {
			t.Errorf("got %d rooms, want 100 and 101 of one user", s.Rooms)
		}
		for i := range 180 { // at the room limit, the user with the most rooms loses its rooms
			if err := n.post(fmt.Sprint("new-", i), fmt.Sprint("newcomer-", i)); err != nil {
				t.Fatal(err)
			}
		}
		if s := n.Stats(); s.Rooms != 300 || n.RoomOf("room-0-0") == nil || n.RoomOf("doc-9900") != nil {
			t.Errorf("got %d rooms, small owner %v, large owner %v; want 300, true and false",
				s.Rooms, n.RoomOf("room-0-0") != nil, n.RoomOf("doc-9900") != nil)
		}
		time.Sleep(2 * time.Minute)
		if rooms, owners := n.Stats().Rooms, n.Owners(); rooms != 0 || owners != 0 {
			t.Errorf("got %d rooms and %d owners after all have expired, want none", rooms, owners)
		}
	})
}

// The server itself has no limit of its own.
func TestServerOwnsAnyNumberOfRooms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := openNode(t, memory(), func(c *hub.Config) { c.MaxRooms, c.MaxRoomsPerUser = 10, 1 })
		for i := range 20 {
			n.send(fmt.Sprint("room-", i), "", "1")
		}
		if s := n.Stats(); s.Rooms != 10 || s.RoomsEvicted != 10 || n.Owners() != 1 {
			t.Errorf("got %d rooms of %d owners, %d evicted; want 10 of one and 10", s.Rooms, n.Owners(), s.RoomsEvicted)
		}
	})
}

// A room that is evicted before its first client has joined is created again for the same user.
func TestOwnerOfRoomCreatedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := openNode(t, memory(), func(c *hub.Config) { c.MaxRooms = 1 })
		conn, err := n.Connect(t.Context(), "den", "alice", hub.Lease{})
		if err != nil {
			t.Fatal(err)
		}
		if err := n.post("lobby", "bob"); err != nil || n.RoomOf("den") != nil {
			t.Fatalf("got %v, den exists: %v; want the den evicted", err, n.RoomOf("den") != nil)
		}
		c := &fakeClient{node: n, conn: conn, room: "den", user: "alice"}
		if err := n.Join(t.Context(), conn, room.User{ID: "alice", Info: []byte("{}")}, c, ""); err != nil {
			t.Fatal(err)
		}
		if err := n.post("attic", "alice"); !errors.Is(err, hub.ErrUserRooms) {
			t.Errorf("second room of alice: got %v, want %v", err, hub.ErrUserRooms)
		}
		if err := n.post("attic", "bob"); !errors.Is(err, hub.ErrTooManyRooms) {
			t.Errorf("room of bob: got %v, want %v", err, hub.ErrTooManyRooms)
		}
	})
}

// A room is charged to a user that uses it, if its creator has no connection in it any more.
func TestRoomsMoveToTheirUsers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := openNode(t, memory(), func(c *hub.Config) { c.MaxRoomsPerUser = 2 })
		var mine []*fakeClient
		for _, name := range []string{"one", "two"} {
			mine = append(mine, n.join(name, "alice", hub.Lease{}, ""))
			n.join(name, "mallory", hub.Lease{}, "")
		}
		if err := n.post("three", "alice"); !errors.Is(err, hub.ErrUserRooms) {
			t.Errorf("alice, with a connection in two rooms of her own: %v, want ErrUserRooms", err)
		}
		for _, c := range mine {
			c.Drop(stream.Closed)
		}
		synctest.Wait()
		if err := n.post("three", "alice"); err != nil {
			t.Errorf("alice, after she has left both rooms: %v", err)
		}
		if err := n.post("four", "mallory"); !errors.Is(err, hub.ErrUserRooms) {
			t.Errorf("mallory, who uses both: %v, want ErrUserRooms", err)
		}
	})
}

// The first user of a room does not keep it, and so cannot have it evicted after others have used
// it.
func TestCreatorDoesNotKeepRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := openNode(t, memory(), func(c *hub.Config) { c.MaxRoomsPerUser = 2 })
		n.join("doc", "mallory", hub.Lease{}, "").Drop(stream.Closed)
		synctest.Wait()
		c := n.join("doc", "alice", hub.Lease{}, "")
		first := n.send("doc", "alice", "0")
		n.send("doc", "alice", "1")
		c.Drop(stream.Closed)
		time.Sleep(10 * time.Second)
		for i := range 10 {
			if err := n.post(fmt.Sprint("x-", i), "mallory"); err != nil {
				t.Fatal(err)
			}
		}
		if got := n.join("doc", "alice", hub.Lease{}, first).take(); got != "message:1 sync user count:1" {
			t.Errorf("alice resumes with %q, want her message", got)
		}
	})
}
