package presence

import (
	"log/slog"
	"sync"
)

// maxHooks is how many calls of hooks may wait in one room.
const maxHooks = 4096

// hooks calls a room's hooks one after the other, in the order of add, on a
// goroutine that runs while there are any.
type hooks struct {
	log     *slog.Logger
	running *sync.WaitGroup // who runs is in it

	mu      sync.Mutex // guards what follows
	waiting []func()
	busy    bool // run runs
	dropped int  // since run began
}

// add has f called soon. It does not wait.
func (h *hooks) add(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.waiting) >= maxHooks {
		h.dropped++
		return
	}
	h.waiting = append(h.waiting, f)
	if !h.busy {
		h.busy = true
		h.running.Go(h.run) // ends when none waits
	}
}

func (h *hooks) run() {
	for {
		h.mu.Lock()
		calls := h.waiting
		h.waiting = nil
		if len(calls) == 0 {
			if h.dropped > 0 {
				h.log.Warn("hooks are too slow, calls were dropped", "dropped", h.dropped)
			}
			h.busy, h.dropped = false, 0
			h.mu.Unlock()
			return
		}
		h.mu.Unlock()
		for _, f := range calls {
			f()
		}
	}
}
