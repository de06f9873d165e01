package hub_test

import (
	"time"

	"example.com/presence/pkg/presence/backplane"
)

const (
	// simLossesInRow is how many publications of one node on one topic are lost in a row, at most,
	// on their way to one node, unless the weather sets another number.
	simLossesInRow = 3
	// simAskGap is the time in which at most one request of a node to another, or one answer to
	// such a request, is lost, if the weather sets one loss in a row.
	simAskGap = time.Second
	// simHeld is how many publications one cut delays until after its end, at most.
	simHeld = 3
)

func (e *simEngine) change(f func(*simFaults)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f(&e.faults)
}

// setDelay sets the delay of each frame, entry, row, request and reply: random in the range.
func (e *simEngine) setDelay(min, max time.Duration) {
	e.change(func(f *simFaults) { f.delayMin, f.delayMax = min, max })
}

// setLoss sets the probability that a publication, a request or an answer is lost.
func (e *simEngine) setLoss(p float64) { e.change(func(f *simFaults) { f.loss = p }) }

// setLossesInRow sets how many are lost in a row, at most. 0 means simLossesInRow.
func (e *simEngine) setLossesInRow(n int) { e.change(func(f *simFaults) { f.inRow = n }) }

// setDuplicates sets the probability that a publication arrives twice, possibly behind later ones.
func (e *simEngine) setDuplicates(p float64) { e.change(func(f *simFaults) { f.duplicates = p }) }

// setEntryLoss sets the probability that a node does not receive an entry, without a call of Lost.
func (e *simEngine) setEntryLoss(p float64) { e.change(func(f *simFaults) { f.entryLoss = p }) }

// setAppendTimeouts sets the probability that Append fails: with ErrUnavailable, or when its ctx
// ends. Half of these messages are accepted, possibly after Append has returned.
func (e *simEngine) setAppendTimeouts(p float64) { e.change(func(f *simFaults) { f.appends = p }) }

// setReadFaults sets the probability that Read and Last fail, are up to 1.5 s slow, or return a
// result that was right up to 200 ms ago.
func (e *simEngine) setReadFaults(p float64) { e.change(func(f *simFaults) { f.reads = p }) }

// setTableLag sets the maximum time that a row takes to reach a watcher, in addition to the delay.
func (e *simEngine) setTableLag(max time.Duration) { e.change(func(f *simFaults) { f.tableLag = max }) }

// recreate replaces the log with an empty one under a new epoch.
func (e *simEngine) recreate() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.log = e.newLog()
	e.trace("engine: the log is recreated, epoch %s", e.log.epoch)
	for _, b := range e.buses {
		if !b.cutOff {
			b.announceLocked(nil)
		}
	}
}

// cut disconnects the node from the engine. The node notices it only 2 to 4 s later.
func (b *simBus) cut() {
	e := b.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	if b.cutOff || b.closed {
		return
	}
	b.cutOff, b.cutAt = true, e.order
	b.cuts++
	b.mayHold = e.dice.IntN(simHeld + 1)
	e.trace("%s: cut off", b.name)
	number := b.cuts
	e.atLocked(time.Now().Add(between(e.dice, 2*time.Second, 4*time.Second)), &simEvent{bus: b, local: true, run: func() {
		if b.cutOff && b.cuts == number && b.status.Connected {
			e.trace("%s: notices that it is cut off", b.name)
			b.setStatusLocked(backplane.Status{Epoch: b.status.Epoch})
		}
	}})
}

// mend connects the node again. The node receives its new status, then Lost on every subscription,
// and the last state of each row.
func (b *simBus) mend() {
	e := b.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	if !b.cutOff || b.closed {
		return
	}
	b.cutOff = false
	e.trace("%s: connected again, %d old frames follow", b.name, len(b.held))
	var rows []func()
	for _, w := range b.watchers {
		if !w.loaded {
			rows = append(rows, w.loadLocked())
		} else {
			w.repeatLocked()
		}
	}
	at := b.announceLocked(rows)
	for _, w := range b.watchers {
		w.start = at
	}
	for _, frame := range b.held {
		e.inLocked(between(e.dice, 50*time.Millisecond, 300*time.Millisecond), frame)
	}
	b.held = nil
}

// announceLocked sends the node the current status of the engine, then Lost on every subscription.
// No reply of a later call overtakes it, because the position in the reply belongs to its epoch.
func (b *simBus) announceLocked(before []func()) time.Time {
	e := b.engine
	status := backplane.Status{Epoch: e.log.epoch, Connected: true}
	b.statusAt = b.inLogOrderLocked(func() {
		for _, f := range before {
			f()
		}
		e.callLocked(nil, func() {
			if status == b.status { // a short interruption, which the node has not noticed
				b.setStatusLocked(backplane.Status{Epoch: status.Epoch})
			}
			b.setStatusLocked(status)
			b.loseLocked()
		})
	})
	return b.statusAt
}

// freeze stops the process of the node: it receives nothing, and its calls do not return.
func (b *simBus) freeze() {
	e := b.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	if !b.frozen && !b.closed {
		b.frozen, b.thawed = true, make(chan struct{})
		e.trace("%s: frozen", b.name)
	}
}

// thaw ends a freeze. The node receives all that has gathered, in order and within microseconds.
func (b *simBus) thaw() {
	e := b.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	if !b.frozen {
		return
	}
	b.frozen = false
	close(b.thawed)
	e.trace("%s: thawed, %d deliveries wait", b.name, len(b.gathered))
	if len(b.gathered) > 0 && !b.draining {
		b.drainLocked()
	}
}

// drainLocked delivers the gathered events one after the other, until the node is frozen again.
func (b *simBus) drainLocked() {
	b.draining = true
	b.engine.inLocked(between(b.engine.dice, time.Microsecond, 10*time.Microsecond), func() {
		b.draining = false
		if b.frozen || b.closed {
			return
		}
		next := b.gathered[0]
		b.gathered = b.gathered[1:]
		next.run()
		if len(b.gathered) > 0 {
			b.drainLocked()
		}
	})
}

// block makes calls of Publish wait until unblock, even if their ctx ends: the socket to the server
// is full. If refuses is set, they then return ErrUnavailable.
func (b *simBus) block(refuses bool) {
	e := b.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	if b.blocked == nil && !b.closed {
		b.blocked, b.refuses = make(chan struct{}), refuses
		e.trace("%s: its publications block", b.name)
	}
}

// unblock ends a block.
func (b *simBus) unblock() {
	e := b.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	if b.blocked != nil {
		close(b.blocked)
		b.blocked = nil
		e.trace("%s: its publications no longer block", b.name)
	}
}

// crash ends the node for good. All its calls return ErrClosed.
func (b *simBus) crash() {
	e := b.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	if !b.closed {
		e.trace("%s: crashed", b.name)
		b.endLocked()
	}
}
