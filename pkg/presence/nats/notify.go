package nats

import (
	"sync"
	"sync/atomic"

	"example.com/presence/pkg/presence/backplane"
)

// notifications holds the functions of Notify.
type notifications struct {
	mu  sync.Mutex // guards all
	all map[*notification]struct{}
}

// notification is the function of one call of Notify.
type notification struct {
	f     func(backplane.Status)
	last  backplane.Status // only its goroutine uses it
	wake  chan struct{}
	end   chan struct{}
	ended atomic.Bool
}

// add starts a goroutine that calls f after each change. It ends with cancel or Close.
func (ns *notifications) add(c *core, f func(backplane.Status)) (cancel func()) {
	n := &notification{f: f, last: c.Status(), wake: make(chan struct{}, 1), end: make(chan struct{})}
	ns.mu.Lock()
	defer ns.mu.Unlock()
	if !c.goUnlessClosed(func() { n.run(c) }) {
		return func() {}
	}
	ns.all[n] = struct{}{}
	n.wake <- struct{}{} // the status may have changed since
	return sync.OnceFunc(func() {
		n.ended.Store(true)
		close(n.end)
		ns.mu.Lock()
		defer ns.mu.Unlock()
		delete(ns.all, n)
	})
}

// wake makes the goroutines compare the status.
func (ns *notifications) wake() {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	for n := range ns.all {
		select {
		case n.wake <- struct{}{}:
		default:
		}
	}
}

func (n *notification) run(c *core) {
	for {
		select {
		case <-n.end:
			return
		case <-c.life.Done():
			return
		case <-n.wake:
			if s := c.Status(); s != n.last && !n.ended.Load() {
				n.last = s
				n.f(s)
			}
		}
	}
}
