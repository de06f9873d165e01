package backplane

import "sync"

const (
	// maxBacklog is the maximum number of queued items per receiver. At the limit, Append, Ask, Put
	// and Delete wait, and publications are dropped.
	maxBacklog = 1024
	// maxTurn is the maximum number of other callers' items that one caller delivers. Without this
	// limit, a busy room would block the caller for as long as the room is busy.
	maxTurn = 64
)

// receiver processes the items of a queue. deliver calls the function of the subscription. If the
// queue has ended, discard is called instead.
type receiver[T any] interface {
	deliver(item T)
	discard(item T)
}

// queue delivers items to one receiver, one at a time and in order. It does not start a goroutine
// for this: the caller that finds the queue idle delivers its own item and the items that are added
// meanwhile.
type queue[T any] struct {
	mu      sync.Mutex // guards the rest; acquired after Memory.mu; not held during a delivery
	busy    bool       // a goroutine is delivering
	ended   bool
	backlog *backlog[T] // nil while empty, so that idle rooms need less memory
}

type backlog[T any] struct {
	items []T
	space chan struct{} // closed when the backlog has space again; nil while no caller waits
}

// add queues an item. mine reports whether the queue was idle; if it was, the caller must deliver
// the item with run. The queue must not have ended.
func (q *queue[T]) add(item T) (mine bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.busy {
		q.busy = true
		return true
	}
	if q.backlog == nil {
		q.backlog = new(backlog[T])
	}
	q.backlog.items = append(q.backlog.items, item)
	return false
}

// full returns nil if the backlog has space. Otherwise it returns a channel that is closed when the
// backlog has shrunk to half of maxBacklog.
func (q *queue[T]) full() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.backlog == nil || len(q.backlog.items) < maxBacklog {
		return nil
	}
	if q.backlog.space == nil {
		q.backlog.space = make(chan struct{})
	}
	return q.backlog.space
}

// run delivers an item for which add returned true, and then the backlog. The caller must have
// added 1 to active. The delivery counts as active until the queue is idle.
func (q *queue[T]) run(r receiver[T], item T, active *sync.WaitGroup) {
	defer q.drain(r, active) // also after a panic, which net/http recovers
	if q.isEnded() {
		r.discard(item)
	} else {
		r.deliver(item)
	}
}

// drain delivers the backlog: up to maxTurn items on this goroutine, and the rest on a new
// goroutine.
func (q *queue[T]) drain(r receiver[T], active *sync.WaitGroup) {
	defer active.Done()
	rest := true
	defer func() {
		if rest {
			active.Go(func() { // ends when the backlog is empty or the queue has ended
				for item, ok := q.next(); ok; item, ok = q.next() {
					r.deliver(item)
				}
			})
		}
	}()
	for range maxTurn {
		item, ok := q.next()
		if !ok {
			rest = false
			return
		}
		r.deliver(item)
	}
}

func (q *queue[T]) isEnded() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.ended
}

// next removes and returns the next item of the backlog. If the backlog is empty, the queue becomes
// idle.
func (q *queue[T]) next() (item T, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	b := q.backlog
	if b == nil {
		q.busy = false
		return item, false
	}
	var none T
	item, b.items[0] = b.items[0], none
	b.items = b.items[1:]
	if b.space != nil && len(b.items) <= maxBacklog/2 {
		close(b.space)
		b.space = nil
	}
	if len(b.items) == 0 {
		q.backlog = nil
	}
	return item, true
}

// end ends the queue and discards the backlog. It does not wait for a running delivery.
func (q *queue[T]) end(r receiver[T]) {
	q.mu.Lock()
	b := q.backlog
	q.ended, q.backlog = true, nil
	q.mu.Unlock()
	if b == nil {
		return
	}
	if b.space != nil {
		close(b.space)
	}
	for _, item := range b.items {
		r.discard(item)
	}
}

// listener is a queue that delivers its items to a function.
type listener[T any] struct {
	queue[T]
	call func(T)
}

func (l *listener[T]) deliver(item T) { l.call(item) }
func (l *listener[T]) discard(T)      {}

// listeners is a list of queues that all receive the same items.
type listeners[T any] []*listener[T]

// turn is an item that the caller must deliver after releasing Memory.mu.
type turn[T any] struct {
	to   *listener[T]
	item T
}

// add queues an item for all listeners. It appends to turns each delivery that the caller must make
// with run.
func (ls listeners[T]) add(item T, turns []turn[T], active *sync.WaitGroup) []turn[T] {
	for _, l := range ls {
		if l.add(item) {
			active.Add(1)
			turns = append(turns, turn[T]{l, item})
		}
	}
	return turns
}

// full returns nil if every listener has space in its backlog. Otherwise it returns the channel of
// a full listener.
func (ls listeners[T]) full() <-chan struct{} {
	for _, l := range ls {
		if full := l.full(); full != nil {
			return full
		}
	}
	return nil
}

// run makes the deliveries in turns.
func run[T any](turns []turn[T], active *sync.WaitGroup) {
	for _, t := range turns {
		t.to.run(t.to, t.item, active)
	}
}
