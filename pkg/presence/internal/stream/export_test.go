package stream

import "time"

// The times of a Config that tests of package stream_test shorten.

func (c Config) WithProgressTime(d time.Duration) Config { c.progressTime = d; return c }
func (c Config) WithSlowTime(d time.Duration) Config     { c.slowTime = d; return c }
func (c Config) WithGoodbyeTime(d time.Duration) Config  { c.goodbyeTime = d; return c }
