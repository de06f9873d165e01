package hub_test

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/internal/hub"
	"example.com/presence/pkg/presence/room"
)

// clear empties the log of the room, as another node would.
func (n *node) clear(name room.Name) error { return n.bus.Clear(n.t.Context(), name) }

// countingBus records the subscriptions and watches that have not been cancelled.
type countingBus struct {
	backplane.Bus

	mu     sync.Mutex // guards topics
	topics []room.Name
}

// open returns the topics of the open subscriptions, sorted. A watch of the table is "table".
func (b *countingBus) open() []room.Name {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Sorted(slices.Values(b.topics))
}

func (b *countingBus) Subscribe(topic room.Name, h backplane.Handler) (func(), error) {
	cancel, err := b.Bus.Subscribe(topic, h)
	return b.add(topic, cancel), err
}

func (b *countingBus) Watch(f func(backplane.Row)) (func(), error) {
	cancel, err := b.Bus.Watch(f)
	return b.add("table", cancel), err
}

func (b *countingBus) add(topic room.Name, cancel func()) func() {
	if cancel == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.topics = append(b.topics, topic)
	return sync.OnceFunc(func() {
		cancel()
		b.mu.Lock()
		defer b.mu.Unlock()
		i := slices.Index(b.topics, topic)
		b.topics = slices.Delete(b.topics, i, i+1)
	})
}

// slowBus delays Append and Read, or makes Append fail.
type slowBus struct {
	backplane.Bus

	mu       sync.Mutex // guards the fields below
	delay    time.Duration
	late     bool // Read reads after the delay, not before
	err      error
	happened bool // an Append that fails has appended nevertheless
}

func (b *slowBus) set(delay time.Duration, late bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.delay, b.late = delay, late
}

func (b *slowBus) fail(err error, happened bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err, b.happened = err, happened
}

func (b *slowBus) Append(ctx context.Context, name room.Name, key string, data []byte) (uint64, bool, error) {
	b.mu.Lock()
	delay, err, happened := b.delay, b.err, b.happened
	b.mu.Unlock()
	time.Sleep(delay)
	if err != nil && !happened {
		return 0, false, err
	}
	position, duplicate, failed := b.Bus.Append(ctx, name, key, data)
	if err != nil {
		return 0, false, err
	}
	return position, duplicate, failed
}

func (b *slowBus) Read(ctx context.Context, name room.Name, after uint64) ([]backplane.Entry, bool, error) {
	b.mu.Lock()
	delay, late := b.delay, b.late
	b.mu.Unlock()
	if late {
		time.Sleep(delay)
		return b.Bus.Read(ctx, name, after)
	}
	defer time.Sleep(delay)
	return b.Bus.Read(ctx, name, after)
}

// epochBus is a bus whose epoch can be changed, and whose subscriptions can lose messages.
type epochBus struct {
	backplane.Bus

	mu    sync.Mutex // guards the fields below
	epoch string
	deaf  bool // messages are lost
	lost  []func()

	atSubscribe string // the epoch from the next subscription on; empty: no change
}

func (b *epochBus) Status() backplane.Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	return backplane.Status{Epoch: b.epoch, Connected: true}
}

func (b *epochBus) Subscribe(topic room.Name, h backplane.Handler) (func(), error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.epoch, b.atSubscribe = cmp.Or(b.atSubscribe, b.epoch), ""
	if h.Lost != nil {
		b.lost = append(b.lost, h.Lost)
	}
	if entry := h.Entry; entry != nil {
		h.Entry = func(e backplane.Entry) {
			b.mu.Lock()
			deaf := b.deaf
			b.mu.Unlock()
			if !deaf {
				entry(e)
			}
		}
	}
	return b.Bus.Subscribe(topic, h)
}

// interrupt starts the loss of messages, or ends it.
func (b *epochBus) interrupt(deaf bool) {
	b.mu.Lock()
	b.deaf = deaf
	b.mu.Unlock()
	if !deaf {
		b.change(b.Status().Epoch)
	}
}

// change sets the epoch, and makes the subscribers read the log again.
func (b *epochBus) change(epoch string) {
	b.mu.Lock()
	b.epoch = epoch
	lost := b.lost
	b.mu.Unlock()
	for _, f := range lost {
		f()
	}
}

// stoppedClock moves only by advance.
type stoppedClock struct {
	mu     sync.Mutex // guards the fields below, and the timers
	now    time.Time
	timers []*stoppedTimer
}

type stoppedTimer struct {
	of    *stoppedClock
	at    time.Time
	f     func()
	armed bool
}

func (c *stoppedClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now.IsZero() {
		c.now = time.Now()
	}
	return c.now
}

func (c *stoppedClock) AfterFunc(d time.Duration, f func()) hub.Timer {
	now := c.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	t := &stoppedTimer{of: c, at: now.Add(d), f: f, armed: true}
	c.timers = append(c.timers, t)
	return t
}

func (t *stoppedTimer) Stop() (armed bool) {
	t.of.mu.Lock()
	defer t.of.mu.Unlock()
	armed, t.armed = t.armed, false
	return armed
}

func (t *stoppedTimer) Reset(d time.Duration) (armed bool) {
	now := t.of.Now()
	t.of.mu.Lock()
	defer t.of.mu.Unlock()
	armed, t.armed, t.at = t.armed, true, now.Add(d)
	return armed
}

// advance moves the time in steps of 10 ms, and runs the timers that are due.
func (c *stoppedClock) advance(d time.Duration) {
	for end := c.Now().Add(d); c.Now().Before(end); {
		c.mu.Lock()
		c.now = c.now.Add(10 * time.Millisecond)
		var due []func()
		for _, t := range c.timers {
			if t.armed && !t.at.After(c.now) {
				t.armed = false
				due = append(due, t.f)
			}
		}
		c.mu.Unlock()
		for _, f := range due {
			f()
		}
	}
}

// hookedBus calls its own functions, where they are set, instead of the functions of its Bus.
type hookedBus struct {
	backplane.Bus
	last  func() (uint64, error)
	read  func() ([]backplane.Entry, bool, error)
	entry func(deliver func()) // delivers an entry
	row   func(deliver func()) // delivers a row
	watch error                // error of Watch
	mute  bool                 // no node answers to Ask
}

func (b *hookedBus) Ask(ctx context.Context, topic room.Name, request []byte, answer func([]byte) bool) error {
	if b.mute {
		return nil
	}
	return b.Bus.Ask(ctx, topic, request, answer)
}

func (b *hookedBus) Last(ctx context.Context, name room.Name) (uint64, error) {
	if b.last != nil {
		return b.last()
	}
	return b.Bus.Last(ctx, name)
}

func (b *hookedBus) Read(ctx context.Context, name room.Name, after uint64) ([]backplane.Entry, bool, error) {
	if b.read != nil {
		return b.read()
	}
	return b.Bus.Read(ctx, name, after)
}

func (b *hookedBus) Subscribe(topic room.Name, h backplane.Handler) (func(), error) {
	if f := h.Entry; f != nil && b.entry != nil {
		h.Entry = func(e backplane.Entry) { b.entry(func() { f(e) }) }
	}
	return b.Bus.Subscribe(topic, h)
}

func (b *hookedBus) Watch(f func(backplane.Row)) (func(), error) {
	switch {
	case b.watch != nil:
		return nil, b.watch
	case b.row == nil:
		return b.Bus.Watch(f)
	}
	return b.Bus.Watch(func(r backplane.Row) { b.row(func() { f(r) }) })
}

// armed returns the number of armed timers.
func (c *stoppedClock) armed() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.timers {
		if t.armed {
			n++
		}
	}
	return n
}
