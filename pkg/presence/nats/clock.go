package nats

import (
	"context"
	"time"
)

// maxSkew is the difference between the clocks of this node and of the NATS server from which on
// the log has a warning.
const maxSkew = 5 * time.Second

// moment is one moment by two clocks.
type moment struct {
	server time.Time // by the clock of the NATS server
	node   time.Time // by the clock of this node
}

// toNode converts a time of the server to the clock of this node. The result has a monotonic
// reading, so that a later step of either clock does not change it.
func (m moment) toNode(server time.Time) time.Time { return m.node.Add(server.Sub(m.server)) }

// skew returns how far the clock of this node is ahead of that of the server. The server read its
// clock at some time between sent and received, so a slow answer does not count as a difference:
// the result is the smallest difference that explains the three times.
func skew(sent, server, received time.Time) time.Duration {
	switch {
	case server.Before(sent):
		return sent.Sub(server)
	case server.After(received):
		return received.Sub(server)
	}
	return 0
}

// compareClocks warns if the clocks of this node and of the server differ by more than maxSkew.
func (c *core) compareClocks(ctx context.Context, sent, server, received time.Time) {
	if d := skew(sent, server, received); d.Abs() > maxSkew {
		c.warn.Warn(ctx, "clock differs from the clock of the NATS server", "ahead", d.Round(time.Millisecond), "limit", maxSkew)
	}
}
