package stream

import (
	"sync/atomic"
	"time"
)

// Stats holds the statistics of all streams. Gauges are current values. Totals count since Open.
type Stats struct {
	// Deliveries is the total of shared events that were written to a client or queued in its
	// backlog: one for each event and client.
	Deliveries uint64
	// Bytes is the total of bytes written to clients: events, snapshots, replays and pings, with
	// the chunk heads of HTTP/1.1. It excludes response headers, TLS and HTTP/2 frames.
	Bytes uint64
	// Backlogged is a gauge: connections with events that wait for the client to read. BacklogBytes
	// is the size of the shared ones of these events. For direct connections both are at most
	// 100 ms old.
	Backlogged   int
	BacklogBytes int
	// Unsent is a gauge: the size of the shared events that are on their way, or in a backlog, in
	// bytes. Each event counts once.
	Unsent int
	// IOUring reports that the loops send with io_uring. IOUringError is the reason why they do not
	// although Config.IOUring is set.
	IOUring      bool
	IOUringError error
}

// tally counts the work of one loop or waker. Only its goroutine uses the first fields. Each turn
// ends with publish, so that the goroutine needs no atomic operation for each delivery.
type tally struct {
	events, bytes int // since the last publish
	delivered     func(time.Duration)
	pass          func(time.Duration)

	totals struct {
		deliveries, bytes        atomic.Uint64
		backlogged, backlogBytes atomic.Int64
	}
}

// deliveredAt reports that an event of the time since was delivered at the time now.
func (t *tally) deliveredAt(now, since time.Time) {
	if t.delivered != nil {
		t.delivered(now.Sub(since))
	}
}

// publish ends a turn that took this long.
func (t *tally) publish(took time.Duration) {
	if t.events > 0 {
		t.totals.deliveries.Add(uint64(t.events))
	}
	if t.bytes > 0 {
		t.totals.bytes.Add(uint64(t.bytes))
	}
	t.events, t.bytes = 0, 0
	if t.pass != nil {
		t.pass(took)
	}
}

// addTo adds the totals and gauges to s.
func (t *tally) addTo(s *Stats) {
	s.Deliveries += t.totals.deliveries.Load()
	s.Bytes += t.totals.bytes.Load()
	s.Backlogged += int(t.totals.backlogged.Load())
	s.BacklogBytes += int(t.totals.backlogBytes.Load())
}
