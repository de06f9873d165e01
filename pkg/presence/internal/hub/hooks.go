package hub

import (
	"context"
	"sync"

	"example.com/presence/pkg/presence/internal/loglimit"
	"example.com/presence/pkg/presence/room"
)

// maxHook bounds the waiting calls of one hook, in bytes of their arguments.
const maxHook = 64 << 20

// hooks calls the host program's hooks one after the other, in the order of the changes and
// messages, outside of all locks. Each hook has its own limit on what waits: a slow one drops its
// own calls only.
type hooks struct {
	message func(room.Message)
	join    func(string, room.Member)
	leave   func(string, room.Member, room.Reason)

	warn    *loglimit.Limiter
	running *sync.WaitGroup // run is in it

	mu      sync.Mutex // guards what follows
	waiting []call
	busy    bool                  // run runs
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

// hookQueue is the account of one hook.
type hookQueue struct {
	size    int  // bytes of its waiting calls
	dropped bool // a call was dropped since the last warning
}

type call struct {
	hook, size int
	f          func()
}

func newHooks(c Config, running *sync.WaitGroup) *hooks {
	return &hooks{message: c.OnMessage, join: c.OnJoin, leave: c.OnLeave, warn: c.Warn, running: running}
}

// messageSent has OnMessage called.
func (h *hooks) messageSent(m room.Message) {
	h.add(onMessage, len(m.Data), func() { h.message(m) })
}

// memberChanged has OnJoin or OnLeave called.
func (h *hooks) memberChanged(name room.Name, c room.Change) {
	switch {
	case c.Event == room.EventJoin && h.join != nil:
		h.add(onJoin, len(c.Member.Info), func() { h.join(string(name), c.Member) })
	case c.Event == room.EventLeave && h.leave != nil:
		h.add(onLeave, len(c.Member.Info), func() { h.leave(string(name), c.Member, c.Reason) })
	}
}

// add queues a call of the hook, whose arguments have that many bytes. It does not wait: above the
// limit of the hook it drops the call.
func (h *hooks) add(hook, size int, f func()) {
	size += 256 // of the call itself, about
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
		h.running.Go(h.run) // ends when no call waits
	}
}

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
				h.warn.Warn(context.Background(), "hook is too slow: calls dropped", "hook", hookNames[c.hook])
			}
		}
	}
}

// called takes a call off the hook's account, and reports whether calls of the hook were dropped.
func (h *hooks) called(c call) (dropped bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	q := &h.queues[c.hook]
	q.size -= c.size
	dropped, q.dropped = q.dropped, false
	return dropped
}
