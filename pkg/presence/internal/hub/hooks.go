package hub

import (
	"context"
	"sync"

	"example.com/presence/pkg/presence/internal/loglimit"
	"example.com/presence/pkg/presence/room"
)

// maxHook is the limit of the queued calls of one hook, in bytes of their arguments.
const maxHook = 64 << 20

// hooks calls the hooks of the host program, one call at a time, in the order of the changes and
// messages. No lock is held during a call. Each hook has its own limit on queued calls, so a slow
// hook loses only its own calls.
type hooks struct {
	message func(room.Message)
	join    func(string, room.Member)
	leave   func(string, room.Member, room.Reason)

	warn    *loglimit.Limiter
	running *sync.WaitGroup // counts the goroutine of run

	mu      sync.Mutex // guards the fields below
	waiting []call
	busy    bool                  // run is running
	queues  [hooksCount]hookQueue // by hook
}

// The hooks of a host program.
const (
	onMessage = iota
	onJoin
	onLeave
	hooksCount
)

var hookNames = [hooksCount]string{"OnMessage", "OnJoin", "OnLeave"}

// hookQueue is the account of the queued calls of one hook.
type hookQueue struct {
	size    int  // bytes of its queued calls
	dropped bool // a call was dropped since the last warning
}

type call struct {
	hook, size int
	f          func()
}

func newHooks(c Config, running *sync.WaitGroup) *hooks {
	return &hooks{message: c.OnMessage, join: c.OnJoin, leave: c.OnLeave, warn: c.Warn, running: running}
}

// messageSent queues a call of OnMessage.
func (h *hooks) messageSent(m room.Message) {
	h.add(onMessage, len(m.Data), func() { h.message(m) })
}

// memberChanged queues a call of OnJoin or OnLeave.
func (h *hooks) memberChanged(name room.Name, c room.Change) {
	switch {
	case c.Event == room.EventJoin && h.join != nil:
		h.add(onJoin, len(c.Member.Info), func() { h.join(string(name), c.Member) })
	case c.Event == room.EventLeave && h.leave != nil:
		h.add(onLeave, len(c.Member.Info), func() { h.leave(string(name), c.Member, c.Reason) })
	}
}

// add queues a call of the hook. size is the number of bytes of its arguments. add does not wait:
// above the limit of the hook it drops the call.
func (h *hooks) add(hook, size int, f func()) {
	size += 256 // approximate size of the call itself
	h.mu.Lock()
	defer h.mu.Unlock()
	q := &h.queues[hook]
	if q.size+size > maxHook {
		q.dropped = true // run logs it: the caller holds locks
		return
	}
	q.size += size
	h.waiting = append(h.waiting, call{hook, size, f})
	if !h.busy {
		h.busy = true
		h.running.Go(h.run) // ends when no call is queued
	}
}

// run calls the queued hooks until the queue is empty.
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
			calls[i] = call{} // frees its arguments
			if h.called(c) {
				h.warn.Warn(context.Background(), "hook too slow: calls dropped", "hook", hookNames[c.hook])
			}
		}
	}
}

// called removes a finished call from the account of its hook. It reports whether calls of the hook
// were dropped since the last report.
func (h *hooks) called(c call) (dropped bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	q := &h.queues[c.hook]
	q.size -= c.size
	dropped, q.dropped = q.dropped, false
	return dropped
}
