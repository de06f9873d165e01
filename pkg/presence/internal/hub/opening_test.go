package hub_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/internal/hub"
	"example.com/presence/pkg/presence/internal/stream"
	"example.com/presence/pkg/presence/room"
)

// askedBus counts the requests that the hub receives, by topic.
type askedBus struct {
	backplane.Bus
	rooms, nodes atomic.Int64
}

func (b *askedBus) Subscribe(topic room.Name, h backplane.Handler) (func(), error) {
	if ask := h.Ask; ask != nil {
		h.Ask = func(request []byte) []byte {
			if topic == backplane.Nodes {
				b.nodes.Add(1)
			} else {
				b.rooms.Add(1)
			}
			return ask(request)
		}
	}
	return b.Bus.Subscribe(topic, h)
}

// A node that does not have a room receives no request when the room opens elsewhere. If no node
// has it, the first client does not wait.
func TestOpeningAsksNodesOfRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := sharedMemory()
		var nodes []*node
		var buses []*askedBus
		for range 5 {
			b := &askedBus{Bus: log}
			buses, nodes = append(buses, b), append(nodes, openNode(t, b))
		}
		time.Sleep(2 * time.Second)
		join := func(i int, user string) {
			t.Helper()
			start := time.Now()
			c := nodes[i].join("lobby", user, hub.Lease{}, "")
			if d := time.Since(start); d != 0 {
				t.Errorf("the first client on node %d waited %v, want 0 s", i, d)
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			if !c.view.complete {
				t.Errorf("the first client on node %d got a sync that is not complete", i)
			}
			synctest.Wait() // now the node answers for the room
		}
		join(0, "alice")
		join(1, "bob")
		join(2, "carol")
		time.Sleep(10 * time.Second)
		for i, want := range []int64{2, 1, 0, 0, 0} {
			if rooms, all := buses[i].rooms.Load(), buses[i].nodes.Load(); rooms != want || all != 0 {
				t.Errorf("node %d received %d requests for the room and %d for all nodes, want %d and 0", i, rooms, all, want)
			}
		}
		for i := range 3 {
			if p, err := nodes[i].Members(t.Context(), "lobby", "", 10); err != nil || p.Connections != 3 {
				t.Errorf("node %d: got %d connections, %v; want 3", i, p.Connections, err)
			}
		}
	})
}

// lateAskBus delays the answers of a node for a room.
type lateAskBus struct {
	backplane.Bus
	delay time.Duration
}

func (b *lateAskBus) Subscribe(topic room.Name, h backplane.Handler) (func(), error) {
	if ask := h.Ask; ask != nil && topic != backplane.Nodes {
		h.Ask = func(request []byte) []byte {
			time.Sleep(b.delay)
			return ask(request)
		}
	}
	return b.Bus.Subscribe(topic, h)
}

// The first client waits for each node that an answer lists, also if that node is slower.
func TestOpeningWaitsForListedNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := sharedMemory()
		quick, slow, late := openNode(t, log), openNode(t, &lateAskBus{log, 200 * time.Millisecond}), openNode(t, log)
		time.Sleep(2 * time.Second)
		quick.join("lobby", "alice", hub.Lease{}, "")
		slow.join("lobby", "bob", hub.Lease{}, "").Drop(stream.Closed) // in its grace period
		time.Sleep(time.Second)
		late.join("lobby", "carol", hub.Lease{}, "")
		if p, err := late.Members(t.Context(), "lobby", "", 10); err != nil || p.Users != 3 {
			t.Errorf("got %d users, %v; want 3", p.Users, err)
		}
	})
}

// A small part needs no pull if a frame was lost: the next frame contains all of it.
func TestWholeFrameNeedsNoPull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := sharedMemory()
		deaf, counting := &lossyBus{Bus: log}, &askedBus{Bus: log}
		a, b := openNode(t, counting), openNode(t, deaf)
		time.Sleep(2 * time.Second)
		bob := b.join("lobby", "bob", hub.Lease{}, "")
		time.Sleep(10 * time.Second)
		deaf.change(func() { deaf.deaf = true })
		alice := a.join("lobby", "alice", hub.Lease{}, "")
		time.Sleep(200 * time.Millisecond)
		deaf.change(func() { deaf.deaf = false })
		bob.take()
		a.join("lobby", "alice", hub.Lease{}, "")
		alice.Drop(stream.Closed)
		time.Sleep(200 * time.Millisecond)
		bob.expect("join user count:2")
		if rooms, all := counting.rooms.Load(), counting.nodes.Load(); rooms+all != 0 {
			t.Errorf("the node received %d requests, want none", rooms+all)
		}
	})
}

// forgetfulBus does not know the last position of a room without entries.
type forgetfulBus struct {
	backplane.Bus
	last uint64
}

func (b *forgetfulBus) Last(context.Context, room.Name) (uint64, error) { return b.last, nil }

func (b *forgetfulBus) Read(_ context.Context, _ room.Name, after uint64) ([]backplane.Entry, bool, error) {
	return nil, after >= b.last, nil
}

// A client that moves to another node gets no reset if the room is quiet for so long that the log
// does not know its last position. The node that serves the room knows it.
func TestQuietRoomMoves(t *testing.T) {
	for _, served := range []bool{true, false} {
		t.Run(fmt.Sprint("served ", served), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := sharedMemory()
				a, b := openNode(t, log), openNode(t, &forgetfulBus{Bus: log, last: 70})
				time.Sleep(2 * time.Second)
				alice := a.join("lobby", "alice", hub.Lease{}, "")
				id := a.send("lobby", "alice", "1")
				want := ""
				if !served {
					alice.Drop(stream.Closed)
					time.Sleep(time.Minute)
					want = resetText
				}
				b.resumes(id, want)
			})
		})
	}
}
