package backplane

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"sync"
	"time"

	"example.com/presence/pkg/presence/room"
)

// sweepDelay is how long an expired entry or key may stay in memory. The delay lets one timer run
// remove many of them.
const sweepDelay = 30 * time.Second

// MemoryConfig bounds a [Memory]. The zero value keeps no messages.
type MemoryConfig struct {
	Messages int           // Maximum entries per room. 0 keeps none.
	Age      time.Duration // Maximum age of an entry. 0 keeps none.
	// Bytes is the memory limit for the entries of all rooms together. Each entry counts its data
	// plus 200 bytes. At the limit the oldest entry of all rooms is evicted. 0 keeps none.
	Bytes   int
	MaxKeys int // Maximum idempotency keys within KeyAge; 100 bytes each. Default: 1048576.
	MaxRows int // Maximum rows of the table. Default: 100000.

	// Now is the clock. Default: time.Now.
	Now func() time.Time
	// AfterFunc calls f once, after d, on a separate goroutine and not before AfterFunc has
	// returned. stop prevents the call if it has not begun. Default: time.AfterFunc.
	AfterFunc func(d time.Duration, f func()) (stop func() bool)
}

// MemoryStats are the current sizes of a [Memory].
type MemoryStats struct {
	Bytes int // Bytes of the entries of all rooms.
	Keys  int // Idempotency keys.
	Rows  int // Rows of the table.
}

// Memory is the [Bus] of one process: its log and its table end with the process. Several hubs of
// one process may share it. It is always connected.
//
// Positions have gaps only where a room's log was dropped. A log is dropped when the last
// subscription of its room ends. In a room without subscription it is dropped when its last entry
// leaves the log.
//
// The caller of Publish, Append, Ask, Put or Delete delivers to each idle subscription. When the
// backlog of a subscription reaches 1,024 deliveries, Append, Ask, Put and Delete wait, and Publish
// drops its message and causes a call of Lost. Because callers wait, this limit bounds each
// backlog. That of a watcher may also hold the ends of up to MaxRows expired rows.
type Memory struct {
	now       func() time.Time
	afterFunc func(time.Duration, func()) func() bool
	active    sync.WaitGroup // goroutines that deliver; added to under mu before closed is set

	mu        sync.Mutex // guards the fields below; nothing is delivered while it is held
	epoch     string
	topics    topics
	keys      keys
	table     table
	watchers  listeners[Row]
	notifiers listeners[Status]
	losing    int // running calls of Lose
	closed    bool
	due       time.Time   // when expire is called; zero without a timer
	stop      func() bool // stops the timer of due
	timers    uint64      // number of timers set so far; expire of an older one does nothing
}

// NewMemory returns an empty memory bus with a new epoch. Close frees its memory.
func NewMemory(c MemoryConfig) *Memory {
	if c.MaxKeys <= 0 {
		c.MaxKeys = 1 << 20
	}
	if c.MaxRows <= 0 {
		c.MaxRows = 100_000
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.AfterFunc == nil {
		c.AfterFunc = func(d time.Duration, f func()) func() bool { return time.AfterFunc(d, f).Stop }
	}
	m := &Memory{
		now:       c.Now,
		afterFunc: c.AfterFunc,
		epoch:     newEpoch(),
		topics: topics{
			logs:   logs{messages: c.Messages, age: c.Age, limit: c.Bytes},
			byName: map[room.Name]*topic{},
		},
		keys:  newKeys(c.MaxKeys),
		table: newTable(c.MaxRows),
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

// lock takes the lock, unless the bus is closed or ctx has ended.
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

// lockWithSpace takes the lock once full returns nil. Until then it waits for the channel that full
// returns. full is called with the lock held.
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

// Status implements [Bus]. Connected is true until Close.
func (m *Memory) Status() Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.statusLocked()
}

func (m *Memory) statusLocked() Status { return Status{Epoch: m.epoch, Connected: !m.closed} }

// Stats returns the current sizes, without expired entries and keys.
func (m *Memory) Stats() MemoryStats {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	m.topics.logs.expire(now)
	m.keys.expire(now)
	return MemoryStats{Bytes: m.topics.logs.bytes, Keys: len(m.keys.positions), Rows: len(m.table.rows)}
}

// Close implements [Bus].
func (m *Memory) Close() {
	m.mu.Lock()
	if !m.closed {
		m.closed = true
		for _, tp := range m.topics.byName {
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
