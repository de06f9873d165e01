package stream

import "sync"

// inbox is what others have for a goroutine, in order. Adding never waits.
type inbox[T any] struct {
	wake chan struct{} // there is something; the goroutine waits for it

	mu     sync.Mutex // guards what follows
	items  []T
	closed bool
}

func newInbox[T any]() *inbox[T] { return &inbox[T]{wake: make(chan struct{}, 1)} }

// add reports whether the item was taken: it is not after close.
func (b *inbox[T]) add(item T) bool {
	added := b.put(item)
	if added {
		signal(b.wake)
	}
	return added
}

// put is add without waking the goroutine: the item waits until it wakes for another reason.
func (b *inbox[T]) put(item T) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.items = append(b.items, item)
	}
	return !b.closed
}

// take returns what was added since the last call. The slice that was
// returned then is used again.
func (b *inbox[T]) take(last []T) []T {
	clear(last) // or it would hold on to what was in it
	if cap(last) > 1024 {
		last = nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	items := b.items
	b.items = last[:0]
	return items
}

// close has add refuse what comes later.
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
