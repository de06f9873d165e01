package hub_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence/internal/hub"
	"example.com/presence/pkg/presence/internal/stream"
)

// A node without clients in a room reads its members from the other nodes. It opens the room for
// that, and drops it again. It does not open a room that no node has.
func TestMembersOfOtherNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes, _ := openCluster(t, 3)
		nodes[0].join("lobby", "alice", hub.Lease{}, "")
		nodes[1].join("lobby", "bob", hub.Lease{}, "")
		nodes[1].join("lobby", "bob", hub.Lease{}, "")
		time.Sleep(100 * time.Millisecond) // both nodes know that the other one has the room
		reader := nodes[2]
		if got := reader.list("lobby"); got != "3 2 alice={} bob={}" {
			t.Errorf("got %q, want alice and bob", got)
		}
		p, err := reader.Members(t.Context(), "lobby", "alice", 1)
		if err != nil || len(p.Members) != 1 || p.Members[0].ID != "bob" || p.More || p.Connections != 3 {
			t.Errorf("page after alice: got %+v, %v", p, err)
		}
		if p, err = reader.Members(t.Context(), "lobby", "", 1); err != nil || len(p.Members) != 1 || !p.More {
			t.Errorf("first page: got %+v, %v", p, err)
		}
		p, err = reader.Members(t.Context(), "absent", "", 1)
		if err != nil || p.Members == nil || len(p.Members) > 0 || reader.Stats().Rooms != 1 {
			t.Errorf("absent room: got %+v, %v and %d rooms; want an empty page and 1 room", p, err, reader.Stats().Rooms)
		}
		time.Sleep(time.Minute)
		if n := reader.Stats().Rooms; n != 0 {
			t.Errorf("%d rooms after a minute, want 0", n)
		}
	})
}

// A list is incomplete if a live node has not answered within 1 s, and as long as a room lacks the
// part of a node. It has the members and rooms of the other nodes.
func TestIncompleteLists(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes, buses := openCluster(t, 3)
		reader := nodes[2]
		nodes[0].join("lobby", "alice", hub.Lease{}, "")
		nodes[1].join("lobby", "bob", hub.Lease{}, "")
		nodes[1].join("den", "carol", hub.Lease{}, "")
		reader.join("attic", "dave", hub.Lease{}, "")
		time.Sleep(time.Second)
		buses[1].set(func(string) fate { return fate{lost: true} })
		timed := func(what string, most time.Duration, list func() string, want string) {
			t.Helper()
			start := time.Now()
			if got := list(); got != want || time.Since(start) > most {
				t.Errorf("%s: got %q after %v, want %q after at most %v", what, got, time.Since(start), want, most)
			}
		}
		rooms := func() string {
			page, more, err := reader.Rooms(t.Context(), "", 10)
			return fmt.Sprint(page, more, err == hub.ErrIncomplete)
		}
		timed("rooms", time.Second, rooms, "[{attic 1 1} {lobby 2 2}] false true")
		timed("den", time.Second, func() string { return reader.list("den") }, "0 0 incomplete")
		timed("lobby", time.Second, func() string { return reader.list("lobby") }, "1 1 alice={} incomplete")
		timed("open lobby", 0, func() string { return reader.list("lobby") }, "1 1 alice={} incomplete")
		buses[1].set(nil)
		time.Sleep(2 * time.Second)
		timed("lobby at last", 0, func() string { return reader.list("lobby") }, "2 2 alice={} bob={}")
		timed("den at last", 0, func() string { return reader.list("den") }, "1 1 carol={}")
		timed("rooms at last", 0, rooms, "[{attic 1 1} {den 1 1} {lobby 2 2}] false false")
	})
}

// A room that was opened during a cut is incomplete until it has the parts of the peers.
func TestIncompleteAfterCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes, buses := openCluster(t, 2)
		nodes[0].join("lobby", "alice", hub.Lease{}, "")
		time.Sleep(time.Minute)
		buses[1].change(func() { buses[1].deaf = true })
		time.Sleep(2500 * time.Millisecond)
		for _, b := range buses {
			b.set(func(string) fate { return fate{lost: true} })
		}
		nodes[1].join("lobby", "bob", hub.Lease{}, "")
		buses[0].change(func() { buses[0].deaf = true }) // the node is not asked to repeat its part
		buses[1].change(func() { buses[1].deaf = false })
		time.Sleep(time.Second) // both heartbeats arrive, before the lease of the peer has ended
		if s := nodes[1].Stats(); s.CutOff || s.Peers != 1 {
			t.Fatalf("got cut off %v, %d peers; want false, 1", s.CutOff, s.Peers)
		}
		if got := nodes[1].list("lobby"); got != "1 1 bob={} incomplete" {
			t.Errorf("without the part of the peer: got %q", got)
		}
		for _, b := range buses {
			b.set(nil)
		}
		time.Sleep(3 * time.Second)
		if got := nodes[1].list("lobby"); got != "2 2 alice={} bob={}" {
			t.Errorf("with the part of the peer: got %q", got)
		}
	})
}

// Members fails if it must open a room and the room limit is reached.
func TestMembersAtRoomLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes, buses := openCluster(t, 1)
		nodes[0].join("lobby", "alice", hub.Lease{}, "")
		limited := openNode(t, buses[0].Bus, func(c *hub.Config) { c.MaxRooms = 1 })
		time.Sleep(2 * time.Second)
		limited.join("attic", "carol", hub.Lease{}, "")
		if _, err := limited.Members(t.Context(), "lobby", "", 10); !errors.Is(err, hub.ErrTooManyRooms) {
			t.Errorf("got %v, want %v", err, hub.ErrTooManyRooms)
		}
	})
}

// Rooms lists each room once, with the users of all nodes, in pages.
func TestRoomsOfAllNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes, _ := openCluster(t, 3)
		a, c := nodes[0], nodes[2]
		for _, n := range nodes {
			n.join("lobby", "alice", hub.Lease{}, "")
		}
		a.join("attic", "bob", hub.Lease{}, "")
		c.join("den", "carol", hub.Lease{}, "")
		time.Sleep(time.Second)
		for i, n := range nodes {
			for after, want := range map[string]string{"": "[{attic 1 1} {den 1 1}] true", "den": "[{lobby 3 1}] false"} {
				page, more, err := n.Rooms(t.Context(), after, 2)
				if got := fmt.Sprint(page, more); err != nil || got != want {
					t.Errorf("node %d, after %q: got %s, %v, want %s", i, after, got, err, want)
				}
			}
		}
		if page, _, err := a.Rooms(t.Context(), "", 2000); err != nil || len(page) != 3 {
			t.Errorf("limit of 2000: got %v, %v, want 3 rooms", page, err)
		}
	})
}

// A node that has lost frames reports other counts than the node that has sent them. The largest
// counts are used. A node does not report a room in which only other nodes have users.
func TestRoomsWhileFramesAreLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes, buses := openCluster(t, 2, func(c *hub.Config) { c.Linger = 0 })
		for i, n := range nodes {
			n.join("lobby", fmt.Sprint(i), hub.Lease{}, "")
		}
		alice := nodes[0].join("den", "alice", hub.Lease{}, "")
		synctest.Wait() // until node 0 answers for the den
		if got := nodes[1].list("den"); got != "1 1 alice={}" {
			t.Errorf("members of the den: got %q, want alice", got)
		}
		time.Sleep(time.Second)
		buses[1].change(func() { buses[1].deaf = true })
		nodes[0].join("lobby", "2", hub.Lease{}, "")
		alice.Drop(stream.Closed)
		time.Sleep(time.Second)
		for i, n := range nodes {
			page, _, err := n.Rooms(t.Context(), "", 10)
			if got := fmt.Sprint(page); err != nil || got != "[{lobby 3 3}]" {
				t.Errorf("node %d: got %s, %v, want 3 connections of 3 users", i, got, err)
			}
		}
	})
}

// The user of an update may be only on a node that shuts down. The update then fails, and the
// client repeats it when it has reconnected.
func TestUpdateWhileDraining(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes, _ := openCluster(t, 2)
		nodes[1].join("lobby", "alice", hub.Lease{}, "", func(c *fakeClient) { c.stalls = time.Second })
		time.Sleep(time.Second)
		go nodes[1].Close(t.Context())
		time.Sleep(time.Millisecond)
		err := nodes[0].Update(t.Context(), "lobby", "alice", []byte(`1`))
		if err == nil || errors.Is(err, hub.ErrNotInRoom) {
			t.Errorf("update of a user on a node that shuts down: got %v, want a temporary error", err)
		}
		if err := nodes[1].SignOut(t.Context(), "alice", "s"); err != nil {
			t.Errorf("sign-out at a node that shuts down: %v", err)
		}
	})
}
