package hub

import (
	"context"
	"errors"
	"slices"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/room"
)

// resumption is the result of reading the log for a client that resumes.
type resumption struct {
	reading bool // the client is in waits.readers until join removes it
	reset   bool // the client has lost messages
	gone    bool // the client has disconnected, which may have ended the read
	entries []backplane.Entry
	pieces  [][]byte // the entries as encoded events
	after   uint64   // position of the last entry, or of the client if there are no entries
	recent  int      // number of the first recent message that arrived during the read
	losses  uint32   // counter.losses at the start of the read
}

// resume reads the messages after lastID from the log. The log may be slow, so resume holds no lock
// during the read. The counter keeps the messages that arrive during the read. The caller must call
// join next.
func (c *counter) resume(ctx context.Context, lastID string) (r resumption) {
	if lastID == "" {
		return r
	}
	last, ok := room.ParsePosition(lastID)
	if ok && c.log != nil {
		return c.resumeShared(ctx, last)
	}
	c.mu.Lock()
	if !ok || last.Epoch != c.position.Epoch || last.Seq > c.position.Seq {
		c.mu.Unlock()
		return resumption{reset: true}
	}
	r = c.startReadingLocked(last)
	upToDate := last.Seq == c.position.Seq
	c.mu.Unlock()
	if upToDate {
		return r
	}
	ctx, cancel := context.WithTimeout(ctx, readTime)
	defer cancel()
	entries, complete, err := c.shared.config.Bus.Read(ctx, c.name, last.Seq)
	if err != nil && !errors.Is(err, context.Canceled) {
		c.shared.config.Warn.Warn(ctx, "message log read failed: sending a reset event", "err", err)
	}
	if r.reset = err != nil || !complete; !r.reset && len(entries) > 0 {
		r.set(last.Epoch, entries)
	}
	return r
}

// startReadingLocked registers a client that resumes. From now on, the counter keeps the messages
// that arrive.
func (c *counter) startReadingLocked(last room.Position) resumption {
	w := c.waitsLocked()
	w.readers = append(w.readers, w.next())
	return resumption{reading: true, after: last.Seq, recent: w.next(), losses: c.losses}
}

// set stores the entries after the client's position. It encodes them, so the caller must not hold
// a lock.
func (r *resumption) set(epoch string, entries []backplane.Entry) {
	if len(entries) > 0 {
		r.entries, r.after = entries, entries[len(entries)-1].Position
		r.pieces = replayOf(make([][]byte, 0, piecesPerMessage*len(entries)), epoch, entries)
	}
}

// resumeShared is resume for a log that other nodes use too. It differs in two ways:
//
//   - The client may have a position that this node has not reached yet. It waits for it.
//   - The messages are taken from the ring, or from a read that all clients of the room share.
func (c *counter) resumeShared(ctx context.Context, last room.Position) resumption {
	ctx, cancel := context.WithTimeout(ctx, readTime)
	defer cancel()
	c.mu.Lock()
	if c.closed || c.log.blind || last.Epoch != c.position.Epoch {
		c.mu.Unlock()
		return resumption{reset: true}
	}
	r := c.startReadingLocked(last)
	c.mu.Unlock()
	if r.reset = !c.reach(ctx, last, r.losses); r.reset {
		return r
	}
	c.mu.Lock()
	entries, ok := c.shared.rings.after(&c.log.ring, last.Seq)
	var read *sharedRead
	if !ok && !c.closed {
		read = c.shareReadLocked(last.Seq)
	}
	c.mu.Unlock()
	if read != nil {
		select {
		case <-read.done:
			entries, ok = read.after(last.Seq)
		case <-ctx.Done():
		}
	}
	if r.reset = !ok; ok {
		r.set(last.Epoch, entries)
	}
	return r
}

// endReadingLocked removes the client from the readers and completes its replay. The result of the
// read may be ahead of the subscription or behind it:
//
//	                  read from the log   recent messages   replay
//	read is ahead     1 2 3 4             2 3               1 2 3, as 4 will be published
//	read is behind    1 2                 2 3 4             1 2 3 4
func (c *counter) endReadingLocked(r *resumption) {
	if !r.reading {
		return
	}
	w := c.waits
	at, _ := slices.BinarySearch(w.readers, r.recent) // sorted, because the numbers increase
	w.readers = slices.Delete(w.readers, at, at+1)
	defer c.endWaitsLocked()
	if r.reset = r.reset || r.losses != c.losses; r.reset {
		return
	}
	// Drop the entries that the subscription has not delivered yet.
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
