package stream

import (
	"cmp"
	"time"
)

// Config holds the settings of [Streams]. The zero value of a field means its default.
type Config struct {
	// Heartbeat is the interval between two pings. Default: 15 s.
	Heartbeat time.Duration
	// MaxUnsent is the soft limit, in bytes, for the shared events in the backlog of a connection.
	// Above this limit, the client must read 32 KiB per second. Above 16 times this limit, the
	// client is disconnected. Default: 256 KiB.
	MaxUnsent int
	// MaxUnsentTotal is the limit, in bytes, for the shared events that are on their way to the
	// sockets, or in the backlogs of all connections. An event counts once, however many backlogs
	// hold it. Above the limit, [Stream.Overloaded] is true for streams that hold more than their
	// share. Default: 64 MiB.
	MaxUnsentTotal int
	// MinShare is the smallest share of a Stream, in bytes. Default: 256 KiB.
	MinShare int
	// Portable makes every connection a writer, which has its own goroutine and works on every
	// system. Default: false.
	Portable bool
	// IOUring makes the loops send the events of large Streams with io_uring(7), if the kernel
	// allows it. Default: false, which means write(2).
	IOUring bool
	// MinRing is the smallest number of connections that a Stream has in a loop if its events are
	// sent with io_uring. Default: 16.
	MinRing int
	// IOUringFailed receives the error if io_uring fails after Open, so that the loops use write(2)
	// from then on. It is called at most once. nil: not called.
	IOUringFailed func(error)

	// Delivered receives the time from Event.Since until a loop or waker has written the event to
	// all its clients of the Stream, or queued it for the slow ones. There is one call per fan-out
	// and goroutine, for the oldest such event. nil: not measured. It must not block.
	Delivered func(time.Duration)
	// Pass receives the duration of a turn of a loop or waker. nil: not measured. It must not
	// block.
	Pass func(time.Duration)

	// Tests set enter and shorten the times below.

	// enter replaces io_uring_enter(2). Default: nil.
	enter func(ring, entries int) (taken int, err error)

	// progressTime is the time within which a client must read at least one byte of its backlog.
	// Default: 15 s.
	progressTime time.Duration
	// slowTime is the time within which a client must read 32 KiB while its backlog exceeds
	// MaxUnsent. A slow consumer has the same time to read its goodbye. Default: 1 s, which is
	// longer than a burst lasts and longer than a busy client needs.
	slowTime time.Duration
	// stalledTime is the time in which a client with a backlog must take 32 KiB, or it counts as
	// stalled. Default: 15 s.
	stalledTime time.Duration
	// goodbyeTime is the time within which a client must read its backlog and the goodbye after
	// [Conn.End]. Default: 2 s.
	goodbyeTime time.Duration
}

// withDefaults returns the settings with the default for each field that is zero.
func (c Config) withDefaults() Config {
	c.Heartbeat = cmp.Or(c.Heartbeat, 15*time.Second)
	c.MaxUnsent = cmp.Or(c.MaxUnsent, 256<<10)
	c.MaxUnsentTotal = cmp.Or(c.MaxUnsentTotal, 64<<20)
	c.MinShare = cmp.Or(c.MinShare, 256<<10)
	c.MinRing = cmp.Or(c.MinRing, 16)
	c.progressTime = cmp.Or(c.progressTime, 15*time.Second)
	c.slowTime = cmp.Or(c.slowTime, time.Second)
	c.stalledTime = cmp.Or(c.stalledTime, 15*time.Second)
	c.goodbyeTime = cmp.Or(c.goodbyeTime, 2*time.Second)
	return c
}
