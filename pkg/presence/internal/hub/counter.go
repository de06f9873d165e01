package hub

import (
	"slices"
	"sync"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/room"
)

// counter is the state of one room behind a mutex: its members, its connections, and the last
// values that its shared stream has published. Its counts are the sizes of the room's sets.
//
// Its methods return the state of the room after the call. The caller passes that state to the
// registry of rooms, which a counter does not know.
type counter struct {
	name   room.Name
	shared *shared
	stream SharedStream
	wakeUp func() // called by the timer

	mu        sync.Mutex // guards the fields below
	room      room.Room
	position  room.Position       // of the last published message
	pending   map[uint64]struct{} // numbers of this node's messages that hold a slot of the stream
	waits     *waits              // nil while no client waits and no gap is read
	published int                 // last user count on the shared stream
	flushed   time.Time           // start of the current flush interval
	idle      time.Time           // last member or message of a room without members; zero: in use
	timer     Timer               // nil while nothing is due
	settled   chan struct{}       // closed when a closing room has no pending message; nil before
	changes   uint32              // number of changes of idle; wraps
	losses    uint32              // number of times that messages were lost to all clients
	streams   int32               // connections that have not ended, also those of a removed user
	ahead     bool                // a joiner received a count that differs from published
	opened    bool                // the position is known; losses before it do not matter
	closed    bool                // nothing is published, and no connection joins
}

// waits is the state of a room while joiners wait or the log is read. It keeps the messages that
// arrive meanwhile. They have consecutive numbers:
//
//	0 … dropped-1         no longer needed, not in memory
//	dropped … next()-1    recent
//	next()                the next message
type waits struct {
	joiners   []joiner          // wait for the end of the flush interval
	readers   []int             // read the log for a client; each is its resumption.recent; sorted
	recent    []backplane.Entry // messages since the first joiner or reader; each one parses
	dropped   int               // number of recent[0]
	repairing bool              // the log is being read after an interruption
	again     bool              // another interruption came meanwhile
	anew      bool              // the log was recreated: all clients got reset
	held      []backplane.Entry // messages since the last interruption
}

// next returns the number of the next recent message.
func (w *waits) next() int { return w.dropped + len(w.recent) }

// state is the use of a room after a change, for the registry.
type state struct {
	changed bool      // idle has changed
	number  uint32    // counter.changes
	idle    time.Time // counter.idle; zero: in use
	expired bool      // unused for Config.RoomAge
}

// maxSnapshot is the largest snapshot that a joiner gets before the flush interval ends, in bytes.
// Such a snapshot is encoded for its joiner alone. A larger one is encoded once per interval, for
// all joiners. A joiner that reads nothing holds its own snapshot for up to 15 s. Only the limit on
// connections bounds their total.
const maxSnapshot = 4 << 10

// start initializes c as the counter of an unused room. wake is called when flushLocked has work.
func (c *counter) start(name room.Name, s *shared, wake func()) {
	c.mu.Lock()
	defer c.mu.Unlock() // wake needs this lock, so it waits until c.timer is set
	c.name, c.shared, c.wakeUp = name, s, wake
	c.stream = s.config.Streams.Stream(string(name))
	c.room = room.New(room.Config{Linger: s.config.Linger, MemberLimit: s.config.MemberLimit})
	c.position = room.Position{Epoch: s.epoch()}
	c.idle = s.config.Clock.Now()
	c.setTimerLocked(s.config.RoomAge)
}

// setTimerLocked schedules wakeUp after d.
func (c *counter) setTimerLocked(d time.Duration) {
	if c.timer == nil {
		c.timer = c.shared.config.Clock.AfterFunc(d, c.wakeUp)
	} else {
		c.timer.Reset(d)
	}
}

// stopTimerLocked frees the timer. Most rooms have nothing due most of the time.
func (c *counter) stopTimerLocked() {
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
}

// countLocked returns the current user count.
func (c *counter) countLocked() int { return c.shared.config.Count(&c.room) }

// inIntervalLocked reports whether the flush interval has not ended yet.
func (c *counter) inIntervalLocked(now time.Time) bool { return now.Before(c.flushEndLocked()) }

// flushEndLocked returns the end of the flush interval.
func (c *counter) flushEndLocked() time.Time {
	return c.flushed.Add(flushInterval(c.shared.config.Coalesce, c.stream.FanOutTime(), c.room.Counting()))
}

// waitsLocked returns c.waits, and creates it if it is nil.
func (c *counter) waitsLocked() *waits {
	if c.waits == nil {
		c.waits = new(waits)
	}
	return c.waits
}

// endWaitsLocked drops the recent messages that no joiner and no reader needs any more. Clients may
// resume without a pause, so there may always be a reader. But each reads for a short time, so the
// oldest messages can be dropped.
func (c *counter) endWaitsLocked() {
	w := c.waits
	if w == nil {
		return
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

// hasJoinersLocked reports whether joiners wait for the end of the flush interval.
func (c *counter) hasJoinersLocked() bool { return c.waits != nil && len(c.waits.joiners) > 0 }

// hasNewsLocked reports whether a change, a count or a joiner waits for the end of the flush
// interval.
func (c *counter) hasNewsLocked(now time.Time) bool {
	return c.hasJoinersLocked() || c.ahead || c.countLocked() != c.published || c.room.HasNews(now)
}

// setIdleLocked sets c.idle. The zero time means that the room is in use.
func (c *counter) setIdleLocked(since time.Time) {
	c.idle = since
	c.changes++
}

// unusedLocked reports whether the room may be dropped. It needs to have
//
//   - no member,
//   - no connection that still has to leave,
//   - no message on its way, and
//   - no joiner, and no caller that reads its log.
func (c *counter) unusedLocked() bool {
	return !c.closed && !c.idle.IsZero() && c.streams == 0 && len(c.pending) == 0 && c.waits == nil
}

// expiredLocked reports whether the room has been unused for Config.RoomAge.
func (c *counter) expiredLocked(now time.Time) bool {
	return c.unusedLocked() && now.Sub(c.idle) >= c.shared.config.RoomAge
}

// stateSinceLocked returns the state after a change. before is the value of c.changes before it.
func (c *counter) stateSinceLocked(before uint32, now time.Time) state {
	return state{changed: c.changes != before, number: c.changes, idle: c.idle, expired: c.expiredLocked(now)}
}
