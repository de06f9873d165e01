package hub

import (
	"context"
	"errors"
	"slices"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/room"
)

// resumption is the answer to the id that a client resumes with.
type resumption struct {
	reading bool // the counter has the caller as a reader: join takes it off
	reset   bool // messages are lost to the client
	entries []backplane.Entry
	pieces  [][]byte // the replay of the entries
	after   uint64   // the last position of entries, or the client's
	recent  int      // number of the first recent message that came meanwhile
	losses  uint32   // counter.losses then
}

// readTime is how long a joiner waits for the log, before it gets reset.
const readTime = 2 * time.Second

// resume reads the messages since the id, without the lock, as the log may take its time. The
// counter keeps those that come meanwhile. Join must follow, or endReading.
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

// endReadingLocked takes the caller off the readers, and completes the resumption with the messages
// that came meanwhile.
func (c *counter) endReadingLocked(r *resumption) {
	if !r.reading {
		return
	}
	w := c.waits
	at, _ := slices.BinarySearch(w.readers, r.recent) // sorted, as the numbers grow
	w.readers = slices.Delete(w.readers, at, at+1)
	defer c.endWaitsLocked()
	if r.reset = r.reset || r.losses != c.losses; r.reset {
		return
	}
	// The log may be ahead of the subscription, which will deliver the rest.
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
