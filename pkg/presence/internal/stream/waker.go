package stream

import (
	"sync"
	"time"
)

// wakerGroup is the number of writers that a waker wakes at the same time. The waker then waits
// until they have taken their events. Writing the events takes about half a slice. If the waker
// woke all writers of a large room together, they would delay every goroutine that becomes ready
// after them.
const wakerGroup = 64

// waker delivers shared events to some of the process's writers. There is one waker per core. Each
// waker has one goroutine, and only that goroutine accesses its shares.
type waker struct {
	*resources
	inbox   *inbox[task]
	yielder *yielder
	stop    chan struct{}
	running sync.WaitGroup

	// Used only by run's goroutine.
	fanOuts  fanOuts
	measured []backlogged // writers that may have a backlog
	lag      lag

	woken sync.WaitGroup // writers that were woken for a frame and have not taken it yet
}

func openWaker(r *resources) *waker {
	w := &waker{resources: r, inbox: newInbox[task](), stop: make(chan struct{})}
	w.fanOuts.group, w.fanOuts.settle = wakerGroup, func(*batch) { w.woken.Wait() }
	w.fanOuts.tally.delivered, w.fanOuts.tally.pass = r.config.Delivered, r.config.Pass
	w.yielder, _ = openYielder() // nil at the open-file limit
	w.running.Go(w.run)          // ended by close
	return w
}

func (w *waker) close() {
	w.inbox.close()
	close(w.stop)
	w.running.Wait()
	w.yielder.close()
}

// do makes run call f after all earlier tasks. It returns false after close.
func (w *waker) do(f func()) bool { return w.inbox.add(task{do: f}) }

// backlogged is a writer that may have a backlog.
type backlogged interface {
	attachment() *attachment
	// measure returns the start of the oldest shared frame that the writer holds, or 0. done
	// reports that it has no backlog, and is not measured any more.
	measure() (oldest uint64, done bool)
}

// measure measures the backlogs of the writers.
func (w *waker) measure() {
	w.lag.begin()
	kept := w.measured[:0]
	for _, c := range w.measured {
		oldest, done := c.measure()
		if !done {
			kept = append(kept, c)
		}
		w.lag.add(c.attachment().share, oldest)
	}
	clear(w.measured[len(kept):])
	w.measured = kept
	w.lag.end()
}

func (w *waker) run() {
	var tasks []task
	measures := time.NewTimer(measureTime)
	defer measures.Stop()
	var measured time.Duration
	for last := false; !last; {
		if len(w.fanOuts.active) > 0 { // start another turn
			w.fanOuts.yield(w.yielder)
			signal(w.inbox.wake)
		}
		select {
		case <-w.inbox.wake:
		case <-measures.C:
		case <-w.stop:
			last = true
		}
		start := w.now()
		tasks = w.inbox.take(tasks)
		w.fanOuts.handle(tasks)
		w.fanOuts.round()
		if len(w.measured) > 0 || len(w.lag.shares) > 0 {
			if start-measured >= measureTime {
				measured = start
				w.measure()
			}
			measures.Reset(measureTime)
		}
		w.fanOuts.tally.publish(w.now() - start)
	}
	w.fanOuts.finish()
}
