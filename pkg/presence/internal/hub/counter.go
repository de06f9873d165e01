package hub

import (
	"sync"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/room"
)

// counter is the mutex-guarded counter: the members and connections of one room, and what its
// shared stream has published of them. Its numbers are the sizes of the room's sets. Its methods
// return the state of the room after them; the caller passes it on to the registry of rooms, of
// which a counter knows nothing.
type counter struct {
	name   room.Name
	shared *shared
	stream SharedStream

	mu        sync.Mutex // guards what follows
	room      room.Room
	position  room.Position       // of the last message that was published
	pending   map[uint64]struct{} // messages of this node that hold a slot of the stream, by number
	joiners   []joiner
	readers   int               // callers that read the log for a joiner
	recent    []backplane.Entry // messages since the first of the joiners and readers; each parses
	losses    uint              // how often messages were lost to all clients
	repairing bool              // the log is being read after an interruption
	held      []backplane.Entry // messages that came meanwhile
	published int               // the last user count of the shared stream
	ahead     bool              // a joiner has got another count since
	flushed   time.Time         // when the last count was published
	idle      time.Time         // since when nobody is here and no message comes; zero while in use
	changes   uint64            // of idle
	timer     Timer
	settled   chan struct{} // closed when a closing room has no message pending; nil before
	closed    bool          // nothing is published any more, nobody joins
}

// state is the use of a room after a change.
type state struct {
	changed bool      // idle is another one since the last state
	number  uint64    // of the change
	idle    time.Time // zero: in use
	expired bool      // unused for Config.RoomAge
}

// maxSnapshot is the largest snapshot that a joiner gets before the flush interval ends, in bytes.
// Each such snapshot is encoded for its joiner alone; a larger one is encoded once per interval. A
// joiner that reads nothing holds it for up to 15 s: the limit on all is that on connections.
const maxSnapshot = 4 << 10

// newCounter returns the counter of an unused room. Start must follow.
func newCounter(name room.Name, s *shared) *counter {
	return &counter{
		name:     name,
		shared:   s,
		stream:   s.config.Streams.Stream(string(name)),
		room:     room.New(room.Config{Linger: s.config.Linger, MemberLimit: s.config.MemberLimit}),
		position: room.Position{Epoch: s.epoch()},
		idle:     s.config.Clock.Now(),
	}
}

// start sets the timer, which calls wake.
func (c *counter) start(wake func()) {
	c.mu.Lock()
	defer c.mu.Unlock() // wake waits until there is a timer
	c.timer = c.shared.config.Clock.AfterFunc(c.shared.config.RoomAge, wake)
}

// countLocked is the user count.
func (c *counter) countLocked() int { return c.shared.config.Count(&c.room) }

// inIntervalLocked reports whether the flush interval since the last count is running.
func (c *counter) inIntervalLocked(now time.Time) bool { return now.Before(c.flushEndLocked()) }

// flushEndLocked returns the end of the flush interval.
func (c *counter) flushEndLocked() time.Time {
	return c.flushed.Add(flushInterval(c.shared.config.Coalesce, c.stream.FanOutTime(), c.room.Counting()))
}

// hasNewsLocked reports whether something waits for the end of the flush interval.
func (c *counter) hasNewsLocked(now time.Time) bool {
	return len(c.joiners) > 0 || c.ahead || c.countLocked() != c.published || c.room.HasNews(now)
}

// setIdleLocked notes that the room is unused from now on, or, with the zero time, in use.
func (c *counter) setIdleLocked(since time.Time) {
	c.idle = since
	c.changes++
}

// unusedLocked reports whether the room may be dropped: nobody is in it, and no message is on its
// way.
func (c *counter) unusedLocked() bool {
	return !c.closed && !c.idle.IsZero() && len(c.pending) == 0 && c.readers == 0
}

// expiredLocked reports whether the room is to be dropped.
func (c *counter) expiredLocked(now time.Time) bool {
	return c.unusedLocked() && now.Sub(c.idle) >= c.shared.config.RoomAge
}

// stateSinceLocked returns the state after a change that began when there were that many changes.
func (c *counter) stateSinceLocked(before uint64, now time.Time) state {
	return state{changed: c.changes != before, number: c.changes, idle: c.idle, expired: c.expiredLocked(now)}
}
