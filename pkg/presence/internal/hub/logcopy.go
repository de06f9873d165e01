package hub

import (
	"slices"
	"time"

	"example.com/presence/pkg/presence/backplane"
)

const (
	// announceDelay is the time for which a room may lack an announced position, because its
	// delivery is on the way. After that, the room reads the log.
	announceDelay = 250 * time.Millisecond
	// maxPause is the longest pause between two attempts to read the log.
	maxPause = 2 * time.Second
	// maxAwaited is the maximum number of announced positions that a room remembers until they
	// arrive. The loss of another one is found by its second announcement.
	maxAwaited = 64
)

// logCopy is the state that a room keeps about its log if other nodes append to it too. A room has
// none if the bus is not shared. The mutex of the counter guards the fields, but the ring is
// guarded by rings.mu.
type logCopy struct {
	ring      ring
	catchUp   func()   // starts a repair if the room is behind; called without a lock
	announced uint64   // highest position that the log is known to have, in the room's epoch
	awaited   []uint64 // announced positions above the room's, sorted; at most maxAwaited, the lowest
	suspect   uint64   // announced position that the ring lacks; 0: none
	doubtful  bool     // the next repair compares the ring with the log above the position doubt
	doubt     uint64
	ranged    bool                      // the next comparison is also for an announced range
	absent    vain                      // for announced positions above the room's position
	unread    vain                      // for suspects
	ranges    vain                      // for announced ranges; their positions do not count
	compared  struct{ from, to uint64 } // the ring has all entries of the log above from, up to to
	reads     int                       // reads in a row that did not reach the announced position
	timer     Timer                     // calls check; nil unless the room is behind
	opening   Timer                     // calls checkOpening; nil before the room is open
	moved     chan struct{}             // closed when the position changes; nil unless a client waits for that
	wake      func()                    // ends the pause between two attempts of a repair; nil before the first
	blind     bool                      // the room was opened without its position, and no repair has set it
	overflow  bool                      // the current repair holds back too many messages
	must      uint64                    // position that the read of a repair must reach

	last      uint64      // highest result of Bus.Last for clients, in the room's epoch
	questions int         // number of calls of Bus.Last for clients that have begun
	asked     time.Time   // when the latest of them began
	asking    *sharedLast // nil unless clients wait for one

	reading *sharedRead // nil unless clients wait for the log
	next    *sharedRead // starts when reading has ended; nil if not needed
}

// awaitLocked records an announced position that is above the room's position.
func (l *logCopy) awaitLocked(announced, position uint64) {
	l.announced = max(l.announced, announced)
	l.forgetLocked(position)
	if i, there := slices.BinarySearch(l.awaited, announced); !there && i < maxAwaited {
		l.awaited = slices.Insert(l.awaited, i, announced)
		l.awaited = l.awaited[:min(len(l.awaited), maxAwaited)]
	}
}

// forgetLocked drops the awaited positions that the room has reached.
func (l *logCopy) forgetLocked(position uint64) {
	i, there := slices.BinarySearch(l.awaited, position)
	if there {
		i++
	}
	if l.awaited = l.awaited[i:]; len(l.awaited) == 0 {
		l.awaited = nil
	}
}

// movedLocked returns a channel that is closed at the next call of moveLocked.
func (l *logCopy) movedLocked() <-chan struct{} {
	if l.moved == nil {
		l.moved = make(chan struct{})
	}
	return l.moved
}

// moveLocked wakes the clients that wait for a position.
func (l *logCopy) moveLocked() {
	if l.moved != nil {
		close(l.moved)
		l.moved = nil
	}
}

// wakeLocked ends the pause of the repair, if there is one.
func (l *logCopy) wakeLocked() {
	if l.wake != nil {
		l.wake()
	}
}

// restartLocked forgets all positions, because the room has a new epoch.
func (l *logCopy) restartLocked() {
	l.announced, l.suspect, l.must, l.reads, l.doubtful, l.ranged = 0, 0, 0, 0, false, false
	l.absent, l.unread, l.ranges = vain{}, vain{}, vain{}
	l.compared.from, l.compared.to = 0, 0
	l.awaited, l.last = nil, 0
}

// vain counts the reads that have not reached an announced position since the room has its own
// position. It bounds the reads for a position that is announced again and again.
type vain struct {
	at      uint64 // position of the room
	highest uint64 // of the announced positions
	reads   int
}

// add counts a read. position is the room's position.
func (v *vain) add(announced, position uint64) {
	if v.at != position {
		*v = vain{at: position}
	}
	v.highest = max(v.highest, announced)
	v.reads++
}

// excludes reports whether an announced position must be ignored after this number of reads.
func (v *vain) excludes(announced, position uint64, limit int) bool {
	return v.at == position && announced <= v.highest && v.reads >= limit
}

// comparedLocked records that the ring has all entries of the log above a position, up to end.
func (l *logCopy) comparedLocked(after, end uint64) {
	switch r := &l.compared; {
	case end <= after:
	case after > r.to || end < r.from:
		r.from, r.to = after, end
	default:
		r.from, r.to = min(r.from, after), max(r.to, end)
	}
}

// isCompared reports whether the ring was compared with the log at this position.
func (l *logCopy) isCompared(position uint64) bool {
	return position > l.compared.from && position <= l.compared.to
}

// uncompared returns the position above which the ring must be compared with the log, so that it is
// compared above the given position.
func (l *logCopy) uncompared(position uint64) uint64 {
	if r := l.compared; position >= r.from && position < r.to {
		return r.to
	}
	return position
}

// doubtLocked makes the next repair compare the ring with the log above this position.
func (l *logCopy) doubtLocked(position uint64) {
	if l.doubtful {
		position = min(position, l.doubt)
	}
	l.doubtful, l.doubt = true, position
}

// sharedLast is a call of Bus.Last for all clients of a room that wait for its result. A room makes
// one call at a time, and at most one per announceDelay.
type sharedLast struct {
	done   chan struct{} // closed when the call has returned; the result is in logCopy.last
	number int           // logCopy.questions at the call
	failed bool          // the log did not answer
	off    bool          // the node has no contact, or the log has another epoch
}

// sharedRead is a read of the log for all clients of a room that wait for it. A room reads its log
// once at a time. The clients that need an older position meanwhile share the next read, which
// starts at the oldest of their positions.
type sharedRead struct {
	from    uint64
	done    chan struct{}     // closed when the fields below are set
	entries []backplane.Entry // all entries of the room above from
	ok      bool              // false: the log could not be read
	stored  bool              // the result is fixed: a client that comes now may need a later one; guarded by the counter
}
