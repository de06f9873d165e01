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

// Open returns a hub that is connected to its backplane. [Hub.Close] ends it.
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

func (h *Hub) unsubscribe() {
	for _, cancel := range h.cancel {
		cancel()
	}
}

// Close ends the hub: from now on it takes no message and no connection. All messages that it took
// reach the clients, then each client gets goodbye draining. Close returns when the last connection
// has ended and no hook runs, or with ctx's error when ctx ends first; the rest then happens behind
// it. A second call waits for the first.
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

// drain does the work of Close.
func (h *Hub) drain() {
	h.rooms.close()
	all := h.rooms.all("")
	late, cancel := context.WithTimeout(context.Background(), sendTime)
	defer cancel()
	for _, l := range all {
		select {
		case <-l.settle(): // the messages on their way to the log have come
		case <-late.Done():
		}
	}
	for _, l := range all {
		l.close() // from here on nothing is published
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
