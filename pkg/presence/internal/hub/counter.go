package hub

import (
	"slices"
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
	wakeUp func() // called by the timer

	mu        sync.Mutex // guards what follows
	room      room.Room
	position  room.Position       // of the last message that was published
	pending   map[uint64]struct{} // messages of this node that hold a slot of the stream, by number
	waits     *waits              // nil while nobody waits
	published int                 // the last user count of the shared stream
	flushed   time.Time           // when the last count was published
	idle      time.Time           // since when nobody is here and no message comes; zero while in use
	timer     Timer               // nil while nothing is due
	settled   chan struct{}       // closed when a closing room has no message pending; nil before
	changes   uint32              // of idle
	losses    uint32              // how often messages were lost to all clients
	streams   int32               // connections that have not ended; those of a removed user count
	ahead     bool                // a joiner has got another count than published
	opened    bool                // the position is known; messages that were lost before do not matter
	closed    bool                // nothing is published any more, nobody joins
}

// waits is what a room has while somebody waits: joiners, or callers that read the log. The
// messages that come meanwhile are kept for them.
type waits struct {
	joiners   []joiner
	readers   []int             // callers that read the log for a joiner, each by its resumption.recent
	recent    []backplane.Entry // since the first of the joiners and readers; each parses
	dropped   int               // number of recent[0]: as many came before, and nobody needs them
	repairing bool              // the log is being read after an interruption
	again     bool              // there was another interruption meanwhile
	anew      bool              // the log was made anew: all clients have got reset
	held      []backplane.Entry // that came since the last interruption
}

// next is the number of the next recent message.
func (w *waits) next() int { return w.dropped + len(w.recent) }

// state is the use of a room after a change.
type state struct {
	changed bool      // idle is another one since the last state
	number  uint32    // of the change
	idle    time.Time // zero: in use
	expired bool      // unused for Config.RoomAge
}

// maxSnapshot is the largest snapshot that a joiner gets before the flush interval ends, in bytes.
// Each such snapshot is encoded for its joiner alone; a larger one is encoded once per interval. A
// joiner that reads nothing holds it for up to 15 s: the limit on all is that on connections.
const maxSnapshot = 4 << 10

// start makes c the counter of an unused room. Wake is called when flushLocked has work.
func (c *counter) start(name room.Name, s *shared, wake func()) {
	c.mu.Lock()
	defer c.mu.Unlock() // wake waits until there is a timer
	c.name, c.shared, c.wakeUp = name, s, wake
	c.stream = s.config.Streams.Stream(string(name))
	c.room = room.New(room.Config{Linger: s.config.Linger, MemberLimit: s.config.MemberLimit})
	c.position = room.Position{Epoch: s.epoch()}
	c.idle = s.config.Clock.Now()
	c.setTimerLocked(s.config.RoomAge)
}

// setTimerLocked has wakeUp called after d.
func (c *counter) setTimerLocked(d time.Duration) {
	if c.timer == nil {
		c.timer = c.shared.config.Clock.AfterFunc(d, c.wakeUp)
	} else {
		c.timer.Reset(d)
	}
}

// stopTimerLocked frees the timer: most rooms have nothing due most of the time.
func (c *counter) stopTimerLocked() {
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
}

// countLocked is the user count.
func (c *counter) countLocked() int { return c.shared.config.Count(&c.room) }

// inIntervalLocked reports whether the flush interval since the last count is running.
func (c *counter) inIntervalLocked(now time.Time) bool { return now.Before(c.flushEndLocked()) }

// flushEndLocked returns the end of the flush interval.
func (c *counter) flushEndLocked() time.Time {
	return c.flushed.Add(flushInterval(c.shared.config.Coalesce, c.stream.FanOutTime(), c.room.Counting()))
}

// waitsLocked returns c.waits, which is made if nobody has waited.
func (c *counter) waitsLocked() *waits {
	if c.waits == nil {
		c.waits = new(waits)
	}
	return c.waits
}

// endWaitsLocked drops the messages that nobody needs any more. While clients resume one after the
// other there may always be a reader, but none reads for long.
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

// hasNewsLocked reports whether something waits for the end of the flush interval.
func (c *counter) hasNewsLocked(now time.Time) bool {
	return c.hasJoinersLocked() || c.ahead || c.countLocked() != c.published || c.room.HasNews(now)
}

// setIdleLocked notes that the room is unused from now on, or, with the zero time, in use.
func (c *counter) setIdleLocked(since time.Time) {
	c.idle = since
	c.changes++
}

// unusedLocked reports whether the room may be dropped: it has no member, no connection that still
// has to leave, no message on its way, and no caller that reads its log.
func (c *counter) unusedLocked() bool {
	return !c.closed && !c.idle.IsZero() && c.streams == 0 && len(c.pending) == 0 && c.waits == nil
}

// expiredLocked reports whether the room is to be dropped.
func (c *counter) expiredLocked(now time.Time) bool {
	return c.unusedLocked() && now.Sub(c.idle) >= c.shared.config.RoomAge
}

// stateSinceLocked returns the state after a change that began when there were that many changes.
func (c *counter) stateSinceLocked(before uint32, now time.Time) state {
	return state{changed: c.changes != before, number: c.changes, idle: c.idle, expired: c.expiredLocked(now)}
}
