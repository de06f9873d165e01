package hub

import (
	"sync"
	"sync/atomic"
)

// shared is what all rooms have in common. It knows none of them.
type shared struct {
	config    Config
	node      string // this process: 128 random bits in hex
	conns     connections
	bans      bans
	replays   replays
	snapshots snapshots
	hooks     *hooks
	totals    totals
	running   sync.WaitGroup // counted connections, goroutines of hooks, repairs
}

// epoch returns the epoch of the message log now.
func (s *shared) epoch() string { return s.config.Bus.Status().Epoch }

// totals are the figures of [Stats] that grow.
type totals struct {
	joins, leaves, messages, counts, snapshots, resets atomic.Uint64
}
