package hub_test

import (
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence/internal/hub"
	"example.com/presence/pkg/presence/internal/stream"
)

// Clients of all nodes of a room receive the same counts and members. A user that moves to another
// node within its grace period does not leave.
func TestNodesCountTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := sharedMemory()
		a, b := openNode(t, bus), openNode(t, bus)
		time.Sleep(2 * time.Second)
		alice := a.join("lobby", "alice", hub.Lease{}, "")
		alice.expect("sync user count:1")
		start := time.Now()
		bob := b.join("lobby", "bob", hub.Lease{}, "")
		if d := time.Since(start); d > batch {
			t.Errorf("the first client of a room waited %v for the peers, want less than %v", d, batch)
		}
		bob.expect("sync user count:2")
		time.Sleep(time.Second)
		alice.expect("join user count:2")
		bob.Drop(stream.Closed)
		time.Sleep(time.Second)
		alice.expect("user count:1")
		c := openNode(t, bus)
		bob = c.join("lobby", "bob", hub.Lease{}, "") // waits, as c does not know its peers yet
		bob.expect("sync user count:2")
		time.Sleep(time.Minute)
		alice.expect("user count:2")
		c.send("lobby", "bob", "1")
		alice.expect("message:1")
		bob.Drop(stream.Closed)
		time.Sleep(5400 * time.Millisecond)
		alice.expect("user count:1")
		time.Sleep(200 * time.Millisecond)
		alice.expect("leave")
	})
}

// batch is the time between two frames of a room.
const batch = 50 * time.Millisecond

// expect compares the events since the last call of take or expect.
func (c *fakeClient) expect(want string) {
	c.node.t.Helper()
	if got := c.take(); got != want {
		c.node.t.Errorf("%s got %q, want %q", c.user, got, want)
	}
}

// A node that shuts down reports the connections that close. A node that dies is out 5 s after its
// last frame.
func TestNodesThatEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := sharedMemory()
		dying := &hookedBus{Bus: bus}
		a, b, c := openNode(t, bus), openNode(t, bus), openNode(t, dying)
		time.Sleep(2 * time.Second)
		alice := a.join("lobby", "alice", hub.Lease{}, "")
		b.join("lobby", "bob", hub.Lease{}, "")
		time.Sleep(time.Second)
		c.join("lobby", "carol", hub.Lease{}, "")
		time.Sleep(time.Second)
		alice.expect("sync user count:1 join user count:2 join user count:3")
		b.Close(t.Context())
		time.Sleep(time.Second)
		alice.expect("user count:2")
		time.Sleep(5 * time.Second)
		alice.expect("leave")
		dying.silence(true)
		time.Sleep(3900 * time.Millisecond)
		alice.expect("")
		time.Sleep(1200 * time.Millisecond)
		alice.expect("leave user count:1")
		if s := a.Stats(); s.Peers != 0 || s.CutOff {
			t.Errorf("got %d peers, cut off %v; want 0, false", s.Peers, s.CutOff)
		}
		if s := c.Stats(); s.Peers != 1 || !s.CutOff {
			t.Errorf("node that publishes nothing: got %d peers, cut off %v; want 1, true", s.Peers, s.CutOff)
		}
		dying.silence(false)
		time.Sleep(2 * time.Second)
		alice.expect("join user count:2")
	})
}
