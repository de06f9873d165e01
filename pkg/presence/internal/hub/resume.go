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
	after   uint64 // the last position of entries, or the client's
	recent  int    // number of the first recent message that came meanwhile
	losses  uint32 // counter.losses then
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
	}
	return r
}

// endReadingLocked takes the caller off the readers. It returns the messages of the replay, those of
// the log and those that came meanwhile, or that messages are lost to the client.
func (c *counter) endReadingLocked(r resumption) (entries []backplane.Entry, reset bool) {
	if !r.reading {
		return nil, r.reset
	}
	w := c.waits
	at, _ := slices.BinarySearch(w.readers, r.recent) // sorted, as the numbers grow
	w.readers = slices.Delete(w.readers, at, at+1)
	defer c.endWaitsLocked()
	if r.reset || r.losses != c.losses {
		return nil, true
	}
	entries = r.entries
	for _, e := range w.recent[r.recent-w.dropped:] {
		if e.Position > r.after {
			entries = append(entries[:len(entries):len(entries)], e)
			r.after = e.Position
		}
	}
	// The log may be ahead of the subscription, which will deliver the rest.
	for len(entries) > 0 && entries[len(entries)-1].Position > c.position.Seq {
		entries = entries[:len(entries)-1]
	}
	return entries, false
}
