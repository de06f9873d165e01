package hub

import (
	"sync"
	"sync/atomic"
)

// shared is the state that all rooms use. It knows no room.
type shared struct {
	config    Config
	node      string // this process: 128 random bits in hex
	conns     connections
	bans      bans
	replays   replays
	snapshots snapshots
	hooks     *hooks
	totals    totals
	running   sync.WaitGroup // counted connections, the goroutine of hooks, repairs
}

// epoch returns the current epoch of the message log.
func (s *shared) epoch() string { return s.config.Bus.Status().Epoch }

// totals are the totals of [Stats].
type totals struct {
	joins, leaves, messages, counts, snapshots, resets atomic.Uint64
}
