package presence

import (
	"context"
	"sync"

	"example.com/presence/pkg/presence/internal/loglimit"
)

// maxHooks bounds the calls of hooks that wait, in bytes of what they carry.
const maxHooks = 64 << 20

// hooks calls the host program's hooks one after the other, in the order of
// add, on a goroutine that runs while there are any.
type hooks struct {
	warn    *loglimit.Limiter
	running *sync.WaitGroup // run is in it

	mu      sync.Mutex // guards what follows
	waiting []func()
	size    int  // bytes that waiting carries
	busy    bool // run runs
	dropped bool // a call was
}

// add has f, which carries that many bytes, called soon. It does not wait.
func (h *hooks) add(size int, f func()) {
	size += 256 // of f itself, about
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.size+size > maxHooks {
		h.dropped = true // run says so: the caller holds locks
		return
	}
	h.size += size
	h.waiting = append(h.waiting, func() { f(); h.called(size) })
	if !h.busy {
		h.busy = true
		h.running.Go(h.run) // ends when none waits
	}
}

func (h *hooks) called(size int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.size -= size
}

func (h *hooks) run() {
	for {
		h.mu.Lock()
		calls := h.waiting
		h.waiting = nil
		h.busy = len(calls) > 0
		dropped := h.dropped
		h.dropped = false
		h.mu.Unlock()
		if dropped {
			h.warn.Warn(context.Background(), "hooks are too slow, calls are dropped")
		}
		if len(calls) == 0 {
			return
		}
		for i, f := range calls {
			f()
			calls[i] = nil // what it carries counts no more
		}
	}
}
