package hub

import (
	"cmp"
	"context"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/room"
)

// publishTime is the timeout of a publication. A frame that is not published is lost, and is
// repaired like any other loss.
const publishTime = 2 * time.Second

// publish reports whether the engine has accepted the frame.
func (h *Hub) publish(ctx context.Context, topic room.Name, frame []byte) bool {
	ctx, cancel := context.WithTimeout(ctx, publishTime)
	defer cancel()
	err := h.config.Bus.Publish(ctx, topic, frame)
	if err != nil {
		h.config.Log.Debug("backplane publication failed", "topic", string(topic), "err", err)
	}
	return err == nil
}

// renew renews the lease of a peer. A peer that was not live before is asked to repeat its parts.
// It returns false if the frame of the peer must be ignored. label is the label in the frame, or
// empty.
func (h *Hub) renew(node room.NodeID, label string, now time.Time) bool {
	found, ok := h.peers.renew(node, now)
	switch {
	case !ok && h.peers.rejects(node):
		h.config.Warn.Warn(context.Background(), "peer node ignored: too many peer nodes", "max", maxPeers)
	case found:
		h.config.Log.Info("peer node found", "node", string(node), "label", cmp.Or(label, h.peers.labelOf(node)))
		h.greet(node, now)
	}
	return ok
}

// witness raises the Lamport counter to a counter of another node. It reports whether the next
// stamp is higher.
func (h *Hub) witness(counter uint64) bool {
	reached := h.peers.witness(counter)
	if !reached {
		h.config.Warn.Warn(context.Background(), "version counter of peer node too high", "counter", counter, "max_raise", uint64(maxRaise))
	}
	return reached
}

// greet asks a node to repeat its parts.
func (h *Hub) greet(node room.NodeID, now time.Time) {
	h.peers.greet(node)
	h.beats.add(backplane.Nodes, now)
}

func (h *Hub) warnFrame(err error) {
	h.config.Warn.Warn(context.Background(), "backplane frame ignored", "err", err)
}
