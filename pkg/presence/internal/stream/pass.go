package stream

import (
	"slices"
	"sync/atomic"
	"time"
)

const (
	// slice is the time after which a pass yields to the passes of other rooms and to new requests. A
	// socket takes a write of one event in some 5 µs.
	slice = 500 * time.Microsecond
	// writes is how many sockets a loop writes to between two looks at the clock.
	writes = 16
	// maxSlice bounds a slice that is longer because the goroutine had to wait for its turn: it is as
	// long as that wait. In a flood of requests, which the runtime's scheduler prefers, it has to wait 10 ms,
	// and 500 µs of each 10 ms would be too little: a pass over 15,000 sockets takes 100 ms.
	maxSlice = 2 * time.Millisecond
)

// receiver is a connection of a share.
type receiver interface {
	// deliver sends it the frames of the batch that are above its place. It does not wait.
	deliver(*batch)
	seat() *seat
}

// seat is a connection's place in a share.
type seat struct {
	share *share // nil while it gets no shared events
	place uint64 // the number of the last event before it came
	at    int32  // in share.conns
}

// share is the connections of one Stream that one goroutine serves: a loop, or a waker. That
// goroutine alone touches it, but for the fields that say otherwise.
//
// Events gather in pending. A pass takes a batch of them and delivers it to each connection in one
// write. It is divided into slices, between which connections come and go: those before done have
// the batch, those from done on do not.
type share struct {
	inbox    *inbox[task] // of the goroutine
	attached int          // guarded by the Stream's lock
	took     atomic.Int64 // nanoseconds of the last pass with a count, or of the one under way if that is longer

	conns   []receiver
	done    int
	pending queue
	batch   *batch        // of the pass under way; nil if there is none
	last    time.Duration // duration of the last pass
	since   time.Time     // when the events of this pass, or of the next, began to wait
	began   time.Time     // when the pass under way began
	before  time.Duration // passes.busy then
	spent   time.Duration // in the slices of this pass, each times the passes that shared the goroutine
	active  bool          // it stands in passes.active
}

// task is a request to a goroutine with shares: to call do, or to deliver a frame to a share.
type task struct {
	share *share
	frame *frame
	do    func()
}

// take has a frame delivered to the share's connections.
func (sh *share) take(f *frame) {
	f.hold()
	if !sh.inbox.add(task{share: sh, frame: f}) {
		f.release()
	}
}

// attach adds a connection, which gets the events above its place.
func (sh *share) attach(c receiver, place uint64) {
	s := c.seat()
	s.share, s.place, s.at = sh, place, int32(len(sh.conns))
	sh.conns = append(sh.conns, c)
	if sh.batch != nil { // of events that were published before it came
		sh.put(len(sh.conns)-1, sh.conns[sh.done])
		sh.put(sh.done, c)
		sh.done++
	}
}

// detach removes a connection, which gets no more shared events.
func (s *seat) detach() {
	sh := s.share
	if sh == nil {
		return
	}
	s.share = nil
	at, last := int(s.at), len(sh.conns)-1
	if at < sh.done { // the gap moves to the end of those that have the batch
		sh.done--
		sh.put(at, sh.conns[sh.done])
		at = sh.done
	}
	if at < last {
		sh.put(at, sh.conns[last])
	}
	sh.conns[last] = nil
	sh.conns = sh.conns[:last]
	if cap(sh.conns) > 64 && last < cap(sh.conns)/4 {
		sh.conns = append(make([]receiver, 0, 2*last), sh.conns...)
	}
}

func (sh *share) put(at int, c receiver) {
	sh.conns[at] = c
	c.seat().at = int32(at)
}

// rest returns the events that a connection does not have yet: of the pass under way, and pending.
func (s *seat) rest() (frames []*frame) {
	sh := s.share
	if sh == nil {
		return nil
	}
	if sh.batch != nil && int(s.at) >= sh.done {
		frames = append(frames, sh.batch.frames...)
	}
	for f := range sh.pending.all() {
		frames = append(frames, f)
	}
	return slices.DeleteFunc(frames, func(f *frame) bool { return f.number <= s.place })
}

// passes are the passes of one goroutine's shares, a slice of each in turn.
type passes struct {
	group  int           // connections between two looks at the clock; fewer with large events, but for writers
	settle func()        // called after each group; may be nil
	waited time.Duration // for the turn of this round
	active []*share      // have events to deliver
	spare  *batch        // for the next pass
	busy   time.Duration // in all slices
}

// take handles the tasks in order.
func (p *passes) take(tasks []task) {
	for _, t := range tasks {
		if t.do != nil {
			t.do()
		} else {
			p.gather(t.share, t.frame)
		}
	}
}

// gather queues the frame for the share's next pass.
func (p *passes) gather(sh *share, f *frame) {
	if out := sh.pending.push(f); out != nil {
		out.release()
	}
	if !sh.active {
		sh.active, sh.since = true, time.Now()
		p.active = append(p.active, sh)
	}
}

// round continues the passes, a slice of each, until a slice is over or each has had its turn.
func (p *passes) round() {
	start, sharing := time.Now(), len(p.active)
	var unfinished []*share
	n := 0
	for n < sharing && (n == 0 || time.Since(start) < p.turn()) {
		sh := p.active[n]
		p.active[n] = nil
		n++
		p.slice(sh, sharing)
		if sh.batch != nil || sh.pending.len() > 0 {
			unfinished = append(unfinished, sh)
			continue
		}
		sh.active = false
		sh.pending.pop() // it is empty, and drops a large array
	}
	if n == sharing {
		p.active = p.active[:0]
	} else {
		p.active = p.active[n:]
	}
	p.active = append(p.active, unfinished...)
}

// turn is how long a slice is.
func (p *passes) turn() time.Duration { return min(max(slice, p.waited), maxSlice) }

// yield lets ready goroutines and new requests run.
func (p *passes) yield(b *bell) {
	start := time.Now()
	b.yield()
	p.waited = time.Since(start)
}

// finish completes all passes.
func (p *passes) finish() {
	for len(p.active) > 0 {
		p.round()
	}
}

// slice continues the share's pass. The duration of a pass is the time since it began, without the
// slices of other rooms. Its own slices are multiplied by the number of passes that share the
// goroutine, but never to more than the real wait of its events. So the size of other rooms does not
// change it, and the counts of many rooms together take no more of the time than those of one.
func (p *passes) slice(sh *share, sharing int) {
	start := time.Now()
	if sh.batch == nil {
		sh.batch, p.spare = p.spare, nil
		if sh.batch == nil {
			sh.batch = new(batch)
		}
		sh.batch.fill(&sh.pending)
		sh.done, sh.spent, sh.began, sh.before = 0, 0, start, p.busy
	}
	now := start
	for now.Sub(start) < p.turn() && sh.done < len(sh.conns) {
		for n, size := 0, 0; n < p.group && (size < maxBatch || p.settle != nil) && sh.done < len(sh.conns); n++ {
			size += sh.batch.size
			c := sh.conns[sh.done]
			sh.done++ // before the delivery, in which it may end
			c.deliver(sh.batch)
		}
		if p.settle != nil {
			p.settle()
		}
		now = time.Now()
	}
	p.busy += now.Sub(start)
	sh.spent += now.Sub(start) * time.Duration(sharing)
	over := sh.done == len(sh.conns)
	if sh.batch.counts {
		took := min(sh.spent+now.Sub(sh.began)-(p.busy-sh.before), now.Sub(sh.since))
		if over {
			sh.last = took
		}
		sh.took.Store(int64(max(sh.last, took)))
	}
	if over {
		for _, f := range sh.batch.frames {
			f.release()
		}
		clear(sh.batch.frames)
		p.spare, sh.batch, sh.done, sh.since = sh.batch, nil, 0, now
	}
}
