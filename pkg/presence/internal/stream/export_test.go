package stream

import "time"

// These methods shorten the times of a Config for the tests of package stream_test.

func (c Config) WithProgressTime(d time.Duration) Config { c.progressTime = d; return c }
func (c Config) WithStalledTime(d time.Duration) Config  { c.stalledTime = d; return c }
func (c Config) WithSlowTime(d time.Duration) Config     { c.slowTime = d; return c }
func (c Config) WithGoodbyeTime(d time.Duration) Config  { c.goodbyeTime = d; return c }

// WithEnter replaces io_uring_enter(2).
func (c Config) WithEnter(enter func(ring, entries int) (taken int, err error)) Config {
	c.enter = enter
	return c
}
