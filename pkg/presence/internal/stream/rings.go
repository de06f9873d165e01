package stream

import "sync/atomic"

// rings is the state of io_uring for all loops. Each loop has its own ring. If one fails, all loops
// send with write from then on, because the kernel is at fault, not the connections of the loop.
type rings struct {
	used   atomic.Bool
	reason atomic.Pointer[error] // of the first call of fail
}

// fail makes the loops close their rings. It reports whether this is the first call.
func (r *rings) fail(err error) (first bool) {
	r.reason.CompareAndSwap(nil, &err)
	return r.used.CompareAndSwap(true, false)
}

// failure returns the reason why the loops use write, or nil if there is none.
func (r *rings) failure() error {
	if err := r.reason.Load(); err != nil {
		return *err
	}
	return nil
}
