package hub

import "sync"

// once calls a function once, like [sync.Once]. Other callers wait on a channel instead of a mutex,
// so that in a test with simulated time the time passes while they wait. Every room has a once, so
// the channel exists only while a caller waits.
type once struct {
	mu            sync.Mutex
	done          chan struct{} // closed when the function has returned
	called, ended bool
}

// do calls f if no other call has come first. Otherwise it waits until that call has ended.
func (o *once) do(f func()) {
	o.mu.Lock()
	switch {
	case o.ended:
		o.mu.Unlock()
	case o.called:
		if o.done == nil {
			o.done = make(chan struct{})
		}
		done := o.done
		o.mu.Unlock()
		<-done
	default:
		o.called = true
		o.mu.Unlock()
		defer o.end()
		f()
	}
}

func (o *once) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended = true; o.done != nil {
		close(o.done)
		o.done = nil
	}
}
