package hub

import (
	"context"
	"sync"

	"example.com/presence/pkg/presence/internal/loglimit"
	"example.com/presence/pkg/presence/room"
)

// maxHook is the maximum size of the queued calls of one hook, in bytes of their arguments.
const maxHook = 64 << 20

// hooks calls the hooks of the embedding program one at a time, in the order of the changes and
// messages. No lock is held during a call. Each hook has its own queue limit, so calls to a slow
// hook do not displace calls to other hooks.
type hooks struct {
	message func(room.Message)
	join    func(string, room.Member)
	leave   func(string, room.Member, room.Reason)

	warn    *loglimit.Limiter
	running *sync.WaitGroup // counts the goroutine of run

	mu      sync.Mutex // guards the fields below
	waiting []call
	busy    bool                  // the goroutine of run exists
	queues  [hooksCount]hookQueue // by hook
}

const (
	onMessage = iota
	onJoin
	onLeave
	hooksCount
)

var hookNames = [hooksCount]string{"OnMessage", "OnJoin", "OnLeave"}

type hookQueue struct {
	size    int    // size of the queued calls, in bytes
	drops   uint64 // total of dropped calls
	dropped bool   // a call was dropped since the last warning
}

type call struct {
	hook, size int
	f          func()
}

func newHooks(c Config, running *sync.WaitGroup) *hooks {
	return &hooks{message: c.OnMessage, join: c.OnJoin, leave: c.OnLeave, warn: c.Warn, running: running}
}

func (h *hooks) messageSent(m room.Message) {
	h.add(onMessage, len(m.Data), func() { h.message(m) })
}

// followMembers reports whether a hook is called for the members.
func (h *hooks) followMembers() bool { return h.join != nil || h.leave != nil }

// memberChanged queues a call of OnJoin or OnLeave. It ignores updates.
func (h *hooks) memberChanged(name room.Name, c room.Change) {
	switch {
	case c.Event == room.EventJoin && h.join != nil:
		h.add(onJoin, len(c.Member.Info), func() { h.join(string(name), c.Member) })
	case c.Event == room.EventLeave && h.leave != nil:
		h.add(onLeave, len(c.Member.Info), func() { h.leave(string(name), c.Member, c.Reason) })
	}
}

// add queues a call of the hook. size is the size of its arguments in bytes. If the queue limit of
// the hook is reached, add drops the call instead of waiting.
func (h *hooks) add(hook, size int, f func()) {
	size += 256 // approximate size of the call itself
	h.mu.Lock()
	defer h.mu.Unlock()
	q := &h.queues[hook]
	if q.size+size > maxHook {
		q.drops++
		q.dropped = true // run logs the drop, because the caller of add holds locks
		return
	}
	q.size += size
	h.waiting = append(h.waiting, call{hook, size, f})
	if !h.busy {
		h.busy = true
		h.running.Go(h.run) // ends when no call is queued
	}
}

// HookStats holds the statistics of one hook.
type HookStats struct {
	QueueBytes int    // gauge: size of the queued calls
	Dropped    uint64 // total: calls dropped because the queue was full
}

// stats returns the statistics of all hooks by name.
func (h *hooks) stats() map[string]HookStats {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := map[string]HookStats{}
	for i, q := range h.queues {
		all[hookNames[i]] = HookStats{q.size, q.drops}
	}
	return all
}

// run makes the queued calls until the queue is empty.
func (h *hooks) run() {
	for {
		h.mu.Lock()
		calls := h.waiting
		h.waiting = nil
		h.busy = len(calls) > 0
		h.mu.Unlock()
		if len(calls) == 0 {
			return
		}
		for i, c := range calls {
			c.f()
			calls[i] = call{} // free the arguments
			if h.called(c) {
				h.warn.Warn(context.Background(), "hook calls dropped: hook too slow", "hook", hookNames[c.hook])
			}
		}
	}
}

// called subtracts a finished call from the queue size of its hook. It reports whether calls were
// dropped since the last report.
func (h *hooks) called(c call) (dropped bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	q := &h.queues[c.hook]
	q.size -= c.size
	dropped, q.dropped = q.dropped, false
	return dropped
}
