package hub

import "time"

const (
	// MaxCoalesce is the longest Config.Coalesce. It is also the longest flush interval that a slow
	// fan-out causes in a room that sends counts only.
	//
	// Reason: 1 s after its last change, a room has sent its last count to every client (promise
	// 1). 750 ms leave 250 ms for the fan-out. With an interval of 1 s, the count was 4 ms late at
	// 15,000 clients.
	MaxCoalesce = 750 * time.Millisecond
	// maxMembersInterval is the longest flush interval that a slow fan-out causes in a room that
	// sends members. It is shorter because a joiner waits for the end of the interval.
	maxMembersInterval = 250 * time.Millisecond
)

// flushInterval returns the time from one count of a room to the next (promise 2). It is coalesce,
// or eight times the last fan-out if that is longer, up to the maximum of the room.
//
// The cost of a count grows with the room. Eight times the fan-out means that counts take at most a
// ninth of the time, however many clients join at once.
func flushInterval(coalesce, fanOut time.Duration, countsOnly bool) time.Duration {
	longest := maxMembersInterval
	if countsOnly {
		longest = MaxCoalesce
	}
	return max(coalesce, min(8*fanOut, longest))
}
