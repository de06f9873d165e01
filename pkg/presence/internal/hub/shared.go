package hub

import (
	"sync"
	"sync/atomic"
)

// shared is the state that all rooms use. It does not know the rooms.
type shared struct {
	config    Config
	node      string // id of this process: 128 random bits in hex
	conns     connections
	bans      bans
	replays   replays
	snapshots snapshots
	hooks     *hooks
	totals    totals
	running   sync.WaitGroup // counts connections in rooms, the goroutine of hooks, and repairs
}

func (s *shared) epoch() string { return s.config.Bus.Status().Epoch }

// totals holds the counters behind the totals of [Stats].
type totals struct {
	joins, leaves, messages, counts, snapshots, resets atomic.Uint64
}
