package load

import (
	"slices"
	"sync"
	"sync/atomic"
)

// room is the numbers that were sent to one room.
type room struct {
	index int
	name  string

	// begun is the largest number whose request has begun.
	begun atomic.Int64

	mu       sync.Mutex // guards the fields below
	accepted int64      // numbers accepted by the server
	last     int64      // the largest accepted number
	unsure   []span     // numbers whose requests have an unknown outcome, in their order
}

// maxUnsure bounds the memory of a room whose messages fail. When it is reached, the room gets no
// more messages.
const maxUnsure = 10_000

// accept records that the server has accepted a number.
func (r *room) accept(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.accepted++
	r.last = n
}

// doubt records that the outcome of a number is unknown. It reports whether there may be more.
func (r *room) doubt(n int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := len(r.unsure) - 1; i >= 0 && r.unsure[i].last == n-1 {
		r.unsure[i].last = n
		return true
	}
	r.unsure = append(r.unsure, span{n, n})
	return len(r.unsure) < maxUnsure
}

// end returns the largest accepted number, and the numbers with an unknown outcome.
func (r *room) end() (last int64, unsure []span) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last, slices.Clone(r.unsure)
}
