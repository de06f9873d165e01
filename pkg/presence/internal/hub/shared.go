package hub

import (
	"sync"
	"sync/atomic"

	"example.com/presence/pkg/presence/room"
)

// shared is the state that all rooms use. It does not know the rooms.
type shared struct {
	config    Config
	node      room.NodeID // id of this process
	peers     *peers      // nil if no other node uses the backplane
	outbox    *outbox     // publishes the frames of rooms; nil without peers
	beats     *outbox     // publishes heartbeats; nil without peers
	checks    *outbox     // runs checkPeers; nil without peers
	floor     floor
	evicted   evicted
	conns     connections
	bans      bans
	replays   replays
	snapshots snapshots
	rings     *rings // nil unless the bus is shared
	hooks     *hooks
	totals    totals
	running   sync.WaitGroup // counts connections in rooms, the goroutine of hooks, and repairs
}

func (s *shared) epoch() string { return s.config.Bus.Status().Epoch }

// floor is the highest number of a frame in any room that was dropped. A room that is opened counts
// from there, so that no peer takes its frames for earlier ones.
type floor struct {
	mu     sync.Mutex // no other mutex is acquired while it is held
	number uint64
}

func (f *floor) get() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.number
}

func (f *floor) raise(number uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.number = max(f.number, number)
}

// totals holds the counters behind the totals of [Stats].
type totals struct {
	joins, leaves, messages, counts, snapshots, resets atomic.Uint64
}
