package hub_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/internal/hub"
	"example.com/presence/pkg/presence/room"
)

// openLagging opens two nodes on a shared bus, and a third one that receives rows after a delay.
func openLagging(t *testing.T, delay time.Duration) (bus *backplane.Memory, a, b, lagging *node) {
	t.Helper()
	bus = sharedMemory()
	var mu sync.Mutex // guards rows, and keeps their order
	var rows []func()
	late := &hookedBus{Bus: bus, row: func(deliver func()) {
		if delay == 0 {
			deliver()
			return
		}
		mu.Lock()
		defer mu.Unlock()
		rows = append(rows, deliver)
		time.AfterFunc(delay, func() {
			mu.Lock()
			defer mu.Unlock()
			rows[0]()
			rows = rows[1:]
		})
	}}
	a, b, lagging = openNode(t, bus), openNode(t, bus), openNode(t, late)
	time.Sleep(2 * time.Second)
	return bus, a, b, lagging
}

func putBan(t *testing.T, bus backplane.Bus, id string, ttl time.Duration) {
	t.Helper()
	row := fmt.Sprintf(`{"v":1,"id":%q,"room":"lobby","user":"bob","later":1}`, id)
	if err := bus.Put(t.Context(), "ban/lobby/bob", []byte(row), ttl); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
}

// Kick returns when all live nodes have applied its row, or after 1 s. It asks them every 100 ms.
func TestKickWaitsForNodes(t *testing.T) {
	for delay, want := range map[time.Duration]time.Duration{0: 0, 350 * time.Millisecond: 400 * time.Millisecond, time.Hour: time.Second} {
		synctest.Test(t, func(t *testing.T) {
			_, a, _, lagging := openLagging(t, delay)
			lagging.join("lobby", "bob", hub.Lease{}, "")
			time.Sleep(time.Second)
			start := time.Now()
			if err := a.Kick(t.Context(), "lobby", "bob", time.Minute); err != nil || time.Since(start) != want {
				t.Errorf("rows delayed by %v: got %v after %v, want success after %v", delay, err, time.Since(start), want)
			}
		})
	}
}

// Kick waits for all live nodes although the engine fails after it has stored the row: it may have
// failed for these nodes as well.
func TestKickWaitsDuringFailure(t *testing.T) {
	for failure, want := range map[time.Duration]time.Duration{450 * time.Millisecond: 500 * time.Millisecond, time.Hour: time.Second} {
		synctest.Test(t, func(t *testing.T) {
			log := sharedMemory()
			asking := &askBus{}
			asking.Bus = &hookedBus{Bus: log, row: func(deliver func()) {
				failed := func(room.Name, func([]byte) bool) error { return backplane.ErrUnavailable }
				asking.ask.Store(&failed)
				time.AfterFunc(failure, func() { asking.ask.Store(nil) })
				deliver()
			}}
			a, b := openNode(t, asking), openNode(t, log)
			time.Sleep(2 * time.Second)
			b.join("lobby", "bob", hub.Lease{}, "")
			time.Sleep(time.Second)
			start := time.Now()
			if err := a.Kick(t.Context(), "lobby", "bob", time.Minute); err != nil || time.Since(start) != want {
				t.Errorf("engine failed for %v: got %v after %v, want success after %v", failure, err, time.Since(start), want)
			}
		})
	}
}

// Two kicks of one user at the same time both return when all nodes have applied their row or a
// later one. All nodes then have the same ban.
func TestKicksAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b, lagging := openLagging(t, 150*time.Millisecond)
		lagging.join("lobby", "bob", hub.Lease{}, "")
		time.Sleep(time.Second)
		start := time.Now()
		var kicks sync.WaitGroup
		for i, n := range []*node{a, b} {
			kicks.Go(func() {
				if err := n.Kick(t.Context(), "lobby", "bob", time.Duration(i+1)*time.Minute); err != nil && !errors.Is(err, hub.ErrNotInRoom) {
					t.Error(err)
				}
				if d := time.Since(start); d > 300*time.Millisecond {
					t.Errorf("kick %d took %v, want at most 300ms", i, d)
				}
			})
		}
		kicks.Wait()
		for i, n := range []*node{a, b, lagging} {
			if got, want := n.BanEnd("lobby", "bob"), a.BanEnd("lobby", "bob"); got.IsZero() || !got.Equal(want) {
				t.Errorf("node %d: the ban ends %v, want %v", i, got, want)
			}
		}
	})
}

// While a node has not received the row of a ban, the other nodes hide the user that it admits,
// including in rooms that they open later. The user reappears if the row is deleted.
func TestBanHidesUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus, a, b, lagging := openLagging(t, time.Hour)
		watch := a.join("lobby", "alice", hub.Lease{}, "")
		lagging.join("lobby", "bob", hub.Lease{}, "")
		time.Sleep(time.Second)
		if err := a.Kick(t.Context(), "lobby", "bob", time.Minute); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		watch.take()
		lagging.join("lobby", "bob", hub.Lease{}, "")
		time.Sleep(time.Second)
		if got := watch.take(); got != "" {
			t.Errorf("after a join of a banned user alice got %q, want no event", got)
		}
		b.join("lobby", "carol", hub.Lease{}, "")
		time.Sleep(time.Second)
		for i, n := range []*node{a, b} {
			if got := n.list("lobby"); got != "2 2 alice={} carol={}" {
				t.Errorf("node %d during the ban: got %q, want alice and carol", i, got)
			}
		}
		if err := bus.Delete(t.Context(), "ban/lobby/bob"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		for i, n := range []*node{a, b} {
			if got := n.list("lobby"); got != "4 3 alice={} bob={} carol={}" {
				t.Errorf("node %d after the row was deleted: got %q, want bob too", i, got)
			}
			if end := n.BanEnd("lobby", "bob"); !end.IsZero() {
				t.Errorf("node %d: banned until %v after the row was deleted", i, end)
			}
		}
	})
}

// A user that joins while the row of its ban is on the way is removed when the row arrives.
func TestJoinRacesWithBan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, _, lagging := openLagging(t, 300*time.Millisecond)
		a.join("lobby", "bob", hub.Lease{}, "")
		time.Sleep(time.Second)
		go a.Kick(t.Context(), "lobby", "bob", time.Minute) // returns after 300 ms
		synctest.Wait()
		late := lagging.join("lobby", "bob", hub.Lease{}, "")
		time.Sleep(200 * time.Millisecond)
		if late.end() != "" {
			t.Errorf("before the row arrived: ended %q", late.end())
		}
		time.Sleep(200 * time.Millisecond)
		if synctest.Wait(); late.end() != hub.EndRemoved {
			t.Errorf("after the row arrived: ended %q, want %q", late.end(), hub.EndRemoved)
		}
		if got := lagging.list("lobby"); got != "0 0" {
			t.Errorf("got %q, want an empty room", got)
		}
	})
}

// A row that replaces another one extends or shortens the ban, and removes the user again. The ban
// ends with its row.
func TestReplacedBan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus, a, b, lagging := openLagging(t, time.Hour)
		lagging.join("lobby", "bob", hub.Lease{}, "")
		b.join("lobby", "carol", hub.Lease{}, "")
		time.Sleep(time.Second)
		for i, ttl := range []time.Duration{time.Minute, time.Hour, 10 * time.Second} {
			putBan(t, bus, fmt.Sprint(i), ttl)
			for j, n := range []*node{a, b} {
				if d := time.Until(n.BanEnd("lobby", "bob")); d != ttl {
					t.Errorf("row %d: the ban on node %d ends in %v, want %v", i, j, d, ttl)
				}
			}
		}
		time.Sleep(9 * time.Second)
		if got := b.list("lobby"); got != "1 1 carol={}" {
			t.Errorf("before the end of the ban: got %q, want carol", got)
		}
		time.Sleep(2 * time.Second)
		if got := b.list("lobby"); got != "2 2 bob={} carol={}" {
			t.Errorf("after the end of the ban: got %q, want bob and carol", got)
		}
		bob := a.join("lobby", "bob", hub.Lease{}, "")
		for i := range 2 {
			putBan(t, bus, "again", time.Minute)
			if synctest.Wait(); bob.end() != hub.EndRemoved {
				t.Errorf("row %d: bob ended %q, want %q", i, bob.end(), hub.EndRemoved)
			}
		}
	})
}

// A malformed row, one of an unknown version, and one for another purpose are ignored.
func TestForeignRows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := sharedMemory()
		n := openNode(t, bus)
		bob := n.join("lobby", "bob", hub.Lease{}, "")
		const good = `{"v":1,"id":"1","room":"lobby","user":"bob"}`
		for key, value := range map[string]string{
			"other/lobby/bob": good, "lobby/bob": good, "ban/lobby": good, "ban//bob": good, "ban/lobby/": good, "ban/den/bob": good, "ban/lobby/carol": good,
			"ban/lobby/bob": `{"v":2,"id":"1","room":"lobby","user":"bob"}`,
		} {
			if err := bus.Put(t.Context(), key, []byte(value), time.Minute); err != nil {
				t.Fatal(err)
			}
		}
		for _, value := range []string{``, `null`, `{"v":1`, `{"v":1,"room":"lobby","user":"bob"}`} {
			if err := bus.Put(t.Context(), "ban/lobby/bob", []byte(value), time.Minute); err != nil {
				t.Fatal(err)
			}
		}
		if synctest.Wait(); n.Stats().Bans != 0 || bob.end() != "" {
			t.Errorf("got %d bans, and bob ended %q; want none", n.Stats().Bans, bob.end())
		}
		putBan(t, bus, "1", time.Minute)
		if synctest.Wait(); n.Stats().Bans != 1 || bob.end() != hub.EndRemoved {
			t.Errorf("well-formed row: got %d bans, and bob ended %q; want 1 and %q", n.Stats().Bans, bob.end(), hub.EndRemoved)
		}
		time.Sleep(2 * time.Minute)
	})
}

// A kick whose row cannot be stored fails and changes nothing.
func TestKickWithoutTable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := openNode(t, &hookedBus{Bus: sharedMemory(), put: errors.New("no bucket")})
		time.Sleep(2 * time.Second)
		bob := n.join("lobby", "bob", hub.Lease{}, "")
		if err := n.Kick(t.Context(), "lobby", "bob", time.Minute); !errors.Is(err, backplane.ErrUnavailable) {
			t.Errorf("got %v, want %v", err, backplane.ErrUnavailable)
		}
		if synctest.Wait(); bob.end() != "" || !n.BanEnd("lobby", "bob").IsZero() {
			t.Errorf("bob ended %q, ban until %v; want neither", bob.end(), n.BanEnd("lobby", "bob"))
		}
	})
}
