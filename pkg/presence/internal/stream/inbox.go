package stream

import "sync"

// inbox is an ordered queue of work for one goroutine. Adding an item does not block.
type inbox[T any] struct {
	wake chan struct{} // signalled when there are items; the goroutine waits for it

	mu     sync.Mutex // guards items and closed
	items  []T
	closed bool
}

func newInbox[T any]() *inbox[T] { return &inbox[T]{wake: make(chan struct{}, 1)} }

// add appends an item and wakes the goroutine. After close, it adds nothing and returns false.
func (b *inbox[T]) add(item T) bool {
	added := b.put(item)
	if added {
		signal(b.wake)
	}
	return added
}

// put is like add, but does not wake the goroutine. The goroutine handles the item when something
// else wakes it.
func (b *inbox[T]) put(item T) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.items = append(b.items, item)
	}
	return !b.closed
}

// take returns the items added since the last call. The caller passes the result of that call as
// last, so that take can reuse its memory.
func (b *inbox[T]) take(last []T) []T {
	clear(last) // otherwise, the old items would stay in memory
	if cap(last) > 1024 {
		last = nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	items := b.items
	b.items = last[:0]
	return items
}

// close makes later calls of add and put fail.
func (b *inbox[T]) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
}

func signal(wake chan struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}
