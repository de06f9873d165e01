package hub

import (
	"container/heap"
	"sync"
	"time"

	"example.com/presence/pkg/presence/room"
)

// batchTime is the minimum time between two frames on one topic.
const batchTime = 50 * time.Millisecond

// outbox schedules the frames that this node publishes. It calls send for one topic after the
// other, on one goroutine, which exists only while something is due. Publishing may block, so
// callers that hold the mutex of a room only add its topic to the outbox.
type outbox struct {
	clock Clock
	send  func(topic room.Name, due time.Time)

	mu     sync.Mutex // guards the fields below; no other mutex is acquired while it is held
	due    map[room.Name]time.Time
	queue  sends
	timer  Timer
	wake   time.Time // when the timer fires; zero: not set
	busy   bool      // run is running
	closed bool
	idle   chan struct{} // closed when run has ended after close
}

type scheduled struct {
	topic room.Name
	due   time.Time
}

// sends is a heap by due time. It may contain outdated items.
type sends []scheduled

func (q sends) Len() int           { return len(q) }
func (q sends) Less(i, j int) bool { return q[i].due.Before(q[j].due) }
func (q sends) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *sends) Push(x any)        { *q = append(*q, x.(scheduled)) }
func (q *sends) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

func newOutbox(clock Clock, send func(room.Name, time.Time)) *outbox {
	return &outbox{clock: clock, send: send, due: map[room.Name]time.Time{}, idle: make(chan struct{})}
}

// add schedules a topic. If the topic is scheduled for an earlier time, add does nothing.
func (o *outbox) add(topic room.Name, due time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if at, there := o.due[topic]; o.closed || due.IsZero() || there && !due.Before(at) {
		return
	}
	o.due[topic] = due
	heap.Push(&o.queue, scheduled{topic, due})
	o.armLocked()
}

// armLocked sets the timer for the first topic that is due.
func (o *outbox) armLocked() {
	o.dropOutdatedLocked()
	if o.busy || o.closed || len(o.queue) == 0 {
		return
	}
	first := o.queue[0].due
	if !o.wake.IsZero() && !first.Before(o.wake) {
		return
	}
	o.wake = first
	if wait := first.Sub(o.clock.Now()); o.timer == nil {
		o.timer = o.clock.AfterFunc(wait, o.run)
	} else {
		o.timer.Reset(wait)
	}
}

func (o *outbox) dropOutdatedLocked() {
	for len(o.queue) > 0 && !o.due[o.queue[0].topic].Equal(o.queue[0].due) {
		heap.Pop(&o.queue)
	}
}

// run sends all topics that are due.
func (o *outbox) run() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.wake = time.Time{}
	if o.busy || o.closed {
		return
	}
	o.busy = true
	for !o.closed {
		o.dropOutdatedLocked()
		if len(o.queue) == 0 || o.queue[0].due.After(o.clock.Now()) {
			break
		}
		next := heap.Pop(&o.queue).(scheduled)
		delete(o.due, next.topic)
		o.mu.Unlock()
		o.send(next.topic, next.due)
		o.mu.Lock()
	}
	o.busy = false
	if o.closed {
		close(o.idle)
	}
	o.armLocked()
}

// close ends the outbox. It waits until the running send has returned.
func (o *outbox) close() {
	o.mu.Lock()
	if o.timer != nil {
		o.timer.Stop()
	}
	busy := o.busy
	o.closed = true
	o.mu.Unlock()
	if busy {
		<-o.idle
	}
}
