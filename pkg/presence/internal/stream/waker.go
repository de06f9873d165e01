package stream

import "sync"

// wakerGroup is the number of writers that a waker wakes before it waits until they have taken
// their events: they write for about half a slice. All writers of a large room at once would hold
// up every goroutine that becomes ready after them.
const wakerGroup = 64

// waker delivers shared events to its share of the process's writers. It is one goroutine, which
// alone touches the shares; there is one per core.
type waker struct {
	inbox   *inbox[task]
	yielder *yielder
	stop    chan struct{}
	running sync.WaitGroup

	fanOuts fanOuts        // of run's goroutine alone
	woken   sync.WaitGroup // writers that were woken for a frame and have not taken it yet
}

func openWaker() *waker {
	w := &waker{inbox: newInbox[task](), stop: make(chan struct{})}
	w.fanOuts = fanOuts{group: wakerGroup, settle: w.woken.Wait}
	w.yielder, _ = openYielder() // nil without a descriptor
	w.running.Go(w.run)          // ended by close
	return w
}

func (w *waker) close() {
	w.inbox.close()
	close(w.stop)
	w.running.Wait()
	w.yielder.close()
}

// do makes run call f, after all earlier tasks. It reports false after close.
func (w *waker) do(f func()) bool { return w.inbox.add(task{do: f}) }

func (w *waker) run() {
	var tasks []task
	for last := false; !last; {
		if len(w.fanOuts.active) > 0 { // another turn at once
			w.fanOuts.yield(w.yielder)
			signal(w.inbox.wake)
		}
		select {
		case <-w.inbox.wake:
		case <-w.stop:
			last = true
		}
		tasks = w.inbox.take(tasks)
		w.fanOuts.handle(tasks)
		w.fanOuts.round()
	}
	w.fanOuts.finish()
}
