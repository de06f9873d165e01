package load

import "time"

// usage is the CPU time, user and system, and the resident memory in bytes of some processes.
type usage struct {
	cpu time.Duration
	rss int64
}
