package hub

import (
	"testing"
	"time"
)

func TestFlushInterval(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		coalesce, fanOut time.Duration
		countsOnly       bool
		want             time.Duration
	}{
		{50 * ms, 0, false, 50 * ms},
		{50 * ms, 6 * ms, false, 50 * ms},
		{50 * ms, 10 * ms, false, 80 * ms},
		{50 * ms, 40 * ms, false, 250 * ms},
		{50 * ms, 40 * ms, true, 320 * ms},
		{50 * ms, time.Second, true, 750 * ms},
		{600 * ms, 40 * ms, false, 600 * ms},
		{750 * ms, time.Minute, false, 750 * ms},
	} {
		if got := flushInterval(c.coalesce, c.fanOut, c.countsOnly); got != c.want {
			t.Errorf("flushInterval(%v, %v, %v) = %v, want %v", c.coalesce, c.fanOut, c.countsOnly, got, c.want)
		}
	}
}
