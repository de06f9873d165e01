package stream

import "sync"

// wakes is the number of writers that a waker wakes before it waits until they have taken their
// events: they write for about half a slice. All writers of a large room at once would hold up
// every goroutine that becomes ready after them.
const wakes = 64

// waker delivers shared events to its share of the process's writers. It is one goroutine, which alone
// touches the shares; there is one per core.
type waker struct {
	inbox   *inbox[task]
	bell    *bell
	stop    chan struct{}
	running sync.WaitGroup

	passes passes         // of run's goroutine alone
	woken  sync.WaitGroup // writers that were woken for a frame and have not taken it yet
}

func openWaker() *waker {
	w := &waker{inbox: newInbox[task](), stop: make(chan struct{})}
	w.passes = passes{group: wakes, settle: w.woken.Wait}
	w.bell, _ = openBell() // without one it yields by runtime.Gosched
	w.running.Go(w.run)    // ended by close
	return w
}

func (w *waker) close() {
	w.inbox.close()
	close(w.stop)
	w.running.Wait()
	w.bell.close()
}

// do has f called by run, after all earlier tasks; after close it reports false.
func (w *waker) do(f func()) bool { return w.inbox.add(task{do: f}) }

func (w *waker) run() {
	var tasks []task
	for last := false; !last; {
		if len(w.passes.active) > 0 { // another turn at once
			w.passes.yield(w.bell)
			signal(w.inbox.wake)
		}
		select {
		case <-w.inbox.wake:
		case <-w.stop:
			last = true
		}
		tasks = w.inbox.take(tasks)
		w.passes.take(tasks)
		w.passes.round()
	}
	w.passes.finish()
}
