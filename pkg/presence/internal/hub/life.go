package hub

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/room"
)

// Open creates a hub and connects it to its backplane. [Hub.Close] ends it.
func Open(c Config) (*Hub, error) {
	if c.Clock == nil {
		c.Clock = system{}
	}
	c.MaxSnapshots = cmp.Or(c.MaxSnapshots, maxSnapshots)
	node := make([]byte, 16)
	rand.Read(node)
	h := &Hub{closed: make(chan struct{}), rooms: rooms{limit: c.MaxRooms, live: map[room.Name]*live{}}}
	h.shared.config = c
	h.shared.node = hex.EncodeToString(node)
	h.shared.conns = connections{limit: c.MaxConnections, userLimit: c.MaxConnectionsPerUser, clock: c.Clock,
		users: map[room.UserID]*Connection{}}
	h.shared.bans = bans{rows: map[string]banRow{}, changed: make(chan struct{})}
	h.shared.replays = replays{limit: c.MaxReplay, clock: c.Clock, holders: map[*byte]int{}}
	h.shared.snapshots = snapshots{limit: c.MaxSnapshots}
	h.shared.hooks = newHooks(c, &h.running)

	end, err := c.Bus.Subscribe(backplane.Nodes, backplane.Handler{Ask: h.handleCommand})
	if err != nil {
		return nil, fmt.Errorf("hub: subscribe to commands: %w", err)
	}
	h.cancel = append(h.cancel, end)
	if end, err = c.Bus.Watch(h.applyRow); err != nil {
		h.unsubscribe()
		return nil, fmt.Errorf("hub: watch bans: %w", err)
	}
	h.cancel = append(h.cancel, end)
	return h, nil
}

// unsubscribe ends the subscriptions to commands and bans.
func (h *Hub) unsubscribe() {
	for _, cancel := range h.cancel {
		cancel()
	}
}

// Close ends the hub. The hub accepts no message and no connection from now on. The messages that
// it has accepted reach the clients. Then each client gets goodbye with reason draining.
//
// Close returns when the last connection has ended and no hook runs. If ctx ends first, Close
// returns its error, and the shutdown goes on in the background. A second call waits for the first.
func (h *Hub) Close(ctx context.Context) error {
	if h.draining.CompareAndSwap(false, true) {
		go func() { // ends with the last connection: each has 2 s for its goodbye
			defer close(h.closed)
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

// drain does the work of Close, in this order:
//
//  1. No room is created, and no message is accepted. Wait up to 2 s for the messages on their way.
//  2. Close each room: its joiners are admitted, and nothing is published after that.
//  3. Wait until all events are on their way to the clients. End the connections.
//  4. Wait for the connections, the hooks and the repairs. End the subscriptions.
//  5. Close the streams, and the bus if the hub owns it.
func (h *Hub) drain() {
	h.rooms.close()
	all := h.rooms.all("")
	late, cancel := context.WithTimeout(context.Background(), sendTime)
	defer cancel()
	for _, l := range all {
		select {
		case <-l.settle(): // the log has delivered the messages on their way
		case <-late.Done():
		}
	}
	for _, l := range all {
		l.close() // nothing is published after this
	}
	h.config.Streams.Drain()
	h.conns.end(EndDraining)
	h.running.Wait()
	h.replays.close()
	h.unsubscribe()
	for _, l := range all {
		l.unsubscribe()
	}
	h.config.Streams.Close()
	if h.config.OwnBus {
		h.config.Bus.Close()
	}
}
