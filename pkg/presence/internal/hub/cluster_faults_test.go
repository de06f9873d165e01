package hub_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/internal/hub"
	"example.com/presence/pkg/presence/internal/loglimit"
	"example.com/presence/pkg/presence/internal/stream"
	"example.com/presence/pkg/presence/room"
)

// A part in several pieces is read although another peer does not answer.
func TestPullBesideSilentPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes, buses := openCluster(t, 3, func(c *hub.Config) { c.LimitEntries(256) })
		for i := range 300 {
			nodes[1].join("lobby", fmt.Sprintf("u%03d", i), hub.Lease{}, "")
		}
		time.Sleep(time.Second)
		buses[2].set(func(string) fate { return fate{lost: true} })
		nodes[0].join("lobby", "alice", hub.Lease{}, "")
		time.Sleep(500 * time.Millisecond)
		if p, err := nodes[0].Members(t.Context(), "lobby", "", 1); err != nil || p.Connections != 301 {
			t.Errorf("got %d connections, %v; want 301", p.Connections, err)
		}
	})
}

// A ban does not keep an unused room.
func TestUnusedRoomWithBan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes, _ := openCluster(t, 2)
		nodes[0].join("lobby", "bob", hub.Lease{}, "")
		if err := nodes[0].Kick(t.Context(), "lobby", "bob", 24*time.Hour); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		nodes[0].expectRooms()
	})
}

// failingWatch is a bus whose Watch fails after a time.
type failingWatch struct {
	backplane.Bus
	published atomic.Int32 // number of heartbeats that were published since
}

func (b *failingWatch) Watch(func(backplane.Row)) (func(), error) {
	time.Sleep(2 * time.Second)
	cancel, err := b.Subscribe(backplane.Nodes, backplane.Handler{Message: func([]byte) { b.published.Add(1) }})
	if err == nil {
		time.AfterFunc(time.Minute, cancel)
		err = errors.New("no table")
	}
	return nil, err
}

// A hub that could not be opened publishes nothing.
func TestFailedOpenIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := sharedMemory()
		peer := openNode(t, bus)
		failing, log := &failingWatch{Bus: bus}, slog.New(slog.DiscardHandler)
		_, err := hub.Open(hub.Config{Bus: failing, Streams: &fakeStreams{t: t}, Log: log, Warn: loglimit.New(log), Count: (*room.Room).Connections})
		if err == nil {
			t.Fatal("Open succeeded without a table")
		}
		time.Sleep(10500 * time.Millisecond)
		if n := failing.published.Load(); n < 8 || n > 14 {
			t.Errorf("%d heartbeats in 10 s, want those of one node", n)
		}
		if n := peer.Stats().Peers; n != 0 {
			t.Errorf("got %d peers, want 0", n)
		}
		peer.join("lobby", "alice", hub.Lease{}, "").Drop(stream.Closed)
	})
}

// The first client of a room waits for the parts of the peers only. A question or an answer that is
// lost is repeated after 250 ms, and after 500 ms.
func TestLossWhileRoomOpens(t *testing.T) {
	for _, test := range []struct {
		name  string
		node  int  // whose commands have the fate
		fate  fate // of the first commands
		times int
		wait  time.Duration
		whole bool
	}{
		{"no loss", 1, fate{}, 0, 0, true},
		{"answer of the node itself", 0, fate{mute: true}, 99, 0, true},
		{"one question", 1, fate{lost: true}, 1, 250 * time.Millisecond, true},
		{"one answer", 1, fate{mute: true}, 1, 250 * time.Millisecond, true},
		{"two answers", 1, fate{mute: true}, 2, 500 * time.Millisecond, true},
		{"all answers", 1, fate{mute: true}, 99, time.Second, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				nodes, buses := openCluster(t, 3)
				nodes[1].join("lobby", "bob", hub.Lease{}, "")
				time.Sleep(time.Second)
				b := buses[test.node]
				b.set(func(string) fate {
					if b.asked <= test.times {
						return test.fate
					}
					return fate{}
				})
				start := time.Now()
				alice := nodes[0].join("lobby", "alice", hub.Lease{}, "")
				if d := time.Since(start); d != test.wait {
					t.Errorf("the first client waited %v, want %v", d, test.wait)
				}
				if got := alice.isComplete(); got != test.whole {
					t.Errorf("got complete %v in sync, want %v", got, test.whole)
				}
			})
		})
	}
}

// The further pieces of a part are also asked for again while the first client of a room waits.
func TestLostPieceWhileRoomOpens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes, buses := openCluster(t, 2, func(c *hub.Config) { c.LimitEntries(256) })
		for i := range 300 {
			nodes[1].join("lobby", fmt.Sprintf("u%03d", i), hub.Lease{}, "")
		}
		time.Sleep(time.Second)
		buses[1].set(func(string) fate { return fate{mute: buses[1].asked == 2} })
		start := time.Now()
		nodes[0].join("lobby", "alice", hub.Lease{}, "")
		if d := time.Since(start); d != 250*time.Millisecond {
			t.Errorf("the first client waited %v, want 250ms", d)
		}
		if p, err := nodes[0].Members(t.Context(), "lobby", "", 1); err != nil || p.Connections != 301 {
			t.Errorf("got %d connections, %v; want 301", p.Connections, err)
		}
	})
}

// A room that is opened while its node is cut off pulls the parts of the live peers. It does not
// depend on their repeats, which may be lost.
func TestRoomOpenedDuringCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := sharedMemory()
		first, second := &lossyBus{Bus: log}, &lossyBus{Bus: log}
		a, b := openNode(t, first), openNode(t, second)
		time.Sleep(2 * time.Second)
		a.join("lobby", "alice", hub.Lease{}, "")
		time.Sleep(time.Minute)
		second.change(func() { second.deaf = true })
		time.Sleep(3500 * time.Millisecond)
		second.set(func(string) fate { return fate{lost: true} })
		first.set(func(string) fate { return fate{lost: true} }) // no node receives a request
		if s := b.Stats(); !s.CutOff || s.Peers != 1 {
			t.Fatalf("got cut off %v, %d peers; want true, 1", s.CutOff, s.Peers)
		}
		bob := b.join("lobby", "bob", hub.Lease{}, "")
		if got := bob.take(); got != "sync user count:1" && got != "sync user count:1 "+resetText { // it may be reset before or after it joins
			t.Errorf("during the cut: got %q, want only the own count", got)
		}
		first.change(func() { first.deaf = true }) // the node is not asked to repeat its part
		second.change(func() { second.deaf = false })
		first.set(nil)
		second.set(nil)
		time.Sleep(3500 * time.Millisecond)
		bob.expect("sync user count:2") // the room was partial
	})
}

// A node finds out that a user has left while it was cut off, or while the node of the user was,
// even if that node has dropped the room meanwhile, and so repeats nothing.
func TestRoomDroppedDuringCut(t *testing.T) {
	for wait := range 10 { // since a heartbeat
		for cut := range 2 { // the node of the user, and that of the reader
			testRoomDroppedDuringCut(t, time.Duration(wait)*100*time.Millisecond, cut)
		}
	}
}

func testRoomDroppedDuringCut(t *testing.T, wait time.Duration, cut int) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		rnd := rand.New(rand.NewPCG(1, 2))
		e := newSimEngine(rnd, nil)
		defer e.close()
		var nodes [3]*node
		var buses [3]*simBus
		for i := range nodes {
			clock := newSimClock(rnd, 0)
			buses[i] = e.handle(fmt.Sprint(i), clock)
			nodes[i] = newNode(t, buses[i], func(c *hub.Config) {
				c.Clock, c.MaxRooms, c.Linger = clock, 1, time.Second
			})
			defer nodes[i].end()
		}
		time.Sleep(2 * time.Second)
		alice := nodes[0].join("lobby", "alice", hub.Lease{}, "")
		bob := nodes[1].join("lobby", "bob", hub.Lease{}, "")
		time.Sleep(10*time.Second + wait)
		bob.take()
		start := time.Now()
		buses[cut].cut()
		alice.Drop(stream.Closed)
		time.Sleep(2 * time.Second)
		nodes[0].join("den", "carol", hub.Lease{}, "")             // evicts the lobby; may wait 1 s for node 1
		time.Sleep(time.Until(start.Add(4010 * time.Millisecond))) // all repeats are over, but no lease has ended
		buses[cut].mend()
		time.Sleep(6 * time.Second)
		if p, err := nodes[1].Members(t.Context(), "lobby", "", 10); err != nil || p.Connections != 1 || p.Users != 1 {
			t.Errorf("node %d cut %v after a heartbeat: got %d connections, %d users, %v; want 1 and 1", cut, wait, p.Connections, p.Users, err)
		}
	})
}

// A peer may list a node that has dropped the room. That node does not receive the request to the
// nodes of the room, so the first client waits for the repeat to all nodes, but not longer.
func TestRoomOpensBesideDroppedRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes, buses := openCluster(t, 3, func(c *hub.Config) { c.MaxRooms, c.Linger = 1, time.Second })
		alice := nodes[1].join("lobby", "alice", hub.Lease{}, "")
		nodes[2].join("lobby", "bob", hub.Lease{}, "")
		time.Sleep(10 * time.Second)
		buses[1].change(func() { buses[1].silent = true })
		alice.Drop(stream.Closed)
		time.Sleep(2100 * time.Millisecond)
		buses[1].change(func() { buses[1].silent = false })
		nodes[1].join("den", "carol", hub.Lease{}, "") // evicts the lobby; its next repeat is 4 s after the change
		start := time.Now()
		dave := nodes[0].join("lobby", "dave", hub.Lease{}, "")
		if d := time.Since(start); d != 250*time.Millisecond {
			t.Errorf("the first client waited %v, want 250ms", d)
		}
		if !dave.isComplete() || dave.view.count != 2 {
			t.Errorf("got complete %v, %d connections; want true, 2", dave.isComplete(), dave.view.count)
		}
	})
}

// askBus replaces the requests of a node.
type askBus struct {
	backplane.Bus
	ask atomic.Pointer[func(topic room.Name, answer func([]byte) bool) error]
}

func (b *askBus) Ask(ctx context.Context, topic room.Name, request []byte, answer func([]byte) bool) error {
	if ask := b.ask.Load(); ask != nil {
		return (*ask)(topic, answer)
	}
	return b.Bus.Ask(ctx, topic, request, answer)
}

// isComplete reports whether the client receives members.
func (c *fakeClient) isComplete() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.view.complete
}

// openAsking opens a node whose requests are replaced by ask, beside a node with bob in the lobby.
func openAsking(t *testing.T) (asking *node, bus *askBus, other *lossyBus) {
	log := sharedMemory()
	bus, other = &askBus{Bus: log}, &lossyBus{Bus: log}
	asking, peer := openNode(t, bus), openNode(t, other)
	time.Sleep(2 * time.Second)
	peer.join("lobby", "bob", hub.Lease{}, "")
	time.Sleep(10 * time.Second)
	return asking, bus, other
}

// A peer without contact has no subscription that the engine knows, but may have clients in the
// room. The room is partial until the peer answers.
func TestRoomOpensBesideReconnectingPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, bus, other := openAsking(t)
		other.change(func() { other.silent = true })
		none := func(room.Name, func([]byte) bool) error { return backplane.ErrNoSubscription }
		bus.ask.Store(&none)
		time.Sleep(2700 * time.Millisecond)
		alice := n.join("lobby", "alice", hub.Lease{}, "")
		if alice.isComplete() {
			t.Error("got complete true in sync, although a live peer is silent")
		}
		alice.take()
		bus.ask.Store(nil)
		other.change(func() { other.silent = false })
		time.Sleep(time.Second)
		alice.expect("sync user count:2")
	})
}

// A room that is opened right after it was dropped may receive the answer of its own node, whose
// subscription has not ended yet. It does not stand for the answers of the peers.
func TestRoomOpensAtOwnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, bus, _ := openAsking(t)
		ask := func(_ room.Name, answer func([]byte) bool) error {
			answer(fmt.Appendf(nil, `{"v":1,"from":%q,"part":{"n":0}}`, n.NodeID()))
			return nil
		}
		bus.ask.Store(&ask)
		alice := n.join("lobby", "alice", hub.Lease{}, "")
		if alice.isComplete() {
			t.Error("got complete true in sync, although no peer has answered")
		}
		bus.ask.Store(nil)
		time.Sleep(time.Second)
		if got := alice.take(); !strings.HasSuffix(got, "sync user count:2") {
			t.Errorf("got %q, want bob in a full sync", got)
		}
	})
}

// Every node receives the requests to all nodes. If the engine reports that none does, a command
// has failed.
func TestCommandWithoutSubscription(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, bus, _ := openAsking(t)
		none := func(room.Name, func([]byte) bool) error { return backplane.ErrNoSubscription }
		bus.ask.Store(&none)
		if err := n.SignOut(t.Context(), "bob", "session"); !errors.Is(err, backplane.ErrUnavailable) {
			t.Errorf("SignOut: got %v, want %v", err, backplane.ErrUnavailable)
		}
		if _, _, err := n.Rooms(t.Context(), "", 10); err != hub.ErrIncomplete {
			t.Errorf("Rooms: got %v, want %v", err, hub.ErrIncomplete)
		}
	})
}

// A peer may have no subscription to a room, although the room lacks its part. The pull asks it
// through the topic of all nodes.
func TestPullWithoutSubscription(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, bus, other := openAsking(t)
		other.change(func() { other.silent = true })
		ask := func(topic room.Name, answer func([]byte) bool) error {
			if topic != backplane.Nodes {
				return backplane.ErrNoSubscription
			}
			return bus.Bus.Ask(t.Context(), topic, fmt.Appendf(nil, `{"v":1,"from":%q,"parts":{"room":"lobby"}}`, n.NodeID()), answer)
		}
		bus.ask.Store(&ask)
		time.Sleep(2700 * time.Millisecond)
		alice := n.join("lobby", "alice", hub.Lease{}, "")
		time.Sleep(300 * time.Millisecond)
		if got := alice.take(); got != "sync user count:1 sync user count:2" {
			t.Errorf("got %q, want a full sync after 250ms", got)
		}
	})
}
