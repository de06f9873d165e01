package hub

import "time"

const (
	// MaxCoalesce is the longest flush interval that a fan-out causes in a room that sends counts
	// only, and the longest Config.Coalesce. A room at rest for 1 s has sent its last count to
	// every client (promise 1): 750 ms leave 250 ms for the fan-out. An interval of 1 s missed it
	// by 4 ms at 15,000 clients.
	MaxCoalesce = 750 * time.Millisecond
	// maxMembersInterval is the longest flush interval that a fan-out causes in a room that sends
	// members. It is shorter, as a joiner waits for its end there.
	maxMembersInterval = 250 * time.Millisecond
)

// flushInterval is the coalescing rule: the time from one count of a room to the next (promise 2).
// The cost of a count grows with the room. At eight times the duration of the last fan-out, counts
// take a ninth of the time at most, however many clients join at once.
func flushInterval(coalesce, fanOut time.Duration, countsOnly bool) time.Duration {
	longest := maxMembersInterval
	if countsOnly {
		longest = MaxCoalesce
	}
	return max(coalesce, min(8*fanOut, longest))
}
