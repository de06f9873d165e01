package stream

import (
	"slices"
	"sync/atomic"
	"time"
)

// receiver is a connection to which a share delivers events.
type receiver interface {
	// deliver sends the frames of the batch whose publish number is above attachment.after. It must
	// not block. It returns the cost, which limits a group of a fan-out: 1, or writeCost if a loop
	// calls write.
	deliver(*batch) (cost int)
	attachment() *attachment
}

// measured is the Stream of a share. The goroutine of a share calls update after it has changed
// oldest.
type measured interface{ update(*share) }

// attachment records the share that a connection is in.
type attachment struct {
	share *share // nil while the connection receives no shared events
	after uint64 // publish number of the last event before the Attach
	index int32  // index in share.conns
}

// share holds the connections of one Stream that are served by the same goroutine, a loop or a
// waker. Only that goroutine uses the share, except for the fields whose comments mention other
// goroutines.
//
// Events are queued in pending. A fan-out takes a batch of them from pending, and delivers the
// batch to each connection in one write. The fan-out is split into slices. Connections may attach
// and detach between two slices:
//
//	conns   │ have the batch │ do not have it yet │
//	        0                delivered            len(conns)
type share struct {
	of         measured
	inbox      *inbox[task] // inbox of the goroutine
	attached   int          // number of connections; guarded by the Stream's lock
	fanOutTime atomic.Int64 // in nanoseconds, see Stream.FanOutTime; safe for all goroutines
	behind     uint64       // oldest at the last call of Stream.update; guarded by the Stream's lock

	conns     []receiver
	delivered int           // conns[:delivered] have received the batch of the fan-out in progress
	lastTime  time.Duration // duration of the last fan-out
	now       *fanOut       // nil if there are no events to deliver, as in most rooms
	oldest    uint64        // start of the oldest frame in the backlogs of its connections; 0: none
	lags      bool          // in lag.shares
}

// fanOut holds the pending events of a share and the state of its fan-out in progress.
type fanOut struct {
	pending queue
	batch   *batch    // batch of the fan-out in progress; nil if there is none
	since   time.Time // oldest Event.Since of the pending event of kind Latest and those that it replaced; zero: none

	// Used by fanOuts.measure.
	queuedAt   time.Time     // when the oldest event of the fan-out was queued
	startedAt  time.Time     // when the fan-out in progress started
	busyBefore time.Duration // fanOuts.busy at startedAt
	spent      time.Duration // time of its slices, each multiplied by the number of active fan-outs
}

// task is a request to a loop or a waker: either to call do, or to deliver a frame to a share.
type task struct {
	share *share
	frame *frame
	do    func()
}

// add queues the frame for the connections of the share. Any goroutine may call it.
func (sh *share) add(f *frame) {
	f.retain()
	if !sh.inbox.add(task{share: sh, frame: f}) {
		f.release()
	}
}

// attach adds a connection. The connection receives the events whose publish number is above after.
func (sh *share) attach(c receiver, after uint64) {
	a := c.attachment()
	a.share, a.after, a.index = sh, after, int32(len(sh.conns))
	sh.conns = append(sh.conns, c)
	if sh.now != nil && sh.now.batch != nil { // the batch is older than the attach
		sh.put(len(sh.conns)-1, sh.conns[sh.delivered])
		sh.put(sh.delivered, c)
		sh.delivered++
	}
}

// detach removes the connection from its share, so that it receives no more shared events.
func (a *attachment) detach() {
	sh := a.share
	if sh == nil {
		return
	}
	a.share = nil
	gap, last := int(a.index), len(sh.conns)-1
	if gap < sh.delivered { // move the gap behind the connections that have the batch
		sh.delivered--
		sh.put(gap, sh.conns[sh.delivered])
		gap = sh.delivered
	}
	if gap < last {
		sh.put(gap, sh.conns[last])
	}
	sh.conns[last] = nil
	sh.conns = sh.conns[:last]
	if cap(sh.conns) > 64 && last < cap(sh.conns)/4 {
		sh.conns = append(make([]receiver, 0, 2*last), sh.conns...)
	}
}

func (sh *share) put(index int, c receiver) {
	sh.conns[index] = c
	c.attachment().index = int32(index)
}

// undelivered returns the events that the connection has not received yet: the events of the
// fan-out in progress and the pending events.
func (a *attachment) undelivered() (frames []*frame) {
	sh := a.share
	if sh == nil || sh.now == nil {
		return nil
	}
	if b := sh.now.batch; b != nil && int(a.index) >= sh.delivered {
		frames = append(frames, b.frames...)
	}
	for f := range sh.now.pending.all() {
		frames = append(frames, f)
	}
	return slices.DeleteFunc(frames, func(f *frame) bool { return f.number <= a.after })
}
