package hub_test

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// simEngine is a fake engine that several hubs share in one synctest bubble. It has the faults of a
// network and of NATS. A seed determines them, and all of them are off at first.
//
// All that happens is an event: a frame that arrives, a call that reaches the engine, its reply. A
// heap orders the events by time, and one timer runs them. Each event has its own instant. All
// calls of handlers run on the goroutine of that timer, without a lock of the engine.
type simEngine struct {
	trace    func(format string, args ...any)
	instants *simInstants
	messages int // maximum entries per room; set before the first call
	seed     uint64
	done     chan struct{} // closed by close

	mu      sync.Mutex // guards the fields below and those of all buses; not held during a handler
	dice    *rand.Rand
	faults  simFaults
	events  simEvents
	timer   *time.Timer
	armed   time.Time // when the timer fires; zero: it is not set
	running bool      // run is active
	closed  bool
	calls   []simCall
	buses   []*simBus // the handles that are open
	handles uint64    // number of handles created so far
	order   uint64    // number of publications and entries sent so far
	log     simLog
	table   simTable
	stats   simStats
}

// simFaults contains the probabilities and the delays.
type simFaults struct {
	delayMin, delayMax time.Duration
	loss, duplicates   float64
	inRow              int // losses in a row, at most; 0: simLossesInRow
	entryLoss          float64
	appends, reads     float64
	tableLag           time.Duration
}

// simStats counts the faults that have happened.
type simStats struct {
	lost, duplicated, held   int // publications
	asksLost, answersLost    int
	entriesLost              int
	appendsFailed            int // Appends that failed although the entry was accepted, or without that
	readsFailed, readsSlow   int
	readsStale, refusedByCut int
	blocked, refusedByBlock  int // calls of Publish
}

// simEvent is something that happens at one instant.
type simEvent struct {
	at    time.Time
	bus   *simBus // the node that the event reaches; nil: it happens at the engine
	local bool    // the event happens in the node, so a cut does not stop it
	run   func()  // called with the lock held
	lost  func()  // called instead of run, with the lock held, if the node is cut; may be nil
}

// simEvents is a heap by time.
type simEvents []*simEvent

func (q simEvents) Len() int           { return len(q) }
func (q simEvents) Less(i, j int) bool { return q[i].at.Before(q[j].at) }
func (q simEvents) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *simEvents) Push(x any)        { *q = append(*q, x.(*simEvent)) }
func (q *simEvents) Pop() any {
	last := (*q)[len(*q)-1]
	(*q)[len(*q)-1] = nil
	*q = (*q)[:len(*q)-1]
	return last
}

// simReceiver is a subscription, a watcher or a notifier.
type simReceiver struct {
	bus   *simBus
	ended bool
}

// simCall is a call that the engine makes after the current event.
type simCall struct {
	to *simReceiver // nil: f is called with the lock held
	f  func()
}

// newSimEngine returns an engine without faults. trace may be nil. It gets one line per notable
// event. It is called with the lock of the engine held, so it must not call the engine.
func newSimEngine(rnd *rand.Rand, trace func(format string, args ...any)) *simEngine {
	if trace == nil {
		trace = func(string, ...any) {}
	}
	e := &simEngine{trace: trace, instants: newSimInstants(), messages: 100, seed: rnd.Uint64(), done: make(chan struct{})}
	e.dice = rand.New(rand.NewPCG(e.seed, 0))
	e.log = e.newLog()
	e.table.rows = map[string]*simRow{}
	e.timer = time.NewTimer(time.Hour)
	e.timer.Stop()
	go e.loop() // ends with close; the stack of one goroutine need not grow again for each event
	return e
}

func (e *simEngine) loop() {
	for {
		select {
		case <-e.timer.C:
			e.run()
		case <-e.done:
			return
		}
	}
}

// handle returns the bus of one node. The name appears in traces only.
func (e *simEngine) handle(name string, clock *simClock) *simBus {
	clock.join(e.instants)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.handles++
	b := &simBus{engine: e, name: name, clock: clock, done: make(chan struct{}),
		dice: rand.New(rand.NewPCG(e.seed, e.handles))}
	b.init()
	e.buses = append(e.buses, b)
	return b
}

// close ends all handles and the timer, so that the bubble can end.
func (e *simEngine) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.closed {
		close(e.done)
	}
	e.closed = true
	e.timer.Stop()
	for len(e.buses) > 0 {
		e.buses[0].endLocked()
	}
}

// counts returns how often each fault has happened.
func (e *simEngine) counts() simStats {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.stats
}

// atLocked schedules an event at the first unused instant that is not before t, and returns that
// instant.
func (e *simEngine) atLocked(t time.Time, ev *simEvent) time.Time {
	ev.at = e.instants.claim(t)
	heap.Push(&e.events, ev)
	e.armLocked()
	return ev.at
}

// inLocked schedules an event of the engine after a delay.
func (e *simEngine) inLocked(d time.Duration, run func()) {
	e.atLocked(time.Now().Add(d), &simEvent{run: run})
}

func (e *simEngine) armLocked() {
	if e.running || e.closed || len(e.events) == 0 {
		return
	}
	if first := e.events[0].at; e.armed.IsZero() || first.Before(e.armed) {
		e.armed = first
		e.timer.Reset(time.Until(first))
	}
}

// run runs the events that are due.
func (e *simEngine) run() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.running {
		return
	}
	e.running, e.armed = true, time.Time{}
	for !e.closed && len(e.events) > 0 && !e.events[0].at.After(time.Now()) {
		e.happenLocked(heap.Pop(&e.events).(*simEvent))
		e.makeCallsLocked()
	}
	e.running = false
	e.armLocked()
}

func (e *simEngine) happenLocked(ev *simEvent) {
	switch b := ev.bus; {
	case b == nil:
		ev.run()
	case b.closed:
	case b.cutOff && !ev.local:
		if ev.lost != nil {
			ev.lost()
		}
	case b.frozen || len(b.gathered) > 0:
		b.gathered = append(b.gathered, ev)
	default:
		ev.run()
	}
}

// callLocked makes the engine call f after the current event, unless to has ended by then. It must
// be called within an event.
func (e *simEngine) callLocked(to *simReceiver, f func()) { e.calls = append(e.calls, simCall{to, f}) }

// makeCallsLocked makes all calls. It releases the lock during each call.
func (e *simEngine) makeCallsLocked() {
	for len(e.calls) > 0 {
		c := e.calls[0]
		e.calls = e.calls[1:]
		switch {
		case c.to == nil:
			c.f()
		case !c.to.ended && !c.to.bus.closed:
			c.to.bus.active.Add(1)
			e.mu.Unlock()
			c.f()
			e.mu.Lock()
			c.to.bus.active.Done()
		}
	}
	e.calls = nil
}

// delayLocked returns the delay of one frame, entry, row, request or reply.
func (e *simEngine) delayLocked(dice *rand.Rand) time.Duration {
	return between(dice, e.faults.delayMin, e.faults.delayMax)
}

// between returns a duration from lo to hi.
func between(dice *rand.Rand, lo, hi time.Duration) time.Duration {
	if hi <= lo {
		return lo
	}
	return lo + time.Duration(dice.Int64N(int64(hi-lo)+1))
}

// chance reports whether something of probability p happens.
func chance(dice *rand.Rand, p float64) bool { return p > 0 && dice.Float64() < p }

func (e *simEngine) newEpoch() string { return fmt.Sprintf("%010x", e.dice.Uint64()>>24) }
