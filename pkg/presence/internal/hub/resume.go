package hub

import (
	"context"
	"errors"
	"slices"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/room"
)

// resumption is the result of reading the log for a client that resumes.
type resumption struct {
	reading bool // the caller is in waits.readers; join removes it
	reset   bool // messages are lost to the client
	entries []backplane.Entry
	pieces  [][]byte // the replay of the entries
	after   uint64   // position of the last entry, or of the client
	recent  int      // number of the first recent message that arrived meanwhile
	losses  uint32   // counter.losses when reading began
}

// readTime is the maximum time that a joiner waits for the log. Then it gets reset.
const readTime = 2 * time.Second

// resume reads the messages after lastID from the log. It holds no lock meanwhile, as the log may
// be slow. The counter keeps the messages that arrive meanwhile. The caller must call join next.
func (c *counter) resume(ctx context.Context, lastID string) (r resumption) {
	if lastID == "" {
		return r
	}
	last, ok := room.ParsePosition(lastID)
	c.mu.Lock()
	if !ok || last.Epoch != c.position.Epoch || last.Seq > c.position.Seq {
		c.mu.Unlock()
		return resumption{reset: true}
	}
	w := c.waitsLocked()
	r.after, r.recent, r.losses, r.reading = last.Seq, w.next(), c.losses, true
	w.readers = append(w.readers, r.recent)
	upToDate := last.Seq == c.position.Seq
	c.mu.Unlock()
	if upToDate {
		return r
	}
	ctx, cancel := context.WithTimeout(ctx, readTime)
	defer cancel()
	entries, complete, err := c.shared.config.Bus.Read(ctx, c.name, last.Seq)
	if err != nil && !errors.Is(err, context.Canceled) {
		c.shared.config.Warn.Warn(ctx, "message log not read: a client gets reset", "err", err)
	}
	if r.reset = err != nil || !complete; !r.reset && len(entries) > 0 {
		r.entries, r.after = entries, entries[len(entries)-1].Position
		r.pieces = replayOf(make([][]byte, 0, piecesPerMessage*len(entries)), last.Epoch, entries)
	}
	return r
}

// endReadingLocked removes the caller from the readers, and completes the replay. The log and the
// subscription are not in step, so there are two cases:
//
//	              read from the log   recent messages   replay
//	log ahead     1 2 3 4             2 3               1 2 3, as 4 will be published
//	log behind    1 2                 2 3 4             1 2 3 4
func (c *counter) endReadingLocked(r *resumption) {
	if !r.reading {
		return
	}
	w := c.waits
	at, _ := slices.BinarySearch(w.readers, r.recent) // sorted, because the numbers grow
	w.readers = slices.Delete(w.readers, at, at+1)
	defer c.endWaitsLocked()
	if r.reset = r.reset || r.losses != c.losses; r.reset {
		return
	}
	// Cut the entries that the subscription has not delivered yet.
	n := len(r.entries)
	for n > 0 && r.entries[n-1].Position > c.position.Seq {
		n--
	}
	r.entries, r.pieces = r.entries[:n:n], r.pieces[:piecesPerMessage*n]
	for i, e := range w.recent[r.recent-w.dropped:] {
		if e.Position > r.after {
			late := w.recent[r.recent-w.dropped+i:]
			r.entries = append(r.entries, late...)
			r.pieces = replayOf(r.pieces, c.position.Epoch, late)
			break
		}
	}
}
