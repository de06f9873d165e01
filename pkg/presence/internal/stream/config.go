package stream

import (
	"cmp"
	"time"
)

// Config holds the settings of [Streams]. The zero value of a field stands for its default.
type Config struct {
	// Heartbeat is the time between two pings. Default: 15 s.
	Heartbeat time.Duration
	// MaxUnsent is the size in bytes of the shared events in the backlog of a connection, above
	// which its client must take 32 KiB per second. At 16 times as much it is disconnected.
	// Default: 256 KiB.
	MaxUnsent int
	// Portable makes every connection a writer with a goroutine of its own, the way that works on
	// every system.
	Portable bool

	// The times below are shorter in tests.

	// progressTime is the time in which a client must take something of its backlog. Default: 15 s.
	progressTime time.Duration
	// slowTime is the time in which a client must take 32 KiB while its backlog exceeds MaxUnsent,
	// and the goodbye that follows. Default: 1 s, more than a burst or a busy client needs.
	slowTime time.Duration
	// goodbyeTime is the time in which a client must take its backlog and the goodbye when its
	// connection is ended. Default: 2 s.
	goodbyeTime time.Duration
}

// withDefaults returns the settings with each zero replaced by its default.
func (c Config) withDefaults() Config {
	c.Heartbeat = cmp.Or(c.Heartbeat, 15*time.Second)
	c.MaxUnsent = cmp.Or(c.MaxUnsent, 256<<10)
	c.progressTime = cmp.Or(c.progressTime, 15*time.Second)
	c.slowTime = cmp.Or(c.slowTime, time.Second)
	c.goodbyeTime = cmp.Or(c.goodbyeTime, 2*time.Second)
	return c
}
