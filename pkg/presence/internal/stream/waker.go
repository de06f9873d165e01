package stream

import "sync"

// wakerGroup is the number of writers that a waker wakes at a time. The waker then waits until they
// have taken their events, which they write for about half a slice. If it woke all writers of a
// large room at once, they would delay every goroutine that becomes ready after them.
const wakerGroup = 64

// waker delivers shared events to a part of the process's writers. There is one waker per core.
// Each is one goroutine, and only that goroutine accesses its shares.
type waker struct {
	inbox   *inbox[task]
	yielder *yielder
	stop    chan struct{}
	running sync.WaitGroup

	fanOuts fanOuts        // used only by run's goroutine
	woken   sync.WaitGroup // writers that were woken for a frame and have not taken it
}

func openWaker() *waker {
	w := &waker{inbox: newInbox[task](), stop: make(chan struct{})}
	w.fanOuts = fanOuts{group: wakerGroup, settle: w.woken.Wait}
	w.yielder, _ = openYielder() // nil if the process has no descriptor left
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
		if len(w.fanOuts.active) > 0 { // take another turn at once
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
