package stream

import (
	"sync"
	"time"
)

// liveness checks the clients of writers, once per part of a heartbeat. A loop checks its own
// clients.
type liveness struct {
	mu    sync.Mutex // guards conns
	conns map[checked]struct{}
}

type checked interface{ check() }

func (l *liveness) add(c checked) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conns == nil {
		l.conns = map[checked]struct{}{}
	}
	l.conns[c] = struct{}{}
}

func (l *liveness) remove(c checked) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

// run checks the clients until stop is closed.
func (l *liveness) run(heartbeat time.Duration, stop <-chan struct{}) {
	ticks := time.NewTicker(heartbeat / heartbeatParts)
	defer ticks.Stop()
	for {
		select {
		case <-ticks.C:
			l.mu.Lock()
			for c := range l.conns {
				c.check()
			}
			l.mu.Unlock()
		case <-stop:
			return
		}
	}
}
