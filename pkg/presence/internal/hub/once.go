package hub

import "sync"

// once calls a function once, like [sync.Once]. Other callers wait on a channel instead of a mutex,
// so that in a test with simulated time the time passes while they wait.
type once struct {
	first sync.Once
	done  chan struct{} // closed when the function has returned
}

// do calls f if no other call has come first. Otherwise it waits until that call has ended.
func (o *once) do(f func()) {
	isFirst := false
	o.first.Do(func() { isFirst, o.done = true, make(chan struct{}) })
	if !isFirst {
		<-o.done
		return
	}
	defer close(o.done)
	f()
}
