package hub

import (
	"cmp"
	"context"
	"log/slog"
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
		h.logPeer(slog.LevelInfo, "peer node found", node, cmp.Or(label, h.peers.labelOf(node)), now)
		h.greet(node, now)
	}
	return ok
}

// logPeer logs that a peer was found or has ended, at most 256 times per hour: a forged frame costs
// a line otherwise.
func (h *Hub) logPeer(level slog.Level, message string, node room.NodeID, label string, now time.Time) {
	if !h.peers.mayLog(now) {
		h.config.Warn.Warn(context.Background(), "peer nodes come and go too often: no longer logged one by one", "max", maxReports, "per", reportTime)
		return
	}
	h.config.Log.Log(context.Background(), level, message, "node", string(node), "label", label)
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
