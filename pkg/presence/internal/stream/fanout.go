package stream

import "time"

const (
	// slice is the time after which a fan-out yields to the fan-outs of other rooms and to new
	// requests. Writing one event to a socket takes about 5 µs.
	slice = 500 * time.Microsecond
	// maxSlice is the maximum duration of a slice. If the goroutine waited longer than slice for
	// its turn, the slice is as long as the wait, up to maxSlice. The runtime's scheduler prefers
	// new requests, so the goroutine waits 10 ms for each turn in a flood of them. Working 500 µs
	// in each 10 ms would be too little, because a fan-out to 15,000 sockets takes 100 ms.
	maxSlice = 2 * time.Millisecond
	// loopGroup is the number of sockets that a loop writes to between two readings of the clock.
	loopGroup = 16
	// ringGroup is the number of sends in one system call of a loop that uses io_uring. They take
	// less than a slice. The kernel runs nothing else on the core meanwhile. ringGroupAlone is the
	// number if the loop has done nothing but deliver the events of one room for aloneTime, so that
	// no other client waits.
	//
	//	sends      CPU per delivery to bare, 5,000 and 15,000 clients   p99 of a small room beside a large one
	//	write      0.99, 0.91                                           6.2 ms
	//	64         0.77, 0.70                                           7.0 ms
	//	256        0.66, 0.59                                           12 ms
	//
	// (make bench BENCH='Uring|Ratio|Mixed' with other values)
	ringGroup      = 64
	ringGroupAlone = 256
	aloneTime      = 200 * time.Millisecond
)

// fanOuts delivers the events of all shares of one goroutine. The shares take turns, one slice
// each.
type fanOuts struct {
	tally  tally
	group  int           // sum of the costs between two readings of the clock; see receiver.deliver
	alone  int           // the same while alone; 0: group
	others time.Time     // when the goroutine last had other tasks than events of one share
	bytes  int           // maximum size of the batches of a group, which its last connection may exceed; 0: none
	settle func(*batch)  // called after each group; may be nil
	waited time.Duration // how long the goroutine waited for this round
	active []*share      // shares that have events to deliver
	spare  *fanOut       // reused for the next share without a fanOut
	batch  *batch        // reused for the next fan-out
	busy   time.Duration // total time of all slices
}

// handle executes the tasks in order.
func (f *fanOuts) handle(tasks []task) {
	others := false
	for _, t := range tasks {
		if t.do != nil {
			others = true
			t.do()
		} else {
			f.queue(t.share, t.frame)
		}
	}
	if others || len(f.active) > 1 {
		f.others = time.Now()
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
	if n := sh.now; n.since.IsZero() || !frame.since.IsZero() && frame.since.Before(n.since) {
		n.since = frame.since
	}
	if replaced := sh.now.pending.push(frame); replaced != nil {
		replaced.release()
	}
}

// round continues the fan-outs, one slice each. It returns when each fan-out has had its slice, or
// after the time of one slice.
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
		sh.now.pending.pop() // the queue is empty, so pop frees a large array
		f.spare, sh.now = sh.now, nil
	}
	if n == sharing {
		f.active = f.active[:0]
	} else {
		f.active = f.active[n:]
	}
	f.active = append(f.active, unfinished...)
}

// turn returns the maximum duration of a slice in this round.
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

// slice continues or starts the fan-out of the share, for the time of one slice. It ends before a
// group that would end later, if that takes as long as the last one.
func (f *fanOuts) slice(sh *share, sharing int) {
	start, n := time.Now(), sh.now
	if n.batch == nil {
		if n.batch, f.batch = f.batch, nil; n.batch == nil {
			n.batch = new(batch)
		}
		n.batch.fill(&n.pending)
		if n.batch.latest {
			n.batch.since, n.since = n.since, time.Time{}
		}
		sh.delivered, n.spent, n.startedAt, n.busyBefore = 0, 0, start, f.busy
	}
	now, group, limit := start, time.Duration(0), f.limit(start)
	for last := start; now.Sub(start)+group < f.turn() && sh.delivered < len(sh.conns); group, last = now.Sub(last), now {
		f.deliver(sh, limit)
		if f.settle != nil {
			f.settle(n.batch)
		}
		now = time.Now()
	}
	f.busy += now.Sub(start)
	n.spent += now.Sub(start) * time.Duration(sharing)
	f.measure(sh, now)
	if sh.delivered < len(sh.conns) {
		return
	}
	if !n.batch.since.IsZero() {
		f.tally.deliveredAt(now, n.batch.since)
	}
	for _, frame := range n.batch.frames {
		frame.release()
	}
	clear(n.batch.frames)
	f.batch, n.batch, sh.delivered, n.queuedAt = n.batch, nil, 0, now
}

// limit returns the sum of the costs of a group.
func (f *fanOuts) limit(now time.Time) int {
	if f.alone > 0 && now.Sub(f.others) > aloneTime {
		return f.alone
	}
	return f.group
}

// deliver delivers the batch to the next group of connections.
func (f *fanOuts) deliver(sh *share, limit int) {
	b := sh.now.batch
	for cost, size := 0, 0; cost < limit && (f.bytes == 0 || size < f.bytes) && sh.delivered < len(sh.conns); {
		size += b.size
		c := sh.conns[sh.delivered]
		sh.delivered++ // before deliver, because the connection may end in it
		cost += c.deliver(b)
		f.tally.events += len(b.frames)
	}
}

// measure sets the fan-out time of the share:
//
//	alone   time since the start of the fan-out, minus the slices of all rooms
//	spent   time of its own slices, each multiplied by the number of active fan-outs
//	took    min(alone + spent, time for which its events really waited)
//
// Therefore, the size of other rooms does not change the result, and the counts of many rooms
// together use no more time than those of one room.
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
