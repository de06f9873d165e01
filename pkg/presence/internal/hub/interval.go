package hub

import "time"

const (
	// MaxCoalesce is the maximum of Config.Coalesce. It also limits the flush interval that a slow
	// fan-out causes in a room that sends only counts.
	//
	// At most 1 s after the last change of a room, every client must have its final count (promise
	// 1). An interval of 750 ms leaves 250 ms for the fan-out. With an interval of 1 s, the count
	// was 4 ms late at 15,000 clients.
	MaxCoalesce = 750 * time.Millisecond
	// maxMembersInterval is the maximum flush interval that a slow fan-out causes in a room that
	// sends members. It is shorter than MaxCoalesce, because joiners wait for the end of the
	// interval.
	maxMembersInterval = 250 * time.Millisecond
)

// flushInterval returns the minimum time between two counts of a room (promise 2). It is coalesce
// or eight times the last fan-out, whichever is longer. The fan-out term is limited by the room's
// maximum.
//
// The cost of a count grows with the size of the room. With eight times the fan-out, counts use at
// most a ninth of the time, however many clients join concurrently.
func flushInterval(coalesce, fanOut time.Duration, countsOnly bool) time.Duration {
	longest := maxMembersInterval
	if countsOnly {
		longest = MaxCoalesce
	}
	return max(coalesce, min(8*fanOut, longest))
}
