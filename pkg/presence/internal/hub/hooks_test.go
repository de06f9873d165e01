package hub_test

import (
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

// hookCalls records the calls of OnJoin and OnLeave of one node, such as "+bob" and "-bob:closed".
type hookCalls struct {
	t     *testing.T
	mu    sync.Mutex // guards calls
	calls []string
}

// openHooked opens a node whose hooks are recorded.
func openHooked(t *testing.T, bus backplane.Bus, change ...func(*hub.Config)) (*node, *hookCalls) {
	h := &hookCalls{t: t}
	record := func(c *hub.Config) {
		c.OnJoin = func(_ string, m room.Member) { h.add("+" + string(m.ID)) }
		c.OnLeave = func(_ string, m room.Member, why room.Reason) {
			h.add("-" + string(m.ID) + ":" + string(why))
		}
	}
	return openNode(t, bus, append(change, record)...), h
}

func (h *hookCalls) add(call string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls = append(h.calls, call)
}

// expect compares the calls since the last call of expect.
func (h *hookCalls) expect(want string) {
	h.t.Helper()
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	if got := strings.Join(h.calls, " "); got != want {
		h.t.Errorf("got the hook calls %q, want %q", got, want)
	}
	h.calls = nil
}

// A node in a cluster calls the hooks from its first client on, until the grace period after its
// last client has ended. The calls for each member are in pairs.
func TestHooksNeedClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := sharedMemory()
		a, hooksA := openHooked(t, bus)
		b, hooksB := openHooked(t, bus)
		time.Sleep(2 * time.Second)
		a.join("lobby", "alice", hub.Lease{}, "")
		b.list("lobby")
		b.send("lobby", "bob", "1")
		carol := a.join("lobby", "carol", hub.Lease{}, "")
		time.Sleep(time.Second)
		hooksA.expect("+alice +carol")
		hooksB.expect("")
		for range 2 { // the second time the room is still open
			bob := b.join("lobby", "bob", hub.Lease{}, "")
			time.Sleep(time.Second)
			hooksA.expect("+bob")
			hooksB.expect("+alice +bob +carol")
			bob.Drop(stream.Closed)
			time.Sleep(time.Second)
			dave := a.join("lobby", "dave", hub.Lease{}, "")
			time.Sleep(4400 * time.Millisecond)
			hooksA.expect("+dave")
			hooksB.expect("+dave")
			dave.Drop(stream.Slow)
			time.Sleep(time.Second)
			hooksA.expect("-bob:closed")
			hooksB.expect("-bob:closed -alice: -carol: -dave:")
			time.Sleep(5 * time.Second)
			hooksA.expect("-dave:slow")
		}
		carol.Drop(stream.Closed)
		time.Sleep(6 * time.Second)
		b.list("lobby")
		time.Sleep(time.Minute)
		hooksA.expect("-carol:closed")
		hooksB.expect("")
		a.Close(t.Context())
		hooksA.expect("")
	})
}

// The only user of a room leaves when its grace period ends, with peers and without.
func TestHooksOfOnlyUser(t *testing.T) {
	for name, c := range map[string]struct {
		bus   func() backplane.Bus
		grace time.Duration
	}{
		"one node": {func() backplane.Bus { return memory() }, 5 * time.Second},
		"cluster":  {func() backplane.Bus { return sharedMemory() }, 5500 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, hooks := openHooked(t, c.bus())
				time.Sleep(2 * time.Second)
				n.join("lobby", "bob", hub.Lease{}, "").Drop(stream.Timeout)
				time.Sleep(c.grace - time.Millisecond)
				hooks.expect("+bob")
				time.Sleep(time.Millisecond)
				hooks.expect("-bob:timeout")
				time.Sleep(time.Minute)
				hooks.expect("")
			})
		})
	}
}

// If a user moves to another node, the node that it has left calls OnLeave without a reason.
func TestHooksOfUserThatMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := sharedMemory()
		a, hooksA := openHooked(t, bus)
		b, hooksB := openHooked(t, bus)
		time.Sleep(2 * time.Second)
		b.join("lobby", "bob", hub.Lease{}, "").Drop(stream.Closed)
		time.Sleep(3 * time.Second)
		a.join("lobby", "bob", hub.Lease{}, "")
		time.Sleep(time.Minute)
		hooksA.expect("+bob")
		hooksB.expect("+bob -bob:")
	})
}

// A removed user leaves at once. Its node calls the hooks until the user's connections have closed.
func TestHooksOfRemovedUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := sharedMemory()
		a, _ := openHooked(t, bus)
		b, hooks := openHooked(t, bus)
		time.Sleep(2 * time.Second)
		a.join("lobby", "alice", hub.Lease{}, "")
		b.join("lobby", "bob", hub.Lease{}, "", func(c *fakeClient) { c.stalls = 3 * time.Second })
		time.Sleep(time.Second)
		hooks.expect("+alice +bob")
		if err := b.Kick(t.Context(), "lobby", "bob", time.Second); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		hooks.expect("-bob:removed")
		time.Sleep(3 * time.Second)
		hooks.expect("-alice:")
	})
}

// A room that is evicted while a leave waits for the end of the flush interval calls the hooks
// before it is dropped.
func TestHooksOfEvictedRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := sharedMemory()
		a, _ := openHooked(t, bus)
		b, hooks := openHooked(t, bus, func(c *hub.Config) { c.MaxRooms, c.Coalesce = 1, time.Second })
		time.Sleep(2 * time.Second)
		a.join("lobby", "alice", hub.Lease{}, "")
		bob := b.join("lobby", "bob", hub.Lease{}, "")
		time.Sleep(time.Second)
		bob.Drop(stream.Closed)
		time.Sleep(5200 * time.Millisecond)
		a.join("lobby", "carol", hub.Lease{}, "") // starts the flush interval
		time.Sleep(400 * time.Millisecond)
		hooks.expect("+alice +bob +carol")
		b.send("den", "bob", "1")
		hooks.expect("-bob:closed -alice: -carol:")
	})
}

// A node that shuts down calls no hook for the clients that it disconnects.
func TestHooksAtShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := sharedMemory()
		a, hooksA := openHooked(t, bus)
		b, hooksB := openHooked(t, bus)
		time.Sleep(2 * time.Second)
		a.join("lobby", "alice", hub.Lease{}, "")
		b.join("lobby", "bob", hub.Lease{}, "")
		time.Sleep(time.Second)
		b.Close(t.Context())
		time.Sleep(time.Minute)
		hooksA.expect("+alice +bob -bob:closed")
		hooksB.expect("+alice +bob")
	})
}
