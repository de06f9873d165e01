package hub

import (
	"container/heap"
	"sync"
	"time"

	"example.com/presence/pkg/presence/room"
)

// batchTime is the minimum time between two frames on one topic.
const batchTime = 50 * time.Millisecond

// hurryTime is the minimum time between the last frame of a room and a repeat that a loss or a peer
// asks for. A peer that asks all the time causes one frame per room and second.
const hurryTime = time.Second

// outbox schedules the frames that this node publishes. It calls send for one topic after the
// other, on one goroutine, which exists only while something is due. Publishing may block, so
// callers that hold the mutex of a room only add its topic to the outbox.
//
// A second outbox, with one topic, publishes the heartbeats: they must not wait for the frames of
// many rooms. A third one runs the checks of the peers: they must not wait for a publication.
type outbox struct {
	clock Clock
	send  func(topic room.Name)

	mu     sync.Mutex // guards the fields below; no other mutex is acquired while it is held
	topics map[room.Name]*scheduled
	queue  sends // the same topics, by due time
	timer  Timer
	wake   time.Time // when the timer fires; zero: not set
	busy   bool      // run is running
	closed bool
	idle   chan struct{} // closed when run has ended after close
}

type scheduled struct {
	topic room.Name
	due   time.Time
	index int // in the queue
}

// sends is a heap by due time.
type sends []*scheduled

func (q sends) Len() int           { return len(q) }
func (q sends) Less(i, j int) bool { return q[i].due.Before(q[j].due) }
func (q sends) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}
func (q *sends) Push(x any) {
	next := x.(*scheduled)
	next.index = len(*q)
	*q = append(*q, next)
}
func (q *sends) Pop() any {
	end := len(*q) - 1
	last := (*q)[end]
	(*q)[end] = nil
	*q = (*q)[:end]
	return last
}

func newOutbox(clock Clock, send func(topic room.Name)) *outbox {
	return &outbox{clock: clock, send: send, topics: map[room.Name]*scheduled{}, idle: make(chan struct{})}
}

// add schedules a topic. If the topic is scheduled for an earlier time, add does nothing.
func (o *outbox) add(topic room.Name, due time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := o.topics[topic]
	switch {
	case o.closed || due.IsZero() || s != nil && !due.Before(s.due):
		return
	case s != nil:
		s.due = due
		heap.Fix(&o.queue, s.index)
	default:
		s = &scheduled{topic: topic, due: due}
		o.topics[topic] = s
		heap.Push(&o.queue, s)
	}
	o.armLocked()
}

// armLocked sets the timer for the first topic that is due.
func (o *outbox) armLocked() {
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

// run sends all topics that are due.
func (o *outbox) run() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.wake = time.Time{}
	if o.busy || o.closed {
		return
	}
	o.busy = true
	for !o.closed && len(o.queue) > 0 && !o.queue[0].due.After(o.clock.Now()) {
		next := heap.Pop(&o.queue).(*scheduled)
		delete(o.topics, next.topic)
		o.mu.Unlock()
		o.send(next.topic)
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
