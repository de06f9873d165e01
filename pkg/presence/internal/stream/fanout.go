package stream

import "time"

const (
	// slice is the time after which a fan-out yields to those of other rooms and to new requests. A
	// write of one event to a socket takes some 5 µs.
	slice = 500 * time.Microsecond
	// maxSlice bounds a slice that is longer because the goroutine had to wait for its turn: it is
	// as long as that wait. In a flood of requests, which the runtime's scheduler prefers, it has
	// to wait 10 ms, and 500 µs of each 10 ms would be too little: a fan-out to 15,000 sockets
	// takes 100 ms.
	maxSlice = 2 * time.Millisecond
	// loopGroup is the number of sockets that a loop writes to between two readings of the clock.
	loopGroup = 16
)

// fanOuts delivers the events of one goroutine's shares, a slice of each in turn.
type fanOuts struct {
	group  int           // connections between two readings of the clock; see deliver
	settle func()        // called after each group; may be nil
	waited time.Duration // for the turn of this round
	active []*share      // have events to deliver
	spare  *fanOut       // for the next share that has none
	batch  *batch        // for the next fan-out
	busy   time.Duration // in all slices
}

// handle handles the tasks in order.
func (f *fanOuts) handle(tasks []task) {
	for _, t := range tasks {
		if t.do != nil {
			t.do()
		} else {
			f.queue(t.share, t.frame)
		}
	}
}

// queue adds the frame to the share's next fan-out.
func (f *fanOuts) queue(sh *share, frame *frame) {
	if sh.now == nil {
		if sh.now, f.spare = f.spare, nil; sh.now == nil {
			sh.now = new(fanOut)
		}
		sh.now.queuedAt = time.Now()
		f.active = append(f.active, sh)
	}
	if replaced := sh.now.pending.push(frame); replaced != nil {
		replaced.release()
	}
}

// round continues the fan-outs, a slice of each, until the time of a slice has passed or each has
// had its turn.
func (f *fanOuts) round() {
	start, sharing := time.Now(), len(f.active)
	var unfinished []*share
	n := 0
	for n < sharing && (n == 0 || time.Since(start) < f.turn()) {
		sh := f.active[n]
		f.active[n] = nil
		n++
		f.slice(sh, sharing)
		if sh.now.batch != nil || sh.now.pending.len() > 0 {
			unfinished = append(unfinished, sh)
			continue
		}
		sh.now.pending.pop() // frees a large array, as the queue is empty
		f.spare, sh.now = sh.now, nil
	}
	if n == sharing {
		f.active = f.active[:0]
	} else {
		f.active = f.active[n:]
	}
	f.active = append(f.active, unfinished...)
}

// turn returns the time of a slice.
func (f *fanOuts) turn() time.Duration { return min(max(slice, f.waited), maxSlice) }

// yield lets ready goroutines and new requests run.
func (f *fanOuts) yield(y *yielder) {
	start := time.Now()
	y.yield()
	f.waited = time.Since(start)
}

// finish completes all fan-outs.
func (f *fanOuts) finish() {
	for len(f.active) > 0 {
		f.round()
	}
}

// slice continues the share's fan-out, or begins one.
func (f *fanOuts) slice(sh *share, sharing int) {
	start, n := time.Now(), sh.now
	if n.batch == nil {
		if n.batch, f.batch = f.batch, nil; n.batch == nil {
			n.batch = new(batch)
		}
		n.batch.fill(&n.pending)
		sh.delivered, n.spent, n.startedAt, n.busyBefore = 0, 0, start, f.busy
	}
	now := start
	for now.Sub(start) < f.turn() && sh.delivered < len(sh.conns) {
		f.deliver(sh)
		if f.settle != nil {
			f.settle()
		}
		now = time.Now()
	}
	f.busy += now.Sub(start)
	n.spent += now.Sub(start) * time.Duration(sharing)
	f.measure(sh, now)
	if sh.delivered < len(sh.conns) {
		return
	}
	for _, frame := range n.batch.frames {
		frame.release()
	}
	clear(n.batch.frames)
	f.batch, n.batch, sh.delivered, n.queuedAt = n.batch, nil, 0, now
}

// deliver delivers the batch to the next group of connections: of a loop, no more than maxBatch bytes
// and one connection.
func (f *fanOuts) deliver(sh *share) {
	b := sh.now.batch
	for n, size := 0, 0; n < f.group && (size < maxBatch || f.settle != nil) && sh.delivered < len(sh.conns); n++ {
		size += b.size
		c := sh.conns[sh.delivered]
		sh.delivered++ // before the delivery, in which the connection may end
		c.deliver(b)
	}
}

// measure sets the share's fan-out time: the time since the fan-out began, without the slices of
// other rooms. Its own slices are multiplied by the number of fan-outs that share the goroutine,
// but the result is never longer than its events really waited. So the size of other rooms does not
// change it, and the counts of many rooms together take no more time than those of one.
func (f *fanOuts) measure(sh *share, now time.Time) {
	n := sh.now
	if !n.batch.timed {
		return
	}
	alone := now.Sub(n.startedAt) - (f.busy - n.busyBefore)
	took := min(n.spent+alone, now.Sub(n.queuedAt))
	if sh.delivered == len(sh.conns) {
		sh.lastTime = took
	}
	sh.fanOutTime.Store(int64(max(sh.lastTime, took)))
}
