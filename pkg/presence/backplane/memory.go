package backplane

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"sync"
	"time"
)

// sweepDelay is how long an expired entry or key may stay in memory. Because of the delay, one
// timer run can remove many of them.
const sweepDelay = 30 * time.Second

// Defaults of MemoryConfig.
const (
	defaultKeys = 1 << 20
	defaultRows = 100_000
)

// MemoryConfig sets the limits of a [Memory]. With the zero value, the log keeps no messages.
type MemoryConfig struct {
	Messages int           // Maximum entries per room. 0 keeps no entries.
	Age      time.Duration // Maximum age of an entry. 0 keeps no entries.
	// Bytes is the memory limit for the entries of all rooms together. Each entry counts as the
	// size of its data plus 200 bytes. Each sender of a room with entries of this sender counts as
	// the size of its user id plus 200 bytes. 0 keeps no entries.
	//
	// At the limit, the sender that uses the most bytes over all rooms loses entries first. In the
	// room in which it uses the most bytes, the oldest entry is evicted, also if that entry is from
	// another sender. This is repeated until the limit is met.
	Bytes   int
	MaxKeys int // Maximum idempotency keys within KeyAge, at 100 bytes per key. Default: 1048576.
	MaxRows int // Maximum rows in the table. Default: 100000.
	// Shared must be true if several hubs of the process use the bus. They then count each other's
	// connections, as nodes on a network do.
	Shared bool

	// Full is called after each Append that evicted entries at the limit Bytes. It may be called
	// concurrently, and it must not block. Default: none.
	Full func()

	// Now returns the current time. Default: time.Now.
	Now func() time.Time
	// AfterFunc calls f once after the duration d, on a separate goroutine and not before AfterFunc
	// has returned. stop prevents the call if it has not begun. Default: time.AfterFunc.
	AfterFunc func(d time.Duration, f func()) (stop func() bool)
}

// MemoryStats contains the current sizes of a [Memory].
type MemoryStats struct {
	Bytes int // Memory used by the entries of all rooms, counted as for MemoryConfig.Bytes.
	Keys  int // Number of idempotency keys.
	Rows  int // Number of rows in the table.

	// Evictions is the total of the entries that were evicted at the limit MemoryConfig.Bytes.
	Evictions uint64
}

// Memory is a [Bus] within one process: its log and its table are lost when the process exits.
// Several hubs in the process may use it if MemoryConfig.Shared is set. It stays connected until
// Close.
//
// Positions have gaps only where a room's log was dropped. A room's log is dropped when the last
// subscription of the room ends. If the room has no subscription, its log is dropped when the last
// entry is removed.
//
// The caller of Publish, Append, Ask, Put or Delete delivers to each idle subscription. When the
// backlog of a subscription reaches 1,024 deliveries, Append, Ask, Put and Delete wait, whereas
// Publish drops its message and causes a call of Lost. Because callers wait, this limit bounds each
// backlog. Only the backlog of a watcher may grow further, by the deletions of up to MaxRows
// expired rows.
type Memory struct {
	shared    bool
	full      func() // may be nil
	now       func() time.Time
	afterFunc func(time.Duration, func()) func() bool
	active    sync.WaitGroup // counts running deliveries; incremented under mu and only before closed is set

	mu        sync.Mutex // guards the fields below; not held during a delivery
	epoch     string
	topics    topics
	keys      keys
	table     table
	watchers  listeners[Row]
	notifiers listeners[Status]
	losing    int // number of running calls of Lose
	closed    bool
	due       time.Time   // when the timer calls expire; zero if no timer is set
	stop      func() bool // stops that timer
	timers    uint64      // number of timers set so far; expire ignores the calls of older timers
}

// NewMemory returns an empty bus with a new epoch. Close releases its memory.
func NewMemory(c MemoryConfig) *Memory {
	if c.MaxKeys <= 0 {
		c.MaxKeys = defaultKeys
	}
	if c.MaxRows <= 0 {
		c.MaxRows = defaultRows
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.AfterFunc == nil {
		c.AfterFunc = func(d time.Duration, f func()) func() bool { return time.AfterFunc(d, f).Stop }
	}
	m := &Memory{
		shared:    c.Shared,
		full:      c.Full,
		now:       c.Now,
		afterFunc: c.AfterFunc,
		epoch:     newEpoch(),
		topics:    topics{logs: logs{messages: c.Messages, age: c.Age, limit: c.Bytes}},
		keys:      newKeys(c.MaxKeys),
		table:     newTable(c.MaxRows),
	}
	m.topics.logs.init()
	m.topics.logs.emptied = m.topics.release
	return m
}

func newEpoch() string {
	var b [5]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// lock acquires the lock, unless the bus is closed or ctx has ended. In these cases it returns an
// error.
func (m *Memory) lock(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return ErrClosed
	}
	return nil
}

// lockWithSpace acquires the lock once full returns nil. While full returns a channel,
// lockWithSpace releases the lock and waits until that channel is closed. It calls full with the
// lock held.
func (m *Memory) lockWithSpace(ctx context.Context, full func() <-chan struct{}) error {
	for {
		if err := m.lock(ctx); err != nil {
			return err
		}
		wait := full()
		if wait == nil {
			return nil
		}
		m.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Shared implements [Bus].
func (m *Memory) Shared() bool { return m.shared }

// Status implements [Bus]. Connected is true until Close.
func (m *Memory) Status() Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.statusLocked()
}

func (m *Memory) statusLocked() Status { return Status{Epoch: m.epoch, Connected: !m.closed} }

// Stats returns the current sizes. Expired entries and keys are not counted.
func (m *Memory) Stats() MemoryStats {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	m.topics.logs.expire(now)
	m.keys.expire(now)
	return MemoryStats{Bytes: m.topics.logs.bytes, Keys: len(m.keys.positions), Rows: len(m.table.rows),
		Evictions: m.topics.logs.evictions}
}

// Close implements [Bus].
func (m *Memory) Close() {
	m.mu.Lock()
	if !m.closed {
		m.closed = true
		for tp := range m.topics.byName.All() {
			for s := tp.first; s != nil; s = s.next {
				s.end(s)
			}
		}
		for _, w := range m.watchers {
			w.end(w)
		}
		for _, n := range m.notifiers {
			n.end(n)
		}
		if m.stop != nil {
			m.stop()
		}
		m.topics, m.keys, m.table = topics{}, keys{}, table{}
		m.topics.logs.init()
		m.watchers, m.notifiers, m.stop = nil, nil, nil
	}
	m.mu.Unlock()
	m.active.Wait()
}
