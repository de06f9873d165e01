package stream

import (
	"sync"
	"time"
)

// watched are the writers whose clients' pulse is felt. (A loop feels it of
// its own.)
type watched struct {
	mu      sync.Mutex // guards writers
	writers map[*writer]struct{}
}

func (w *watched) add(c *writer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.writers == nil {
		w.writers = map[*writer]struct{}{}
	}
	w.writers[c] = struct{}{}
}

func (w *watched) remove(c *writer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.writers, c)
}

// run checks all of them with each part of a heartbeat, until stop.
func (w *watched) run(heartbeat time.Duration, stop <-chan struct{}) {
	ticks := time.NewTicker(heartbeat / heartbeatParts)
	defer ticks.Stop()
	for {
		select {
		case <-ticks.C:
			w.mu.Lock()
			for c := range w.writers {
				c.check()
			}
			w.mu.Unlock()
		case <-stop:
			return
		}
	}
}
