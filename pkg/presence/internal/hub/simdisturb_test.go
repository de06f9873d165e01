package hub_test

import (
	"cmp"
	"context"
	"time"
)

// disturb performs the step of a fault.
func (r *simRun) disturb(s simStep, n *simNode) {
	switch s.Do {
	case doWeather:
		if s.Faults != nil {
			r.tracef("", "weather: %+v", *s.Faults)
			r.applyFaults(*s.Faults)
		}
	case doCut:
		r.cut(n)
	case doMend:
		r.mend(n)
	case doFreeze:
		r.freeze(n)
	case doThaw:
		r.thaw(n)
	case doBlock:
		r.block(n, s)
	case doStep:
		r.tracef(n.name, "its clock jumps by %v", s.For.time())
		n.clock.step(s.For.time())
	case doCrash:
		r.crash(n)
	case doStop:
		r.stop(n)
	case doStart:
		if n.down {
			r.startNode(n.index)
		}
	case doEpoch:
		r.tracef("", "the log is created anew")
		r.mu.Lock()
		r.logFaults, r.changed = true, time.Now()
		for _, t := range r.messages {
			t.recreated = append(t.recreated, r.changed)
		}
		r.mu.Unlock()
		r.engine.recreate()
	default:
		r.Errorf("unknown step %q", s.Do)
	}
}

func (r *simRun) applyFaults(f simWeather) {
	r.mu.Lock()
	r.faults = f
	if f.Loss > 0 {
		r.model.lossy = true
		r.model.inRow = max(r.model.inRow, cmp.Or(f.LossesInRow, simLossesInRow))
	}
	r.model.lag = max(r.model.lag, f.TableLag.time())
	r.logFaults = r.logFaults || f.EntryLoss+f.AppendTimeouts+f.ReadFaults > 0
	r.mu.Unlock()
	r.engine.setLoss(f.Loss)
	r.engine.setLossesInRow(f.LossesInRow)
	r.engine.setDuplicates(f.Duplicates)
	r.engine.setEntryLoss(f.EntryLoss)
	r.engine.setAppendTimeouts(f.AppendTimeouts)
	r.engine.setReadFaults(f.ReadFaults)
	r.engine.setTableLag(f.TableLag.time())
}

// markLocked records that the presence of users may change without a client's doing. All nodes must
// agree again after the given time.
func (r *simRun) markLocked(within time.Duration) {
	r.changed = time.Now()
	r.model.heavy, r.model.faultBy = true, later(r.model.faultBy, r.changed.Add(within))
	r.model.faultSlack = max(r.model.faultSlack, within)
	r.model.disturb(r.changed)
}

func (r *simRun) cut(n *simNode) {
	r.mu.Lock()
	may := !n.down && !n.cut
	if may {
		n.cut = true
		r.markLocked(simDead)
	}
	r.mu.Unlock()
	if may {
		r.tracef(n.name, "is cut off")
		n.bus.cut()
	}
}

func (r *simRun) mend(n *simNode) {
	r.mu.Lock()
	may := !n.down && n.cut
	if may {
		n.cut = false
		r.markLocked(simDead)
	}
	r.mu.Unlock()
	if may {
		r.tracef(n.name, "is connected again")
		n.bus.mend()
	}
}

func (r *simRun) freeze(n *simNode) {
	r.mu.Lock()
	may := !n.down && n.frozen == nil
	if may {
		n.frozen = make(chan struct{})
		r.markLocked(simDead)
	}
	r.mu.Unlock()
	if may {
		r.tracef(n.name, "freezes")
		n.clock.freeze()
		n.bus.freeze()
	}
}

func (r *simRun) thaw(n *simNode) {
	r.mu.Lock()
	frozen := n.frozen
	if n.down || frozen == nil {
		r.mu.Unlock()
		return
	}
	n.frozen = nil
	r.markLocked(simDead)
	r.mu.Unlock()
	r.tracef(n.name, "thaws")
	n.clock.thaw()
	n.bus.thaw()
	close(frozen)
}

// block makes the publications of a node block for a while.
func (r *simRun) block(n *simNode, s simStep) {
	r.mu.Lock()
	may := !n.down && !n.blocked
	if may {
		n.blocked = true
		r.pending++
		r.markLocked(simLost)
	}
	r.mu.Unlock()
	if !may {
		return
	}
	r.tracef(n.name, "its publications block for %v", s.For.time())
	n.bus.block(s.Kind == 1)
	time.AfterFunc(s.For.time()+time.Duration(s.N)*time.Microsecond, func() {
		defer r.done()
		r.mu.Lock()
		n.blocked = false
		r.markLocked(simLost)
		r.mu.Unlock()
		n.bus.unblock()
	})
}

// crash ends the process of a node. Its clients reconnect to other nodes.
func (r *simRun) crash(n *simNode) {
	if r.live(n.index) != n {
		return
	}
	r.tracef(n.name, "crashes")
	n.clock.stop()
	r.mu.Lock()
	n.down, n.crashed, n.died = true, true, time.Now()
	for _, c := range r.conns {
		if c.on == n { // its calls end now, but their clients receive nothing more
			c.die()
		}
	}
	r.mu.Unlock()
	n.bus.crash()
	r.mu.Lock()
	defer r.mu.Unlock()
	if n.frozen != nil {
		close(n.frozen)
		n.frozen = nil
	}
	r.markLocked(simDead)
	for _, c := range r.openOnLocked(n) {
		r.dieLocked(c)
	}
}

// stop shuts a node down. Its clients reconnect to other nodes when they have its goodbye.
func (r *simRun) stop(n *simNode) {
	r.mu.Lock()
	may := !n.down && n.frozen == nil
	if may {
		n.down = true
		r.model.disturb(time.Now())
		if n.cut {
			r.markLocked(simDead)
		}
	}
	r.mu.Unlock()
	if !may {
		return
	}
	r.tracef(n.name, "shuts down")
	r.begin()
	go func() { // ends when the hub is closed
		defer r.done()
		if err := n.Close(context.Background()); err != nil {
			r.Errorf("close of %s: %v", n.name, err)
		}
		r.mu.Lock()
		if r.model.lossy { // its last frame may be lost, and its peers then count it as dead
			r.markLocked(simDead)
		}
		r.mu.Unlock()
		r.tracef(n.name, "has shut down")
	}()
}
