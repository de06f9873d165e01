package hub_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/internal/hub"
	"example.com/presence/pkg/presence/internal/rates"
	"example.com/presence/pkg/presence/internal/stream"
	"example.com/presence/pkg/presence/room"
)

// crowd joins twenty users with long names to the room, so that its snapshot is large, and returns
// the size of a snapshot.
func crowd(n *node, name string) (size int) {
	for i := range 20 {
		c := n.join(name, fmt.Sprint(strings.Repeat("x", 240), i), hub.Lease{}, "")
		c.mu.Lock()
		c.deaf = true
		c.mu.Unlock()
	}
	time.Sleep(time.Second)
	c := n.join(name, "size", hub.Lease{}, "", func(c *fakeClient) { c.holds = true })
	time.Sleep(time.Second)
	synctest.Wait()
	size = n.Stats().SnapshotBytesUnsent
	c.Drop(stream.Closed)
	time.Sleep(10 * time.Second)
	synctest.Wait()
	return size
}

// tryJoin joins a client that reads nothing, in a flush interval of its own.
func (n *node) tryJoin(name, user string) (*fakeClient, error) {
	defer synctest.Wait()
	defer time.Sleep(time.Second)
	conn, err := n.Connect(n.t.Context(), room.Name(name), room.UserID(user), hub.Lease{})
	if err != nil {
		return nil, err
	}
	c := &fakeClient{node: n, conn: conn, room: name, user: user, holds: true}
	err = n.Join(n.t.Context(), conn, room.User{ID: room.UserID(user), Info: []byte("{}")}, c, "")
	if err != nil {
		c.Drop(stream.Closed)
	}
	return c, err
}

// TestSnapshotShares lets one user take as many snapshots as it can, without reading them, and
// expects that it gets at most half of the budget, and that another user gets its snapshot. Its
// stalled clients are disconnected when it joins again, and no others.
func TestSnapshotShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const snapshots = 10
		size := 0
		n := openNode(t, memory(), func(c *hub.Config) { c.MaxSnapshots = snapshots * 7000 })
		if size = crowd(n, "lobby"); size < 6000 || size > 6900 {
			t.Fatalf("a snapshot has %d bytes, want 6000 to 6900", size)
		}
		var held []*fakeClient
		for range snapshots {
			c, err := n.tryJoin("lobby", "mallory")
			if err != nil {
				if !errors.Is(err, hub.ErrSnapshots) {
					t.Fatal(err)
				}
				break
			}
			held = append(held, c)
		}
		if len(held) != snapshots/2 {
			t.Errorf("one user got %d of %d snapshots, want half", len(held), snapshots)
		}
		victim, err := n.tryJoin("lobby", "victim")
		if err != nil {
			t.Fatalf("another user: %v", err)
		}
		if got := victim.take(); !strings.HasPrefix(got, "sync user count") {
			t.Errorf("another user got %q", got)
		}
		victim.stalled.Store(true) // holds less than mallory
		for _, c := range held[1:3] {
			c.stalled.Store(true)
		}
		if _, err := n.tryJoin("lobby", "mallory"); err != nil {
			t.Errorf("after two of its clients have stalled: %v", err)
		}
		if ended := countEnded(held[1:3]); ended == 0 {
			t.Error("none of the stalled clients was disconnected")
		}
		if ended := countEnded(append(held[3:], held[0], victim)); ended != 0 {
			t.Errorf("%d other clients were disconnected, want 0", ended)
		}
		if s := n.Stats(); s.SnapshotBytesUnsent > snapshots*7000 {
			t.Errorf("%d bytes of unsent snapshots, above the limit", s.SnapshotBytesUnsent)
		}
	})
}

// TestSnapshotNewcomers fills the budget with clients of many users that are not stalled, and
// expects that none of them is disconnected, that newcomers are refused, and that the stalled
// clients of the user that holds most go first.
func TestSnapshotNewcomers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := openNode(t, memory(), func(c *hub.Config) { c.MaxSnapshots = 10 * 7000 })
		crowd(n, "lobby")
		held := map[string][]*fakeClient{}
		join := func(user string) error {
			c, err := n.tryJoin("lobby", user)
			if err == nil {
				held[user] = append(held[user], c)
			}
			return err
		}
		for _, user := range []string{"most", "some", "most", "some", "most", "most"} {
			if err := join(user); err != nil {
				t.Fatal(err)
			}
		}
		var refused error
		for i := 0; refused == nil && i < 10; i++ {
			refused = join(fmt.Sprint("one", i))
		}
		for user, clients := range held {
			for _, c := range clients {
				if c.end() != "" {
					t.Errorf("a client of %s ended %q although it is not stalled", user, c.end())
				}
				c.stalled.Store(true)
			}
		}
		if !errors.Is(refused, hub.ErrSnapshots) {
			t.Errorf("a newcomer at the limit: %v, want ErrSnapshots", refused)
		}
		if _, err := n.tryJoin("lobby", "newcomer"); err != nil {
			t.Errorf("newcomer: %v, although clients are stalled", err)
		}
		if countEnded(held["most"]) == 0 {
			t.Error("no client of the user that holds most was disconnected")
		}
		for user, clients := range held {
			if user != "most" && countEnded(clients) > 0 {
				t.Errorf("a client of %s was disconnected, want only those of the user that holds most", user)
			}
		}
	})
}

// TestSnapshotInterval expects that the joiners of one flush interval share one snapshot, so that
// many clients of one user do not fill the budget.
func TestSnapshotInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := openNode(t, memory(), func(c *hub.Config) { c.MaxSnapshots = 3 * 7000 })
		size := crowd(n, "lobby")
		n.join("lobby", "everybody", hub.Lease{}, "")
		for range 40 {
			n.join("lobby", "everybody", hub.Lease{}, "", func(c *fakeClient) { c.holds = true })
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if s := n.Stats(); s.SnapshotsUnsent != 1 || s.SnapshotBytesUnsent > size+100 {
			t.Errorf("%d unsent snapshots of %d bytes for 40 joiners, want 1", s.SnapshotsUnsent, s.SnapshotBytesUnsent)
		}
	})
}

// TestSnapshotReservation expects that the reservation of a joiner that leaves before its snapshot
// is released.
func TestSnapshotReservation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := openNode(t, memory(), func(c *hub.Config) { c.MaxSnapshots = 3 * 7000 })
		crowd(n, "lobby")
		n.join("lobby", "first", hub.Lease{}, "") // begins a flush interval
		c := n.join("lobby", "leaves", hub.Lease{}, "")
		if s := n.Stats(); s.SnapshotsUnsent != 1 {
			t.Fatalf("%d reserved snapshots, want 1", s.SnapshotsUnsent)
		}
		c.Drop(stream.Closed)
		synctest.Wait()
		if s := n.Stats(); s.SnapshotsUnsent != 0 || s.SnapshotBytesUnsent != 0 {
			t.Errorf("%d snapshots of %d bytes after the end of the only joiner, want 0", s.SnapshotsUnsent, s.SnapshotBytesUnsent)
		}
	})
}

// TestSnapshotsOfManyRooms lets one user reserve a snapshot in each of ten rooms before the first
// is encoded, and expects that it gets half of the budget.
func TestSnapshotsOfManyRooms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := openNode(t, memory(), func(c *hub.Config) { c.MaxSnapshots = 10 * 7000 })
		for i := range 10 {
			crowd(n, fmt.Sprint("room-", i))
		}
		for i := range 10 { // begins a flush interval in each room
			n.join(fmt.Sprint("room-", i), "first", hub.Lease{}, "")
		}
		got := 0
		for i := range 10 {
			conn, err := n.Connect(t.Context(), room.Name(fmt.Sprint("room-", i)), "mallory", hub.Lease{})
			if errors.Is(err, hub.ErrSnapshots) {
				continue
			} else if err != nil {
				t.Fatal(err)
			}
			c := &fakeClient{node: n, conn: conn, room: fmt.Sprint("room-", i), user: "mallory", holds: true}
			if err := n.Join(t.Context(), conn, room.User{ID: "mallory", Info: []byte("{}")}, c, ""); err == nil {
				got++
			} else {
				c.Drop(stream.Closed)
			}
		}
		if got != 5 {
			t.Errorf("one user got %d of 10 snapshots, want half", got)
		}
		if _, err := n.tryJoin("room-9", "victim"); err != nil {
			t.Errorf("another user: %v", err)
		}
	})
}

// TestSnapshotSearch expects that a refused user whose search spares all stalled clients does not
// keep another user from its own search.
func TestSnapshotSearch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := openNode(t, memory(), func(c *hub.Config) { c.MaxSnapshots = 5 * 7000 })
		crowd(n, "lobby")
		for _, user := range []string{"most", "one", "most", "two", "three"} {
			c, err := n.tryJoin("lobby", user)
			if errors.Is(err, hub.ErrSnapshots) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			c.stalled.Store(user != "most")
		}
		time.Sleep(time.Second)
		if _, err := n.Connect(t.Context(), "lobby", "most", hub.Lease{}); !errors.Is(err, hub.ErrSnapshots) {
			t.Fatalf("the user that holds most: %v, want ErrSnapshots", err)
		}
		if _, err := n.tryJoin("lobby", "newcomer"); err != nil {
			t.Errorf("a newcomer right after it: %v, although clients are stalled", err)
		}
	})
}

// TestJoinCostsAtOnce expects that a user cannot join any number of times in one flush interval.
func TestJoinCostsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := openNode(t, memory(), func(c *hub.Config) { c.Costs = rates.NewTable(100, 20_000) })
		crowd(n, "large")
		time.Sleep(time.Hour)
		n.join("large", "first", hub.Lease{}, "")
		got := 0
		for range 100 {
			conn, err := n.Connect(t.Context(), "large", "alice", hub.Lease{})
			if err == nil {
				got++
				n.Leave(conn, stream.Closed)
			}
		}
		if got != 4 {
			t.Errorf("%d joins of 6.5 KB passed at once, want 4 for a bucket of 20 KB", got)
		}
	})
}

// TestJoinCostOfGrownRoom expects that a joiner pays for the snapshot that it gets, even if the
// room grows between the request and the end of the flush interval.
func TestJoinCostOfGrownRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		costs := rates.NewTable(1, 10_000)
		n := openNode(t, memory(), func(c *hub.Config) { c.Costs = costs })
		size := crowd(n, "large")
		time.Sleep(24 * time.Hour)
		n.join("large", "first", hub.Lease{}, "")
		n.join("large", "alice", hub.Lease{}, "")
		if wait := costs.Wait("alice", time.Now()); wait > 0 {
			t.Fatalf("after a snapshot of %d bytes: wait %v", size, wait)
		}
		for i := range 20 {
			n.join("large", fmt.Sprint(strings.Repeat("y", 240), i), hub.Lease{}, "")
		}
		time.Sleep(time.Second)
		if wait := costs.Wait("alice", time.Now()); wait < time.Second {
			t.Errorf("after a snapshot of twice %d bytes: wait %v, want that for the rest", size, wait)
		}
	})
}

// TestJoinCosts expects that a large snapshot is charged to the user of the joiner, that a user in
// debt is refused in rooms with large snapshots only, and that an exempt connection is not.
func TestJoinCosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := openNode(t, memory(), func(c *hub.Config) { c.Costs = rates.NewTable(100, 5000) })
		crowd(n, "large")
		time.Sleep(time.Minute)
		n.join("small", "alice", hub.Lease{}, "")
		if _, err := n.tryJoin("large", "alice"); err != nil {
			t.Fatal(err)
		}
		var limited *hub.RateError
		if _, err := n.tryJoin("large", "alice"); !errors.As(err, &limited) || limited.Wait < time.Second || limited.Wait > 20*time.Second {
			t.Errorf("a user in debt: %v, want a RateError with some seconds", err)
		}
		if _, err := n.tryJoin("small", "alice"); err != nil {
			t.Errorf("a user in debt, room with a small snapshot: %v", err)
		}
		if _, err := n.tryJoin("large", "bob"); err != nil {
			t.Errorf("another user: %v", err)
		}
		if _, err := n.Connect(t.Context(), "large", "alice", hub.Lease{Exempt: true}); err != nil {
			t.Errorf("an exempt connection: %v", err)
		}
		time.Sleep(time.Minute)
		if _, err := n.tryJoin("large", "alice"); err != nil {
			t.Errorf("after a minute: %v", err)
		}
	})
}

// stuckReplays has a node whose replay budget is small, and a room whose history is known.
type stuckReplays struct {
	*node
	first string // id of the first message
}

const replayMessages = 10

// newStuckReplays sends messages of 100 KiB together. The budget has space for twice the log, and
// for the own part of replays of this many messages.
func newStuckReplays(t *testing.T, messages int) *stuckReplays {
	n := openNode(t, memory(), func(c *hub.Config) { c.MaxReplay = 100 << 10 })
	n.LimitReplays(messages)
	s := &stuckReplays{n, n.send("lobby", "alice", "0")}
	for range replayMessages {
		n.send("lobby", "alice", `"`+strings.Repeat("x", 10<<10)+`"`)
	}
	return s
}

// join joins a client of the user that reads nothing of its replay.
func (s *stuckReplays) tryJoin(user string) (*fakeClient, error) {
	defer synctest.Wait()
	defer time.Sleep(time.Second)
	conn, err := s.Connect(s.t.Context(), "lobby", room.UserID(user), hub.Lease{})
	if err != nil {
		s.t.Fatal(err)
	}
	c := &fakeClient{node: s.node, conn: conn, room: "lobby", user: user, holds: true}
	err = s.Join(s.t.Context(), conn, room.User{ID: room.UserID(user), Info: []byte("{}")}, c, s.first)
	if err != nil {
		c.Drop(stream.Closed)
	}
	return c, err
}

// TestReplayShares lets one user resume as often as it can, without reading, and expects that it is
// refused at some point and another user is not; that no client is disconnected that is not
// stalled; and that the stalled ones of that user make space.
func TestReplayShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStuckReplays(t, 100*replayMessages)
		var held []*fakeClient
		for range 200 {
			c, err := s.tryJoin("mallory")
			if err != nil {
				if !errors.Is(err, hub.ErrReplays) {
					t.Fatal(err)
				}
				break
			}
			held = append(held, c)
		}
		if len(held) < 30 || len(held) > 70 {
			t.Errorf("one user holds %d replays, want about half of 100", len(held))
		}
		victim, err := s.tryJoin("victim")
		if err != nil {
			t.Fatalf("another user: %v", err)
		}
		if ended := countEnded(append(held, victim)); ended != 0 {
			t.Errorf("%d clients were disconnected, want 0: none is stalled", ended)
		}
		victim.stalled.Store(true) // holds less than mallory
		for _, c := range held[:5] {
			c.stalled.Store(true)
		}
		if _, err := s.tryJoin("mallory"); err != nil {
			t.Errorf("after five of its clients have stalled: %v", err)
		}
		if ended := countEnded(held[:5]); ended == 0 || ended == 5 {
			t.Errorf("%d of the stalled clients were disconnected, want as many as needed", ended)
		}
		if ended := countEnded(append(held[5:], victim)); ended != 0 {
			t.Errorf("%d other clients were disconnected, want 0", ended)
		}
		for _, c := range append(held, victim) {
			c.Drop(stream.Closed)
		}
		synctest.Wait()
		if count, bytes := s.HeldReplays(); count != 1 || bytes > 3*(100<<10) {
			t.Errorf("%d replays of %d bytes at the end, want that of the last client", count, bytes)
		}
	})
}

// TestReplaysOfLostMessages holds replays of messages that the log has evicted, until they exceed
// the budget, and expects that the stalled clients of the user that holds most end.
func TestReplaysOfLostMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStuckReplays(t, 20*replayMessages)
		var held []*fakeClient
		for i := range 4 { // each with other messages
			c, err := s.tryJoin(fmt.Sprint("mallory", i%2))
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, c)
			c.stalled.Store(true)
			s.first = s.send("lobby", "alice", "0")
			for range replayMessages {
				s.send("lobby", "alice", `"`+strings.Repeat("x", 10<<10)+`"`)
			}
		}
		if ended := countEnded(held); ended != 2 {
			t.Errorf("%d stalled clients were disconnected, want 2 of 4: the budget has space for two replays", ended)
		}
	})
}

// TestOverloaded expects that a room over its share refuses joins, messages and states, and that it
// accepts them again later.
func TestOverloaded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := openNode(t, memory())
		alice := n.join("lobby", "alice", hub.Lease{}, "")
		alice.take()
		try := func() (errs [3]error) {
			_, errs[0] = n.tryJoin("lobby", "bob")
			_, errs[1] = n.Send(t.Context(), "lobby", hub.Draft{Event: "message", Data: []byte("1")}, "alice", "")
			errs[2] = n.Update(t.Context(), "lobby", "alice", []byte("{}"))
			return errs
		}
		n.streams.overloaded.Store("lobby")
		for i, err := range try() {
			if !errors.Is(err, hub.ErrOverloaded) {
				t.Errorf("request %d in a room over its share: %v, want ErrOverloaded", i, err)
			}
		}
		n.streams.overloaded.Store("")
		for i, err := range try() {
			if err != nil {
				t.Errorf("request %d after the room has caught up: %v", i, err)
			}
		}
		if got := alice.take(); !strings.HasPrefix(got, "join user count:2 message:1") {
			t.Errorf("alice got %q", got)
		}
	})
}

// TestRelieve expects that stalled clients are disconnected when the backlogs of all streams exceed
// their limit: first those in rooms over their share, then those of the user that holds most, and
// only as many as needed.
func TestRelieve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := openNode(t, memory())
		clients := map[string][]*fakeClient{}
		add := func(user string, unsent int64, stalled bool) {
			c := n.join("lobby", user, hub.Lease{}, "")
			c.unsent.Store(unsent)
			c.stalled.Store(stalled)
			clients[user] = append(clients[user], c)
		}
		add("reads", 10_000, false)
		add("little", 500, true)
		for range 5 {
			add("most", 1000, true)
		}
		add("most", 1000, false)
		time.Sleep(time.Second)
		n.send("lobby", "alice", "0")
		if synctest.Wait(); countEnded(clients["most"]) != 0 {
			t.Error("clients were disconnected below the limit")
		}
		n.streams.excess.Store(2500)
		n.send("lobby", "alice", "0")
		n.send("lobby", "alice", "0") // too soon for another search
		synctest.Wait()
		if ended := countEnded(clients["most"]); ended != 3 {
			t.Errorf("%d clients of the user that holds most ended, want 3 for 2500 bytes", ended)
		}
		clients["other"] = []*fakeClient{n.join("other", "other", hub.Lease{}, ""), n.join("other", "other", hub.Lease{}, "")}
		clients["other"][0].unsent.Store(10)
		clients["other"][0].stalled.Store(true)
		time.Sleep(time.Second)
		n.streams.overloaded.Store("other")
		n.streams.excess.Store(1)
		n.send("lobby", "alice", "0")
		synctest.Wait()
		if other, most := countEnded(clients["other"]), countEnded(clients["most"]); other != 1 || most != 3 {
			t.Errorf("ended: %d in the room over its share, %d of most; want 1, the stalled one, and still 3", other, most)
		}
		n.streams.excess.Store(1 << 20)
		time.Sleep(time.Second)
		n.send("lobby", "alice", "0")
		synctest.Wait()
		if most, little, reads := countEnded(clients["most"]), countEnded(clients["little"]), countEnded(clients["reads"]); most != 5 || little != 1 || reads != 0 {
			t.Errorf("ended: %d of most, %d of little, %d of reads; want all 5, 1 and 0: those that are stalled", most, little, reads)
		}
	})
}

// TestLargeReplays lets one user resume in rooms with large messages, without reading, and expects
// that it gets about half of the budget, although all replays begin within 100 ms.
func TestLargeReplays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := backplane.NewMemory(backplane.MemoryConfig{Messages: 100, Age: time.Hour, Bytes: 64 << 20})
		n := openNode(t, bus, func(c *hub.Config) { c.MaxReplay = 6 << 20 })
		n.LimitReplays(1000)
		const rooms = 8
		var first [rooms]string
		for i := range rooms {
			first[i] = n.send(fmt.Sprint("room-", i), "alice", "0")
			for range 15 {
				n.send(fmt.Sprint("room-", i), "alice", `"`+strings.Repeat("x", 100<<10)+`"`)
			}
		}
		resume := func(i int, user string) error {
			conn, err := n.Connect(t.Context(), room.Name(fmt.Sprint("room-", i)), room.UserID(user), hub.Lease{})
			if err != nil {
				t.Fatal(err)
			}
			c := &fakeClient{node: n, conn: conn, room: fmt.Sprint("room-", i), user: user, holds: true}
			if err = n.Join(t.Context(), conn, room.User{ID: room.UserID(user), Info: []byte("{}")}, c, first[i]); err != nil {
				c.Drop(stream.Closed)
			}
			return err
		}
		got := 0
		for i := range rooms {
			if resume(i, "mallory") == nil {
				got++
			}
		}
		if got != 4 {
			t.Errorf("one user got %d replays of 1.5 MiB, want 4: half of 12 MiB", got)
		}
		if err := resume(rooms-1, "victim"); err != nil {
			t.Errorf("another user: %v", err)
		}
		time.Sleep(time.Second)
		if _, bytes := n.HeldReplays(); bytes > 13<<20 {
			t.Errorf("the replays take %d bytes, want at most 12 MiB and 250 KB", bytes)
		}
		small := n.send("small", "alice", "0")
		n.send("small", "alice", "1")
		if c := n.join("small", "mallory", hub.Lease{}, small); !strings.HasPrefix(c.take(), "message:1 sync") {
			t.Error("a small replay of the same user is not complete")
		}
	})
}
