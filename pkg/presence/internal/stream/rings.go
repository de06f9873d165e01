package stream

import (
	"sync"
	"sync/atomic"
)

// rings is the state of io_uring for all loops. Each loop has its own ring. If one fails, all loops
// send with write from then on, because the kernel is at fault, not the connections of the loop.
type rings struct {
	used   atomic.Bool
	failed sync.Once
	report func(error) // may be nil
}

// fail makes the loops close their rings.
func (r *rings) fail(err error) {
	r.used.Store(false)
	r.failed.Do(func() {
		if r.report != nil {
			r.report(err)
		}
	})
}
