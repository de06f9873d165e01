package nats

import (
	"strconv"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/room"
)

// QueueSize is the maximum number of messages that wait for a worker.
const QueueSize = queueSize

// NextEpoch returns the epoch after one whose last entries were lost.
func NextEpoch(epoch string) string { return nextEpoch(epoch) }

// Dropped returns the number of messages that were dropped because a handler was too slow.
func (b *Bus) Dropped() (n int) {
	b.subs.mu.RLock()
	defer b.subs.mu.RUnlock()
	for sub := range b.subs.byNATS {
		dropped, _ := sub.Dropped()
		n += dropped
	}
	return n
}

// Check makes the bus check its contact soon.
func (b *Bus) Check() { b.doubt() }

// SetQuiet makes the subscriptions of a room know that it had no entry during an interruption.
func (b *Bus) SetQuiet(name room.Name) {
	b.subs.mu.RLock()
	defer b.subs.mu.RUnlock()
	for _, s := range b.subs.topics[name] {
		s.quiet.Store(true)
	}
}

// Table returns the number of rows in the copy of the table, with those that were deleted during a
// load, and whether a load is running.
func (b *Bus) Table() (rows int, loading bool) {
	b.table.mu.Lock()
	defer b.table.mu.Unlock()
	return len(b.table.rows), b.table.loading
}

// FillTable fills the copy of the table up to its limit with rows that are not in the bucket.
func (b *Bus) FillTable() {
	for i := 0; !b.table.isFull("new"); i++ {
		b.table.apply(tableRow{Row: backplane.Row{Key: strconv.Itoa(i)}})
	}
}

// DropRow removes a row from the copy of the table.
func (b *Bus) DropRow(key string) {
	b.table.mu.Lock()
	defer b.table.mu.Unlock()
	delete(b.table.rows, key)
}

// WithClock returns the configuration of a node with another clock.
func (c Config) WithClock(now func() time.Time) Config {
	c.now = now
	return c
}
