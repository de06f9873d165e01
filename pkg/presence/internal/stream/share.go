package stream

import (
	"slices"
	"sync/atomic"
	"time"
)

// receiver is a connection of a share.
type receiver interface {
	// deliver sends it the frames of the batch with a publish number above attachment.after. It
	// does not block.
	deliver(*batch)
	attachment() *attachment
}

// attachment is the part of a connection in a share.
type attachment struct {
	share *share // nil while the connection gets no shared events
	after uint64 // the publish number of the last event before its Attach
	index int32  // in share.conns
}

// share is the connections of one Stream that one goroutine serves: a loop, or a waker. Only that
// goroutine touches it, except for the fields whose comments say otherwise.
//
// Events gather in pending. A fan-out takes a batch of them and delivers it to each connection in
// one write. It is divided into slices, between which connections come and go.
type share struct {
	inbox      *inbox[task] // of the goroutine
	attached   int          // connections; guarded by the Stream's lock
	fanOutTime atomic.Int64 // in nanoseconds, see Stream.FanOutTime; for any goroutine

	conns     []receiver
	delivered int           // conns[:delivered] have the batch
	lastTime  time.Duration // of the last fan-out
	now       *fanOut       // nil while no event waits, as in most rooms
}

// fanOut is the events of a share that wait, and the fan-out in progress.
type fanOut struct {
	pending queue
	batch   *batch // of the fan-out in progress; nil between two

	// For the measurement by fanOuts.slice.
	queuedAt   time.Time     // when the oldest event of the fan-out was queued
	startedAt  time.Time     // when the fan-out in progress began
	busyBefore time.Duration // fanOuts.busy then
	spent      time.Duration // in its slices, each multiplied by the number of fan-outs in progress
}

// task is a request to a goroutine with shares: to call do, or to deliver a frame to a share.
type task struct {
	share *share
	frame *frame
	do    func()
}

// take queues the frame for the share's connections. It may be called by any goroutine.
func (sh *share) take(f *frame) {
	f.retain()
	if !sh.inbox.add(task{share: sh, frame: f}) {
		f.release()
	}
}

// attach adds a connection, which gets the events with a publish number above after.
func (sh *share) attach(c receiver, after uint64) {
	a := c.attachment()
	a.share, a.after, a.index = sh, after, int32(len(sh.conns))
	sh.conns = append(sh.conns, c)
	if sh.now != nil && sh.now.batch != nil { // its events were published before the connection came
		sh.put(len(sh.conns)-1, sh.conns[sh.delivered])
		sh.put(sh.delivered, c)
		sh.delivered++
	}
}

// detach removes the connection: it gets no more shared events.
func (a *attachment) detach() {
	sh := a.share
	if sh == nil {
		return
	}
	a.share = nil
	gap, last := int(a.index), len(sh.conns)-1
	if gap < sh.delivered { // the gap moves to the end of those that have the batch
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

// undelivered returns the events that the connection has yet to get: of the fan-out in progress,
// and pending.
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
