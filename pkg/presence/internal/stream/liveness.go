package stream

import (
	"sync"
	"time"
)

// checker checks the clients of all writers, once per part of a heartbeat. A loop checks its own
// clients.
type checker struct {
	mu    sync.Mutex // guards conns
	conns map[client]struct{}
}

type client interface{ check() }

func (l *checker) add(c client) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conns == nil {
		l.conns = map[client]struct{}{}
	}
	l.conns[c] = struct{}{}
}

func (l *checker) remove(c client) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

// run checks the clients periodically, until stop is closed.
func (l *checker) run(heartbeat time.Duration, stop <-chan struct{}) {
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
