package hub_test

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/internal/hub"
	"example.com/presence/pkg/presence/room"
)

// clear deletes the room's log, as another node could.
func (n *node) clear(name room.Name) error { return n.bus.Clear(n.t.Context(), name) }

// countingBus records the subscriptions and watches that are not canceled.
type countingBus struct {
	backplane.Bus

	mu     sync.Mutex // guards topics
	topics []room.Name
}

// open returns the topics of the open subscriptions, sorted. A watch appears as "table".
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

// slowBus delays Append and Read, and can make Append fail.
type slowBus struct {
	backplane.Bus

	mu       sync.Mutex // guards the fields below
	delay    time.Duration
	late     bool // Read waits before it reads, not after
	err      error
	appended bool // a failed Append appends the message anyway
}

func (b *slowBus) set(delay time.Duration, late bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.delay, b.late = delay, late
}

func (b *slowBus) fail(err error, appended bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err, b.appended = err, appended
}

func (b *slowBus) Append(ctx context.Context, name room.Name, key string, data []byte) (uint64, bool, error) {
	b.mu.Lock()
	delay, err, appended := b.delay, b.err, b.appended
	b.mu.Unlock()
	time.Sleep(delay)
	if err != nil && !appended {
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

// epochBus can change its epoch, and can lose the messages of its subscriptions.
type epochBus struct {
	backplane.Bus

	mu    sync.Mutex // guards the fields below
	epoch string
	lossy bool // subscriptions lose messages
	lost  []func()

	atSubscribe string // epoch set by the next subscription; empty: no change
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
			lossy := b.lossy
			b.mu.Unlock()
			if !lossy {
				entry(e)
			}
		}
	}
	return b.Bus.Subscribe(topic, h)
}

// interrupt starts or ends the loss of messages. When the loss ends, interrupt calls Lost.
func (b *epochBus) interrupt(lossy bool) {
	b.mu.Lock()
	b.lossy = lossy
	b.mu.Unlock()
	if !lossy {
		b.change(b.Status().Epoch)
	}
}

// change sets the epoch and calls Lost, so that subscribers read the log.
func (b *epochBus) change(epoch string) {
	b.mu.Lock()
	b.epoch = epoch
	lost := b.lost
	b.mu.Unlock()
	for _, f := range lost {
		f()
	}
}

// stoppedClock is a clock that moves only when advance is called.
type stoppedClock struct {
	mu     sync.Mutex // guards the fields below and the timers
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

// advance moves the clock in steps of 10 ms and runs the timers that are due.
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

// hookedBus is a Bus that replaces some methods by functions, if they are set.
type hookedBus struct {
	backplane.Bus
	last  func() (uint64, error)
	read  func() ([]backplane.Entry, bool, error)
	entry func(deliver func()) // controls when an entry is delivered
	row   func(deliver func()) // controls when a row is delivered
	watch error                // returned by Watch
	put   error                // returned by Put
	mute  bool                 // Ask gets no answer

	silent atomic.Bool   // publications are lost
	hung   time.Duration // how long a call of Publish takes whose data is lost
}

func (b *hookedBus) silence(silent bool) { b.silent.Store(silent) }

func (b *hookedBus) Publish(ctx context.Context, topic room.Name, data []byte) error {
	if b.silent.Load() {
		time.Sleep(b.hung)
		return nil
	}
	return b.Bus.Publish(ctx, topic, data)
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

func (b *hookedBus) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	if b.put != nil {
		return b.put
	}
	return b.Bus.Put(ctx, key, value, ttl)
}

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

// lossyBus is the bus of one node of a cluster. It loses commands to the node, or the node's
// answers.
type lossyBus struct {
	backplane.Bus

	mu     sync.Mutex // guards the fields below
	fate   func(request string) fate
	asked  int  // number of commands that the node was sent
	off    bool // the engine is not connected
	silent bool // nothing that the node publishes is delivered
	deaf   bool // the node receives no publication
}

// fate describes the losses of a command that a node was sent, and to its answer.
type fate struct {
	lost bool          // the node does not receive the command
	mute bool          // the node's answer is lost
	late time.Duration // the node receives the command late, and its answer is lost
}

// set replaces the fate of all commands, and resets the number of commands, once all commands that
// have begun have ended.
func (b *lossyBus) set(f func(request string) fate) {
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fate, b.asked = f, 0
}

// count returns the number of commands since the last call of set.
func (b *lossyBus) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.asked
}

// change calls f, which may set off, silent and deaf, once all deliveries that have begun have
// ended.
func (b *lossyBus) change(f func()) {
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
}

func (b *lossyBus) Subscribe(topic room.Name, h backplane.Handler) (func(), error) {
	if message := h.Message; message != nil {
		h.Message = func(data []byte) {
			b.mu.Lock()
			deaf := b.deaf
			b.mu.Unlock()
			if !deaf {
				message(data)
			}
		}
	}
	if ask := h.Ask; ask != nil {
		h.Ask = func(request []byte) []byte {
			b.mu.Lock()
			b.asked++
			var f fate
			if b.fate != nil {
				f = b.fate(string(request))
			}
			b.mu.Unlock()
			switch {
			case f.lost:
				return nil
			case f.late > 0:
				time.AfterFunc(f.late, func() { ask(request) })
				return nil
			}
			if answer := ask(request); !f.mute {
				return answer
			}
			return nil
		}
	}
	return b.Bus.Subscribe(topic, h)
}

func (b *lossyBus) Publish(ctx context.Context, topic room.Name, data []byte) error {
	b.mu.Lock()
	silent := b.silent
	b.mu.Unlock()
	if silent {
		return nil
	}
	return b.Bus.Publish(ctx, topic, data)
}

func (b *lossyBus) Status() backplane.Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.Bus.Status()
	s.Connected = s.Connected && !b.off
	return s
}

// openCluster opens nodes that share a memory bus, and waits until they know each other.
func openCluster(t *testing.T, n int, change ...func(*hub.Config)) (nodes []*node, buses []*lossyBus) {
	t.Helper()
	bus := sharedMemory()
	for range n {
		b := &lossyBus{Bus: bus}
		buses, nodes = append(buses, b), append(nodes, openNode(t, b, change...))
	}
	time.Sleep(2 * time.Second)
	return nodes, buses
}

// once returns a function that returns f for the first command, and the zero fate for the others.
func once(f fate) func(string) fate {
	first := true
	return func(string) (result fate) {
		if first {
			result, first = f, false
		}
		return result
	}
}
