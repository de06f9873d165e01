package hub_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/internal/hub"
	"example.com/presence/pkg/presence/room"
)

// The heartbeats of a node do not wait for the frames of its rooms. Here, all rooms are due at the
// same time, and the engine needs 10 s for their frames.
func TestHeartbeatsBesideManyRooms(t *testing.T) {
	inStopRig(t, func(r *stopRig) {
		for i := range 50 {
			r.join(fmt.Sprint("room-", i), "alice", hub.Lease{}, "")
		}
		r.other.join("room-0", "bob", hub.Lease{}, "")
		time.Sleep(40 * time.Second)
		r.bus.set(func(_ context.Context, topic room.Name) {
			if topic != backplane.Nodes {
				time.Sleep(200 * time.Millisecond)
			}
		})
		hello(r.t, r.bus, "another")
		for range 200 {
			time.Sleep(100 * time.Millisecond)
			if p, err := r.other.Members(context.Background(), "room-0", "", 10); err != nil || p.Connections != 2 || r.Stats().CutOff {
				r.t.Fatalf("got %d connections, %v, cut off %v; want 2, no error, false", p.Connections, err, r.Stats().CutOff)
			}
		}
	})
}

// hello asks all nodes to repeat their parts.
func hello(t testing.TB, bus backplane.Bus, from string) {
	t.Helper()
	text := fmt.Sprintf(`{"v":1,"from":%q,"hello":["*"]}`, from)
	if err := bus.Publish(context.Background(), backplane.Nodes, []byte(text)); err != nil {
		t.Error(err)
	}
}

// Nodes that ask for repeats all the time cause one frame per room and second.
func TestManyHellos(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := sharedMemory()
		n, _ := openShared(t, log)
		n.join("lobby", "alice", hub.Lease{}, "")
		time.Sleep(10 * time.Second)
		var mu sync.Mutex
		var frames int
		cancel, err := log.Subscribe("lobby", backplane.Handler{Message: func(data []byte) {
			mu.Lock()
			defer mu.Unlock()
			frames++
		}})
		if err != nil {
			t.Fatal(err)
		}
		defer cancel()
		for i := range 900 { // 9.9 s, without a hello in the very moment of a frame
			hello(t, log, fmt.Sprint("node-", i%3))
			time.Sleep(11 * time.Millisecond)
		}
		mu.Lock()
		defer mu.Unlock()
		if frames < 9 || frames > 11 {
			t.Errorf("got %d frames in 10 s, want one per second", frames)
		}
	})
}

// A node knows at most 256 live peers. It ignores the frames of others.
func TestTooManyPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := sharedMemory()
		n, _ := openShared(t, log)
		n.join("lobby", "alice", hub.Lease{}, "")
		for i := range 300 {
			hello(t, log, fmt.Sprint("node-", i))
		}
		synctest.Wait()
		if got := n.Stats().Peers; got != 256 {
			t.Errorf("got %d peers, want 256", got)
		}
		time.Sleep(6 * time.Second)
		hello(t, log, "node-299")
		synctest.Wait()
		if got := n.Stats().Peers; got != 1 {
			t.Errorf("after their leases: got %d peers, want 1", got)
		}
	})
}

// Peers with forged ids that come and go cause at most 256 log lines per hour, and one warning.
func TestManyPeersInLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, lines := sharedMemory(), &logBuffer{}
		openNode(t, log, func(c *hub.Config) { lines.use(c) })
		for i := range 1000 {
			hello(t, log, fmt.Sprint("node-", i))
			time.Sleep(30 * time.Millisecond)
		}
		if got := len(lines.lines("peer node ")); got != 256 {
			t.Errorf("got %d lines about peers, want 256", got)
		}
		if got := len(lines.lines("peer nodes come and go too often")); got != 1 {
			t.Errorf("got %d warnings, want 1", got)
		}
		time.Sleep(time.Hour)
		hello(t, log, "node-0")
		synctest.Wait()
		if got := len(lines.lines("peer node found")); got == 0 || got > 256 || !strings.Contains(lines.lines("peer node found")[got-1], "node-0") {
			t.Errorf("after an hour: got %d lines, want one more", got)
		}
	})
}
