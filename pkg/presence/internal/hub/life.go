package hub

import (
	"cmp"
	"context"
	crand "crypto/rand"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/internal/rates"
	"example.com/presence/pkg/presence/room"
)

// Open creates a hub and connects it to the backplane. Close the hub with [Hub.Close].
func Open(c Config) (*Hub, error) {
	c = c.withDefaults()
	h := &Hub{closed: make(chan struct{}), rooms: newRooms(c.MaxRooms, c.MaxRoomsPerUser)}
	h.stopping, h.stop = context.WithCancel(context.Background())
	h.shared.config = c
	h.shared.node = c.Node
	h.shared.opened = c.Clock.Now()
	if c.Bus.Shared() {
		h.shared.peers = newPeers(c.Node, c.Clock.Now())
		h.shared.peers.announce(c.Label, c.settings())
		h.shared.peers.cut = c.Bus.Status().Epoch == "" // until the first own heartbeat
		h.shared.outbox = newOutbox(c.Clock, h.send)
		h.shared.beats = newOutbox(c.Clock, h.beat)
		h.shared.checks = newOutbox(c.Clock, h.checkPeers)
		h.shared.rings = newRings(c)
		h.shared.reads, h.shared.pulls = make(slots, maxGapReads), make(slots, maxPulls)
	}
	h.shared.histories = newHistoryReads()
	h.shared.conns = connections{limit: c.MaxConnections, userLimit: c.MaxConnectionsPerUser, clock: c.Clock}
	h.shared.bans = bans{rooms: map[room.Name]map[room.UserID]banRow{}, changed: make(chan struct{})}
	h.shared.replays = newReplays(c.MaxReplay, c.Clock)
	h.shared.snapshots = newSnapshots(c.MaxSnapshots, c.Clock)
	h.shared.hooks = newHooks(c, &h.running)

	handler := backplane.Handler{Ask: h.handleCommand}
	if h.isShared() {
		handler.Message = h.receiveHeartbeat
		handler.Lost = func() { h.recover(c.Clock.Now()) }
	}
	end, err := c.Bus.Subscribe(backplane.Nodes, handler)
	if err != nil {
		return nil, fmt.Errorf("hub: subscribe to commands: %w", err)
	}
	h.cancel = append(h.cancel, end)
	if end, err = c.Bus.Watch(h.applyRow); err != nil {
		h.unsubscribe()
		if h.isShared() { // a peer may have been found meanwhile
			h.outbox.close()
			h.beats.close()
		}
		return nil, fmt.Errorf("hub: watch bans: %w", err)
	}
	h.cancel = append(h.cancel, end)
	if h.isShared() {
		c.Log.Info("node started", "node", string(c.Node), "label", c.Label)
		h.cancel = append(h.cancel, c.Bus.Notify(h.receiveStatus))
		h.beats.add(backplane.Nodes, c.Clock.Now())
		h.checks.add(backplane.Nodes, c.Clock.Now())
	}
	return h, nil
}

func (h *Hub) unsubscribe() {
	for _, cancel := range h.cancel {
		cancel()
	}
}

// Close shuts the hub down. From now on, the hub rejects connections. It sends each client a
// goodbye with reason draining, after the messages that it has accepted. If the bus is shared, the
// goodbyes are spread over Config.Grace, and the hub accepts messages until the last of them are
// due.
//
// Close returns when the last connection is closed and no hook is running. If ctx ends earlier, all
// goodbyes that are left are due, Close returns its error, and the shutdown continues in the
// background. A second call waits for the same shutdown.
func (h *Hub) Close(ctx context.Context) error {
	if h.draining.CompareAndSwap(false, true) {
		spread := h.isShared() && h.config.Grace > 0
		if !spread {
			h.beginClosing()
		}
		go func() { // ends with the last connection; each has 2 s to send its goodbye
			defer close(h.closed)
			if spread {
				h.spread(ctx)
				h.beginClosing()
			}
			h.drain()
		}()
	}
	select {
	case <-h.closed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (h *Hub) beginClosing() {
	h.closing.Store(true)
	h.stop()
}

// spreadStep is the minimum time between two groups of goodbyes.
const spreadStep = 50 * time.Millisecond

// spread sends the goodbyes, in random order. The first is due after a quarter of Config.Grace: by
// then, load balancers should have found that this node is not ready. The others follow over half
// of it, so that the other nodes do not get all clients at once. Until then this node is a peer
// like any other: its clients send and receive, and the users that have reconnected elsewhere are
// in their grace period here. spread ends early if ctx ends.
func (h *Hub) spread(ctx context.Context) {
	clock, period := h.config.Clock, max(1, h.config.Grace/2)
	if !pause(ctx, clock, period/2) {
		return
	}
	all := h.conns.counted()
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	start, n := clock.Now(), len(all)
	for ended := 0; ended < n; {
		passed := max(0, min(1, float64(clock.Now().Sub(start))/float64(period)))
		due := min(n, int(passed*float64(n))+1)
		h.config.Streams.Drain()
		h.conns.endEach(all[ended:due], EndDraining)
		if ended = due; ended < n && !pause(ctx, clock, max(spreadStep, period/time.Duration(n))) {
			return
		}
	}
}

// drain shuts the hub down in this order:
//
//  1. Reject new rooms and messages. Wait up to 2 s for the messages in flight.
//  2. Close each room. This admits its joiners. Nothing is published afterwards.
//  3. Wait until all events are on their way to the clients. Then disconnect the clients.
//  4. Wait for connections, hooks and repairs to end. Cancel the subscriptions.
//  5. Close the streams, and the bus if the hub owns it.
func (h *Hub) drain() {
	h.rooms.close()
	all := h.rooms.all("")
	late, cancel := context.WithTimeout(context.Background(), sendTime)
	defer cancel()
	for _, l := range all {
		select {
		case <-l.settle():
		case <-late.Done():
		}
	}
	for _, l := range all {
		l.close()
	}
	h.config.Streams.Drain()
	h.conns.end(EndDraining)
	h.running.Wait()
	h.replays.close()
	if h.isShared() {
		h.leaveCluster()
	}
	h.unsubscribe()
	for _, l := range all {
		l.unsubscribe()
	}
	h.rooms.changing.Wait()
	h.config.Streams.Close()
	if h.config.OwnBus {
		h.config.Bus.Close()
	}
}

// withDefaults returns the settings with the default for each field that is not set.
func (c Config) withDefaults() Config {
	if c.Clock == nil {
		c.Clock = system{}
	}
	if c.Costs == nil {
		c.Costs = rates.NewTable(-1, 1) // unlimited
	}
	c.MaxSnapshots = cmp.Or(c.MaxSnapshots, maxSnapshots)
	c.entries, c.pieceEntries = cmp.Or(c.entries, maxEntries), cmp.Or(c.pieceEntries, maxPieceEntries)
	if c.Node == "" {
		node := make([]byte, 16)
		crand.Read(node)
		c.Node = room.NodeID(hex.EncodeToString(node))
	}
	return c
}
