package hub

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"example.com/presence/pkg/presence/internal/stream"
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
	relief    relief
	rings     *rings // nil unless the bus is shared
	reads     slots  // of the reads of gaps
	pulls     slots  // of the pulls
	histories historyReads
	hooks     *hooks
	totals    totals
	opened    time.Time      // when the hub was opened
	running   sync.WaitGroup // counts connections in rooms, the goroutine of hooks, and repairs
}

// noEpoch is the epoch of the ids before the first contact with the backplane. A log has another
// one (ten random digits), so a client that resumes with such an id gets reset.
const noEpoch = "0000000000"

func (s *shared) epoch() string { return cmp.Or(s.config.Bus.Status().Epoch, noEpoch) }

// slots limits how many rooms do the same work at the same time. After an interruption, each room
// reads its log and may pull parts. All at once, they would delay each other until they fail.
type slots chan struct{}

const (
	maxGapReads = 48
	maxPulls    = 256
)

// take waits for a slot. Each holder returns its slot within a minute.
func (s slots) take() (release func()) {
	s <- struct{}{}
	return func() { <-s }
}

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
	joins, leaves, absorbed, messages, counts, coalesced, snapshots, resets atomic.Uint64
	opened, replays, replayed, evicted, accepted                            atomic.Uint64

	reasons [len(leaveReasons)]atomic.Uint64 // leaves by reason
	ends    [len(streamEnds)]atomic.Uint64   // ended streams by reason
}

// leaveReasons lists the reasons of a leave.
var leaveReasons = [...]room.Reason{room.Closed, room.Timeout, room.Removed, room.Expired, room.Slow, room.Node}

// streamEnds lists the reasons for which a stream that was counted ends. EndFull is not one of
// them: a stream that is refused at a limit is not counted.
var streamEnds = [...]stream.End{stream.Closed, stream.Timeout, stream.Slow, EndExpired, EndRemoved, EndDraining, EndSignedOut}

// left counts a leave.
func (t *totals) left(why room.Reason) {
	t.leaves.Add(1)
	if i := slices.Index(leaveReasons[:], why); i >= 0 {
		t.reasons[i].Add(1)
	}
}

// ended counts the end of a stream.
func (t *totals) ended(why stream.End) {
	if i := slices.Index(streamEnds[:], why); i >= 0 {
		t.ends[i].Add(1)
	}
}
