package stream

import (
	"cmp"
	"time"
)

// Config holds the settings of [Streams]. The zero value of a field means its default.
type Config struct {
	// Heartbeat is the time between two pings. Default: 15 s.
	Heartbeat time.Duration
	// MaxUnsent is the soft limit, in bytes, of the shared events in the backlog of a connection.
	// Above it the client must read 32 KiB per second. Above 16 times MaxUnsent the client is
	// disconnected. Default: 256 KiB.
	MaxUnsent int
	// Portable makes every connection a writer, with its own goroutine. This works on every system.
	// Default: false.
	Portable bool

	// Tests shorten the times below.

	// progressTime is the time in which a client must read at least one byte of its backlog.
	// Default: 15 s.
	progressTime time.Duration
	// slowTime is the time in which a client must read 32 KiB while its backlog exceeds MaxUnsent.
	// A slow consumer has the same time for its goodbye. Default: 1 s, more than a burst or a busy
	// client needs.
	slowTime time.Duration
	// goodbyeTime is the time in which a client must read its backlog and the goodbye after
	// [Conn.End]. Default: 2 s.
	goodbyeTime time.Duration
}

// withDefaults returns the settings with each zero value replaced by its default.
func (c Config) withDefaults() Config {
	c.Heartbeat = cmp.Or(c.Heartbeat, 15*time.Second)
	c.MaxUnsent = cmp.Or(c.MaxUnsent, 256<<10)
	c.progressTime = cmp.Or(c.progressTime, 15*time.Second)
	c.slowTime = cmp.Or(c.slowTime, time.Second)
	c.goodbyeTime = cmp.Or(c.goodbyeTime, 2*time.Second)
	return c
}
