package stream

import "sync/atomic"

// rings is the state of io_uring for all loops. Each loop has its own ring. If one fails, all loops
// send with write from then on, because the kernel is at fault, not the connections of the loop.
type rings struct {
	used   atomic.Bool
	report func(error) // Config.IOUringFailed; may be nil
}

// fail makes the loops close their rings. The first call passes the report to call.
func (r *rings) fail(err error, call func(report func())) {
	if r.used.CompareAndSwap(true, false) && r.report != nil {
		call(func() { r.report(err) })
	}
}
