package hub

import (
	"slices"
	"sync"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/room"
)

// counter is the state of one room, guarded by a mutex: its members, its connections, and the
// values that its shared stream has published last. Its counts are the sizes of the room's sets.
//
// A counter does not know the registry. Therefore its methods return the resulting state of the
// room, and the caller passes that state to the registry.
type counter struct {
	name   room.Name
	shared *shared
	stream SharedStream
	wakeUp func() // called by the timer

	mu        sync.Mutex // guards the fields below
	room      room.Room
	position  room.Position       // of the last published message
	pending   map[uint64]struct{} // numbers of this node's messages that hold a stream slot
	waits     *waits              // nil unless a joiner waits or the log is being read
	log       *logCopy            // nil unless other nodes use the log too
	published int                 // last user count published on the shared stream
	seen      int                 // user count after the last change
	joined    time.Duration       // oldest join since the last flush, as the time since shared.opened; 0: none
	flushed   time.Time           // start of the current flush interval
	idle      time.Time           // last leave or message of a room without members on this node; zero: has members
	timer     Timer               // nil if nothing is due
	exchange  *exchange           // nil if no other node uses the backplane
	settled   chan struct{}       // set by settle; closed when no message is in flight
	changes   uint32              // number of changes of idle; wraps around
	losses    uint32              // number of times that all clients have lost messages
	encoded   uint32              // size of the last large snapshot in bytes
	unsent    int32               // changes of the user count since the last flush
	streams   int32               // connections that have not left, including those of removed users
	ahead     bool                // a joiner was sent a count that differs from published
	opened    bool                // the position is known; before that, the room has no client
	closed    bool                // nothing more is published, and no connection joins
}

// waits is the state of a room in which joiners wait or the log is being read. It keeps the
// messages that arrive during that time, numbered consecutively:
//
//	0 … dropped-1         no longer needed, not in memory
//	dropped … next()-1    recent
//	next()                the next message to arrive
type waits struct {
	joiners   []joiner          // connections that wait for the end of the flush interval
	snapshot  *snapshot         // reserved for the joiners; nil if it was small when they joined
	readers   []int             // resumption.recent of each client that resumes; sorted
	recent    []backplane.Entry // messages since the first joiner or reader; all are well-formed
	dropped   int               // number of recent[0]
	repairing bool              // a gap is being read
	again     bool              // the subscription was interrupted again during the repair
	recreated bool              // the log was recreated, and all clients were sent reset
	held      []backplane.Entry // messages that arrived since the last interruption
}

// next returns the number that the next recent message will have.
func (w *waits) next() int { return w.dropped + len(w.recent) }

// state describes whether a room is in use after a change. The counter returns it for the registry.
type state struct {
	changed bool      // counter.idle has changed
	number  uint32    // counter.changes
	idle    time.Time // counter.idle; zero: in use
	expired bool      // unused for Config.RoomAge
	settled bool      // the peers need no frame soon
}

// maxSnapshot is the maximum size, in bytes, of a snapshot that a joiner receives before the flush
// interval ends. Such a snapshot is encoded for one joiner. A larger snapshot is encoded once per
// interval, for all joiners. If a joiner reads nothing, its own snapshot stays in memory for up to
// 15 s. Only the connection limit bounds the total size of these snapshots. They are free: a joiner
// is charged for larger ones only.
const maxSnapshot = 4 << 10

// start initializes c as the counter of an unused room. The timer calls wake when flushLocked has
// work to do.
func (c *counter) start(name room.Name, s *shared, wake func()) {
	c.mu.Lock()
	defer c.mu.Unlock() // wake acquires c.mu, so it waits until c.timer is set
	c.name, c.shared, c.wakeUp = name, s, wake
	c.stream = s.config.Streams.Stream(string(name))
	config := room.Config{Linger: s.config.Linger, MemberLimit: s.config.MemberLimit}
	c.room = room.New(config)
	if s.peers != nil {
		c.room = room.NewShared(config, s.node, graceMargin)
		c.exchange = newExchange(s.floor.get())
		c.inheritLocked(s.evicted.take(name))
	}
	c.position = room.Position{Epoch: s.epoch()}
	if s.rings != nil {
		c.log = new(logCopy)
	}
	c.idle = s.config.Clock.Now()
	c.setTimerLocked(c.roomAge())
}

// inheritLocked continues the repeats of a room that was evicted before it was settled. The number
// is not lower than that of the part.
func (c *counter) inheritLocked(o ownPart) {
	if o.isSettled() {
		return
	}
	o.number = max(o.number, c.exchange.number)
	c.exchange.ownPart = o
	c.shared.outbox.add(c.name, later(c.shared.config.Clock.Now(), o.sentAt.Add(batchTime)))
}

// roomAge is how long the room is kept while it is unused.
func (c *counter) roomAge() time.Duration {
	if c.exchange != nil {
		return min(c.shared.config.RoomAge, sharedRoomAge)
	}
	return c.shared.config.RoomAge
}

func (c *counter) setTimerLocked(d time.Duration) {
	if c.timer == nil {
		c.timer = c.shared.config.Clock.AfterFunc(d, c.wakeUp)
	} else {
		c.timer.Reset(d)
	}
}

// stopTimerLocked stops and frees the timer. Most rooms need no timer most of the time.
func (c *counter) stopTimerLocked() {
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
}

func (c *counter) countLocked() int { return c.shared.config.Count(&c.room) }

func (c *counter) inIntervalLocked(now time.Time) bool { return now.Before(c.flushEndLocked()) }

func (c *counter) flushEndLocked() time.Time {
	return c.flushed.Add(flushInterval(c.shared.config.Coalesce, c.stream.FanOutTime(), c.room.Counting()))
}

func (c *counter) waitsLocked() *waits {
	if c.waits == nil {
		c.waits = new(waits)
	}
	return c.waits
}

// endWaitsLocked drops the recent messages that no joiner and no reader needs any more. Clients may
// resume continuously, so there may always be a reader. But each read is short, so the oldest
// messages can be dropped.
func (c *counter) endWaitsLocked() {
	w := c.waits
	if w == nil {
		return
	}
	if len(w.joiners) == 0 {
		c.shared.snapshots.release(w.snapshot)
		w.snapshot = nil
	}
	if len(w.joiners) == 0 && len(w.readers) == 0 && !w.repairing {
		c.waits = nil
		return
	}
	first := w.next()
	if len(w.joiners) > 0 {
		first = w.joiners[0].missed
	}
	if len(w.readers) > 0 {
		first = min(first, w.readers[0])
	}
	if n := first - w.dropped; n > len(w.recent)/2 {
		w.recent, w.dropped = slices.Clone(w.recent[n:]), first
	}
}

func (c *counter) hasJoinersLocked() bool { return c.waits != nil && len(c.waits.joiners) > 0 }

func (c *counter) hasNewsLocked(now time.Time) bool {
	return c.hasJoinersLocked() || c.ahead || c.countLocked() != c.published || c.room.HasNews(now)
}

// setIdleLocked sets c.idle. A room is idle while it has no member. An idle room is also unused
// once nothing else needs it: see unusedLocked. The zero time means that the room has a member.
func (c *counter) setIdleLocked(since time.Time) {
	c.idle = since
	c.changes++
}

// unusedLocked reports whether the room may be dropped. It must have
//
//   - no member,
//   - no connection, not even of a removed user,
//   - no message in flight,
//   - no joiner, and no caller that reads its log, and
//   - no change that was not published to the other nodes.
func (c *counter) unusedLocked() bool {
	x := c.exchange
	return !c.closed && !c.idle.IsZero() && c.streams == 0 && !c.sendsLocked() && c.waits == nil &&
		(x == nil || !x.opening && !c.room.HasDelta())
}

// sendsLocked reports whether a message is in flight: it is pending, or Send waits for the log.
func (c *counter) sendsLocked() bool {
	return len(c.pending) > 0 || c.exchange != nil && c.exchange.appending > 0
}

func (c *counter) expiredLocked(now time.Time) bool {
	return c.unusedLocked() && now.Sub(c.idle) >= c.roomAge() && (c.exchange == nil || c.exchange.isQuiet())
}

// stateSinceLocked returns the state of the room after a change. before is the value of c.changes
// before the change.
func (c *counter) stateSinceLocked(before uint32, now time.Time) state {
	return state{changed: c.changes != before, number: c.changes, idle: c.idle, expired: c.expiredLocked(now),
		settled: c.exchange == nil || c.exchange.isSettled()}
}
