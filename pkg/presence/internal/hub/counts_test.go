package hub_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence/internal/hub"
	"example.com/presence/pkg/presence/internal/stream"
	"example.com/presence/pkg/presence/room"
)

// Join and leave events contain the number of connections and the number of users, which differ
// here.
func TestNumbersOfChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := openNode(t, memory())
		alice := n.join("lobby", "alice", hub.Lease{}, "")
		n.join("lobby", "alice", hub.Lease{}, "")
		time.Sleep(time.Second)
		alice.take()
		alice.mu.Lock()
		alice.text = nil
		alice.mu.Unlock()
		bob := n.join("lobby", "bob", hub.Lease{}, "")
		synctest.Wait()
		if got := string(alice.text); !strings.Contains(got, `"id":"bob","name":"","info":{},"connections":3,"users":2}`) {
			t.Errorf("got %s", got)
		}
		alice.take()
		bob.Drop(stream.Closed)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := string(alice.text); !strings.Contains(got, `"id":"bob","name":"","info":{},"connections":2,"users":1,"reason":"closed"}`) {
			t.Errorf("got %s", got)
		}
	})
}

// A client whose join crosses the member limit within a flush interval receives its sync
// immediately. At the end of the interval it receives the true count, even if the shared stream
// published the same count before.
func TestCrossingWithinInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := openNode(t, memory(), func(c *hub.Config) { c.MemberLimit = 2 })
		n.join("lobby", "alice", hub.Lease{}, "")
		time.Sleep(time.Second)
		n.join("lobby", "bob", hub.Lease{}, "")
		time.Sleep(time.Second)
		other := n.join("lobby", "bob", hub.Lease{}, "") // starts a flush interval; its count is published
		carol := n.join("lobby", "carol", hub.Lease{}, "")
		if got := carol.take(); got != "sync user count:4" {
			t.Errorf("within the interval carol got %q, want sync and the count 4", got)
		}
		other.Drop(stream.Closed)
		time.Sleep(time.Second)
		if got := carol.take(); got != "user count:3" {
			t.Errorf("after the interval carol got %q, want the count 3", got)
		}
	})
}

func TestLargeSnapshotWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := openNode(t, memory())
		for i := range 10 {
			n.join("lobby", fmt.Sprint("u", i), hub.Lease{}, "")
		}
		time.Sleep(time.Second)
		for i := range 10 {
			info := `"` + strings.Repeat("x", 1000) + `"`
			if err := n.Update(t.Context(), "lobby", room.UserID(fmt.Sprint("u", i)), []byte(info)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		n.join("lobby", "u0", hub.Lease{}, "") // starts a flush interval
		late := n.join("lobby", "u1", hub.Lease{}, "")
		if got := late.take(); got != "" {
			t.Errorf("within the interval: got %q", got)
		}
		time.Sleep(time.Second)
		if got := late.take(); got != "sync user count:12" {
			t.Errorf("after the interval: got %q", got)
		}
	})
}
