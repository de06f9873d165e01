package hub_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/internal/hub"
	"example.com/presence/pkg/presence/room"
)

// clusterBus is one node's access to a log that several nodes use. Its faults concern this node
// only.
type clusterBus struct {
	backplane.Bus

	mu      sync.Mutex // guards the fields below
	loses   bool       // entries are not delivered, and Lost does not follow
	holds   bool       // entries are delivered only when release is called
	held    []func()
	lost    []func()
	off     bool          // not connected
	delay   time.Duration // of Read and Last
	early   bool          // Read reads before the delay, not after it
	err     error         // returned by Read and Last
	stale   bool          // Read and Last return the state at the call of stop
	stopped map[room.Name][]backplane.Entry
	reads   []uint64                                             // the positions of all calls of Read
	lasts   int                                                  // number of calls of Last
	append  func(ctx context.Context, accept func() error) error // replaces Append; accept appends the message
	keys    []string                                             // the keys of all calls of Append
}

// sharedMemory returns a log for several nodes.
func sharedMemory() *backplane.Memory {
	return backplane.NewMemory(backplane.MemoryConfig{Messages: 100, Age: time.Minute, Bytes: 1 << 20, Shared: true})
}

// withRings sets the limits of the rings.
func withRings(c *hub.Config) {
	c.RingMessages, c.RingAge, c.RingBytes = 100, time.Minute, 1<<20
}

// openShared opens a node of a cluster that uses the log.
func openShared(t *testing.T, log backplane.Bus, change ...func(*hub.Config)) (*node, *clusterBus) {
	bus := &clusterBus{Bus: log}
	return openNode(t, bus, append([]func(*hub.Config){withRings}, change...)...), bus
}

// set changes the faults, once all deliveries that have begun have ended.
func (b *clusterBus) set(change func()) {
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	change()
}

// silently runs f while entries are lost without a call of Lost.
func (b *clusterBus) silently(f func()) {
	b.set(func() { b.loses = true })
	f()
	b.set(func() { b.loses = false })
}

// answerLate makes Append accept the messages at once, and return after d.
func (b *clusterBus) answerLate(d time.Duration) {
	b.set(func() {
		b.append = func(_ context.Context, accept func() error) error {
			defer time.Sleep(d)
			return accept()
		}
	})
}

// release delivers the entries that were held.
func (b *clusterBus) release() {
	b.mu.Lock()
	held := b.held
	b.held, b.holds = nil, false
	b.mu.Unlock()
	for _, deliver := range held {
		deliver()
	}
}

// interrupt calls Lost for all subscriptions.
func (b *clusterBus) interrupt() {
	b.mu.Lock()
	lost := b.lost
	b.mu.Unlock()
	for _, f := range lost {
		f()
	}
}

// stop makes Read and Last return the present state of the room's log from now on.
func (b *clusterBus) stop(name room.Name) {
	entries, _, _ := b.Bus.Read(context.Background(), name, 0)
	b.set(func() { b.stale, b.stopped = true, map[room.Name][]backplane.Entry{name: entries} })
}

// takeReads returns the number of calls of Read since the last call.
func (b *clusterBus) takeReads() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := len(b.reads)
	b.reads = nil
	return n
}

func (b *clusterBus) Status() backplane.Status {
	s := b.Bus.Status()
	b.mu.Lock()
	defer b.mu.Unlock()
	s.Connected = s.Connected && !b.off
	return s
}

func (b *clusterBus) Subscribe(topic room.Name, h backplane.Handler) (func(), error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if h.Lost != nil {
		b.lost = append(b.lost, h.Lost)
	}
	if entry := h.Entry; entry != nil {
		h.Entry = func(e backplane.Entry) {
			b.mu.Lock()
			loses, holds := b.loses || b.off, b.holds
			if holds && !loses {
				b.held = append(b.held, func() { entry(e) })
			}
			b.mu.Unlock()
			if !loses && !holds {
				entry(e)
			}
		}
	}
	return b.Bus.Subscribe(topic, h)
}

func (b *clusterBus) Read(ctx context.Context, name room.Name, after uint64) (entries []backplane.Entry, complete bool, err error) {
	b.mu.Lock()
	b.reads = append(b.reads, after)
	delay, early := b.delay, b.early
	err = b.faultLocked()
	b.mu.Unlock()
	if early {
		defer time.Sleep(delay)
	} else if delay > 0 { // a timer that is due already could crash the race detector
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return nil, false, ctx.Err()
		}
	}
	b.mu.Lock()
	stale, stopped := b.stale, b.stopped[name]
	b.mu.Unlock()
	if err != nil {
		return nil, false, b.wait(err)
	}
	if !stale {
		return b.Bus.Read(ctx, name, after)
	}
	for _, e := range stopped {
		complete = complete || e.Position == after
		if e.Position > after {
			entries = append(entries, e)
		}
	}
	return entries, complete, nil
}

// wait waits before the error is returned if the engine is not connected.
func (b *clusterBus) wait(err error) error {
	if errors.Is(err, backplane.ErrUnavailable) {
		time.Sleep(time.Second)
	}
	return err
}

func (b *clusterBus) faultLocked() error {
	if b.off {
		return backplane.ErrUnavailable
	}
	return b.err
}

func (b *clusterBus) Last(ctx context.Context, name room.Name) (uint64, error) {
	b.mu.Lock()
	b.lasts++
	err, stale, stopped, delay := b.faultLocked(), b.stale, b.stopped[name], b.delay
	b.mu.Unlock()
	time.Sleep(delay)
	switch {
	case err != nil:
		return 0, b.wait(err)
	case stale:
		return stopped[len(stopped)-1].Position, nil
	}
	return b.Bus.Last(ctx, name)
}

func (b *clusterBus) Append(ctx context.Context, name room.Name, key string, data []byte) (position uint64, duplicate bool, err error) {
	b.mu.Lock()
	replace := b.append
	b.keys = append(b.keys, key)
	b.mu.Unlock()
	accept := func() error {
		position, duplicate, err = b.Bus.Append(ctx, name, key, data)
		return err
	}
	if replace == nil {
		accept()
		return position, duplicate, err
	}
	if err := replace(ctx, accept); err != nil {
		return 0, false, err
	}
	return position, duplicate, nil
}

// sparseBus is a log whose positions have gaps: only every tenth position has an entry.
type sparseBus struct{ backplane.Bus }

func (b *sparseBus) Subscribe(topic room.Name, h backplane.Handler) (func(), error) {
	if entry := h.Entry; entry != nil {
		h.Entry = func(e backplane.Entry) { e.Position *= 10; entry(e) }
	}
	return b.Bus.Subscribe(topic, h)
}

func (b *sparseBus) Append(ctx context.Context, name room.Name, key string, data []byte) (uint64, bool, error) {
	position, duplicate, err := b.Bus.Append(ctx, name, key, data)
	return position * 10, duplicate, err
}

func (b *sparseBus) Read(ctx context.Context, name room.Name, after uint64) ([]backplane.Entry, bool, error) {
	entries, complete, err := b.Bus.Read(ctx, name, after/10)
	for i := range entries {
		entries[i].Position *= 10
	}
	return entries, complete && after%10 == 0, err
}

func (b *sparseBus) Last(ctx context.Context, name room.Name) (uint64, error) {
	last, err := b.Bus.Last(ctx, name)
	return last * 10, err
}
