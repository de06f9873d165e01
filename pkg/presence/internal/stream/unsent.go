package stream

import (
	"sync/atomic"
	"time"
)

// unsent limits the total size of the shared events that are on their way to the sockets, or in the
// backlogs of all streams. An event counts once for its Stream, however many backlogs hold it.
//
// Backlogs cost nothing when an event is delivered. All backlogs of a Stream hold the events from
// some event on to the last one, so the oldest of these events determines the size:
//
//	published   1 2 3 4 5 6 7 8
//	backlogs        3 4 5 6 7 8
//	                      6 7 8
//	size            └─────────┘
//
// A loop or waker looks for the oldest event of each share every measureTime. Events that are
// published meanwhile are added immediately.
//
// The sizes are charged to accounts: one for each user that owns streams.
type unsent struct {
	limit, least int          // Config.MaxUnsentTotal and Config.MinShare
	total        atomic.Int64 // size of all streams in bytes
	accounts     atomic.Int64 // number of accounts with a size
	server       Account      // of the streams without another one
}

// Account is the sum of the unsent events of the streams of one user. The zero value is ready for
// use.
type Account struct {
	held    atomic.Int64 // size in bytes
	streams atomic.Int64 // number of streams with a size
}

// unsentReserve is the space for streams that hold no more than the smallest share, although all
// streams together exceed the limit, in bytes. Above it, there is no smallest share.
const unsentReserve = 512 << 20

// measureTime is the interval at which the backlogs are measured.
const measureTime = 100 * time.Millisecond

// exceeds reports whether a stream that holds this size must shrink, because the limit is reached
// and it holds more than its share. The accounts share the limit equally, and the streams of an
// account share its part equally. A stream of an account that holds less than its part need not
// shrink.
func (u *unsent) exceeds(a *Account, held uint64) bool {
	limit, least, excess := u.limit, u.least, u.excess()
	switch {
	case excess <= 0:
		return false
	case excess > unsentReserve:
		limit, least = u.limit+unsentReserve, 0
	}
	part := limit / int(max(1, u.accounts.Load()))
	if a.held.Load() <= int64(part) {
		return false
	}
	return held > uint64(max(part/int(max(1, a.streams.Load())), least))
}

func (u *unsent) excess() int { return int(u.total.Load()) - u.limit }

// add changes the sizes when that of a stream of the account changes.
func (u *unsent) add(a *Account, before, now uint64) {
	if before == now {
		return
	}
	change := int64(now) - int64(before)
	u.total.Add(change)
	switch {
	case before == 0:
		a.streams.Add(1)
	case now == 0:
		a.streams.Add(-1)
	}
	switch held := a.held.Add(change); {
	case held == change: // it was 0
		u.accounts.Add(1)
	case held == 0:
		u.accounts.Add(-1)
	}
}

// lag collects the oldest frames of the shares of one loop or waker.
type lag struct{ shares []*share }

// begin forgets the frames of the last measurement.
func (l *lag) begin() {
	for _, sh := range l.shares {
		sh.oldest = 0
	}
}

// add records the oldest frame of a connection.
func (l *lag) add(sh *share, oldest uint64) {
	if sh == nil || oldest == 0 {
		return
	}
	if sh.oldest == 0 {
		sh.oldest = oldest
		if !sh.lags {
			sh.lags = true
			l.shares = append(l.shares, sh)
		}
	}
	sh.oldest = min(sh.oldest, oldest)
}

// end updates the streams of the shares, and forgets the shares without a backlog.
func (l *lag) end() {
	kept := l.shares[:0]
	for _, sh := range l.shares {
		sh.of.update(sh)
		if sh.lags = sh.oldest > 0; sh.lags {
			kept = append(kept, sh)
		}
	}
	clear(l.shares[len(kept):])
	l.shares = kept
}

// Held describes the data that a client has not taken yet. It may be up to a second old, and older
// where the heartbeat is longer than 15 s.
type Held struct {
	Unsent int // size of the shared events in the backlog of its connection, in bytes
	// Stalled means that the client has taken less than 32 KiB in the last 15 s, although its
	// connection has a backlog.
	Stalled bool
}

// heldCell makes the Held of a connection available to all goroutines.
type heldCell struct{ value atomic.Int64 }

func (c *heldCell) set(h Held) {
	v := int64(h.Unsent) << 1
	if h.Stalled {
		v |= 1
	}
	if c.value.Load() != v {
		c.value.Store(v)
	}
}

func (c *heldCell) get() Held {
	v := c.value.Load()
	return Held{Unsent: int(v >> 1), Stalled: v&1 == 1}
}
