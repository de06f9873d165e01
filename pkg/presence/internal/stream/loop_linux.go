package stream

import (
	"context"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"example.com/presence/pkg/presence/internal/socket"
)

// look is how often the deadlines of clients that have a backlog are
// looked at.
const look = 100 * time.Millisecond

// loop writes to its share of the process's direct connections, and waits for
// their ends with an epoll of its own: two goroutines, however many
// connections there are and however many rooms. There is one a core.
//
// What others want of it comes through its inbox. A turn takes all that is
// there, and goes on with the passes of its rooms for a slice: a small room does not wait for the
// pass of a large one. Events published during a pass gather for the room's next one, which
// writes them to each socket at once.
type loop struct {
	config  Config
	inbox   *inbox[task]
	ended   *inbox[func()]  // the Streams'
	ours    *sync.WaitGroup // too
	ender   *socket.Ender   // too
	conns   atomic.Int64    // how many it has
	epoll   *os.File
	ready   chan struct{} // epoll has something to say
	bell    *bell
	opened  time.Time
	ending  context.Context
	stop    context.CancelFunc
	running sync.WaitGroup

	// Of run's goroutine alone.
	epfd   int
	now    time.Duration // of the turn's begin, since opened
	slots  []*direct     // an epoll event names one of them
	free   []int32       // the slots that are
	passes passes
	unsent []*direct // joiners and ending connections to be flushed
	behind map[*direct]bool
	part   int // of the heartbeat, the next
	events []unix.EpollEvent
	pieces [][]byte
	waste  []byte
}

func openLoop(c Config, ended *inbox[func()], ours *sync.WaitGroup, ender *socket.Ender) (*loop, error) {
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(epfd, true); err != nil { // or the runtime does not wait for it
		unix.Close(epfd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	l := &loop{config: c, inbox: newInbox[task](), ended: ended, ours: ours, ender: ender, opened: time.Now(), epfd: epfd, epoll: os.NewFile(uintptr(epfd), "epoll"),
		ready: make(chan struct{}, 1), behind: map[*direct]bool{}, passes: passes{group: writes},
		events: make([]unix.EpollEvent, 8), pieces: make([][]byte, 0, maxPieces), waste: make([]byte, 4<<10)}
	raw, err := l.epoll.SyscallConn()
	if err == nil {
		err = l.epoll.SetReadDeadline(time.Time{}) // it has one if the runtime waits for it
	}
	if err == nil {
		l.bell, err = openBell()
	}
	if err != nil {
		l.epoll.Close()
		return nil, err
	}
	l.ending, l.stop = context.WithCancel(context.Background())
	l.running.Go(func() { l.listen(raw) }) // both are ended by close
	l.running.Go(l.run)
	return l, nil
}

// close ends the loop, whose connections have ended.
func (l *loop) close() {
	l.inbox.close()
	l.stop()
	l.epoll.SetReadDeadline(time.Unix(1, 0)) // wakes listen
	l.running.Wait()
	l.epoll.Close()
	l.bell.close()
}

// do has f called by run, after what was handed before; it is not after close.
func (l *loop) do(f func()) bool { return l.inbox.add(task{do: f}) }

// put is do without waking the loop: f runs in its next turn. Only the last step of a join wakes the
// loop: a turn for each step would cost more than the step.
func (l *loop) put(f func()) bool { return l.inbox.put(task{do: f}) }

// listen tells run when epoll has something to say. An epoll's descriptor is
// readable then, and the runtime waits for that as for any other: no thread is
// held.
func (l *loop) listen(raw syscall.RawConn) {
	raw.Read(func(uintptr) (done bool) {
		signal(l.ready)
		return l.ending.Err() != nil
	})
}

func (l *loop) run() {
	var tasks []task
	ticks := time.NewTicker(l.config.Heartbeat / heartbeatParts)
	defer ticks.Stop()
	watch := time.NewTimer(look)
	defer watch.Stop()
	var looked time.Duration
	more := false // epoll may have more events
	for last := false; !last; {
		beating := false
		if more || len(l.unsent) > 0 || len(l.passes.active) > 0 { // another turn at once
			l.passes.yield(l.bell)
			signal(l.inbox.wake)
		}
		select {
		case <-l.inbox.wake:
		case <-l.ready:
		case <-ticks.C:
			beating = true
		case <-watch.C:
		case <-l.ending.Done():
			last = true
		}
		l.now = time.Since(l.opened)
		more = l.heedMany()
		if beating {
			l.beat()
		}
		tasks = l.inbox.take(tasks)
		l.passes.take(tasks)
		l.flushMany()
		l.passes.round()
		if len(l.behind) > 0 {
			if l.now-looked >= look {
				looked = l.now
				l.hasten()
			}
			watch.Reset(look)
		}
	}
	for len(l.unsent) > 0 {
		l.flushMany()
	}
	l.passes.finish()
}

// open takes a connection in.
func (l *loop) open(c *direct) {
	if len(l.free) == 0 {
		l.slots = append(l.slots, nil)
		l.free = append(l.free, int32(len(l.slots)-1))
	}
	last := len(l.free) - 1
	c.slot, l.free = l.free[last], l.free[:last]
	l.slots[c.slot] = c
	if err := l.watch(c, unix.EPOLL_CTL_ADD, 0); err != nil {
		l.finish(c, Closed)
	}
}

// watch has epoll say when the client goes or sends something, and what more
// is asked for; once for each time that it becomes so.
func (l *loop) watch(c *direct, op int, more uint32) error {
	return unix.EpollCtl(l.epfd, op, int(c.fd), &unix.EpollEvent{
		Events: unix.EPOLLIN | unix.EPOLLET | more, Fd: c.slot,
	})
}

func (l *loop) serve(c *direct, ended func(End)) {
	if c.fd < 0 {
		l.report(ended, c.ending)
		return
	}
	c.ended = ended
}

func (l *loop) attach(c *direct, sh *share, place uint64) {
	if c.fd < 0 || c.ending != "" {
		return
	}
	sh.attach(c, place)
}

func (l *loop) tell(c *direct, events [][]byte, taken func()) {
	if c.fd < 0 || c.ending != "" {
		if taken != nil {
			taken()
		}
		return
	}
	b := l.backlog(c)
	b.tell(events)
	if taken != nil {
		b.taken = append(b.taken, taken)
	}
	l.unsent = append(l.unsent, c)
}

// end brings what was published before, a goodbye, and nothing more.
func (l *loop) end(c *direct, why End) {
	if c.fd < 0 || c.ending != "" {
		return
	}
	for _, f := range c.sits.rest() {
		l.backlog(c).queue.push(f)
	}
	l.depart(c, why, l.config.LastWords)
}

// depart queues a goodbye behind the backlog. Many connections may depart at once, so flushMany
// writes it.
func (l *loop) depart(c *direct, why End, within time.Duration) {
	c.sits.detach()
	c.ending = why
	l.backlog(c).goodbye(why)
	c.pace.end(l.now, within)
	l.unsent = append(l.unsent, c)
}

// deliver writes a batch to a connection.
func (l *loop) deliver(c *direct, b *batch) {
	if c.backlog == nil && c.sits.place < b.frames[0].number {
		n, err := c.write(b.bytes(c.chunked))
		if err == nil {
			return
		}
		if err != io.ErrShortWrite {
			l.failed(c, err)
			return
		}
		l.backlog(c).rest(b.frames, n)
		c.pace.wrote(n)
		l.fillUp(c)
		return
	}
	blog := l.backlog(c)
	for _, f := range b.frames {
		if c.sits.place < f.number {
			blog.queue.push(f)
		}
	}
	switch {
	case !blog.full:
		l.flush(c)
	case !c.pace.queued(&l.config, l.now, blog.load()):
		l.sendAway(c, l.config.tooSlow(c.feel()))
	}
}

// backlog returns the connection's, which is made if there is none.
func (l *loop) backlog(c *direct) *backlog {
	if c.backlog == nil {
		c.backlog = &backlog{chunked: c.chunked}
	}
	return c.backlog
}

// flush brings the backlog to the socket, as far as it takes it.
func (l *loop) flush(c *direct) {
	if c.backlog == nil || c.backlog.full {
		return
	}
	err := c.flush(l.pieces)
	if !c.backlog.isAlone() {
		c.backlog.release()
	}
	switch {
	case err == io.ErrShortWrite:
		l.fillUp(c)
	case err != nil:
		l.failed(c, err)
	default:
		c.backlog = nil
		c.pace.wroteAll()
		delete(l.behind, c)
		if c.ending != "" {
			l.finish(c, c.ending)
		}
	}
}

// fillUp is for a socket that takes no more: epoll says when it does.
func (l *loop) fillUp(c *direct) {
	b := c.backlog
	b.full = true
	l.behind[c] = true
	c.pace.blocked(&l.config, l.now, b.load())
	if !c.watched {
		c.watched = true
		if err := l.watch(c, unix.EPOLL_CTL_MOD, unix.EPOLLOUT); err != nil {
			l.failed(c, err)
		}
	}
}

// heedMany handles epoll events for a slice, and reports whether there may be more. One event may be
// 100 µs of work, when a client reads large messages again.
func (l *loop) heedMany() (more bool) {
	for start := time.Now(); time.Since(start) < slice; {
		n, err := unix.EpollWait(l.epfd, l.events, 0)
		for i := range max(0, n) {
			l.heed(l.events[i])
		}
		if err != unix.EINTR && n < len(l.events) {
			return false
		}
	}
	return true
}

// flushMany flushes connections for a slice: joiners, and those that end.
func (l *loop) flushMany() {
	n := 0
	for start := time.Now(); n < len(l.unsent) && time.Since(start) < slice; n++ {
		l.flush(l.unsent[n])
	}
	left := copy(l.unsent, l.unsent[n:])
	clear(l.unsent[left:])
	l.unsent = l.unsent[:left]
	if left == 0 && cap(l.unsent) > 1024 {
		l.unsent = nil
	}
}

// heed does what an event of epoll asks for. It is a hint: the connection in
// that slot may be another one by now.
func (l *loop) heed(e unix.EpollEvent) {
	c := l.slots[e.Fd]
	if c == nil {
		return
	}
	if e.Events&^unix.EPOLLOUT != 0 {
		l.read(c)
	}
	if e.Events&unix.EPOLLOUT != 0 && c.backlog != nil {
		c.backlog.full = false
		l.flush(c)
	}
}

// read throws away what the client sends after its request, up to a bound, to
// see the end behind it.
func (l *loop) read(c *direct) {
	for {
		n, err := unix.Read(int(c.fd), l.waste)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return
		case err != nil:
			l.failed(c, err)
			return
		case n == 0:
			l.finish(c, Closed) // a half-closed connection has ended
			return
		default:
			if c.stray += uint16(n); c.stray > maxStray {
				l.finish(c, Closed)
				return
			}
		}
	}
}

// hasten sends away who takes too little, if it is the client that stood still
// and not the loop.
func (l *loop) hasten() {
	for c := range l.behind {
		if !c.pace.late(l.now) {
			continue
		}
		c.backlog.full = false
		l.flush(c)
		if c.backlog == nil || !c.pace.late(l.now) {
			continue
		}
		if c.ending != "" {
			l.finish(c, c.ending)
			continue
		}
		pulse := c.feel()
		if !l.judge(c, pulse) && c.pace.late(l.now) {
			l.sendAway(c, l.config.tooSlow(pulse))
		}
	}
}

// sendAway ends a connection that does not keep up: the rest of the event that
// it has begun to take, a goodbye, no more. What is for it alone may be long,
// and is cut off.
func (l *loop) sendAway(c *direct, why End) {
	if why == Timeout || c.backlog != nil && c.backlog.isAlone() {
		l.finish(c, why)
		return
	}
	l.backlog(c).queue = queue{}
	l.depart(c, Slow, l.config.Hurry)
}

// beat is a part of a heartbeat: some connections are pinged, and those that have not acknowledged
// a ping of answerParts ago or more are judged; those that have a backlog each time, as what they
// take gives them more time.
func (l *loop) beat() {
	for i, c := range l.slots {
		if c == nil {
			continue
		}
		ago := (l.part - i%heartbeatParts + heartbeatParts) % heartbeatParts
		switch {
		case ago == 0:
			l.ping(c)
		case ago >= answerParts && c.pace.owes, c.backlog != nil && c.backlog.full:
			l.judge(c, c.feel())
		}
	}
	l.part = (l.part + 1) % heartbeatParts
}

// ping sends a ping. A connection that has a backlog needs none, and one that is
// not attached yet has its sync to come first.
func (l *loop) ping(c *direct) {
	if c.backlog == nil && c.sits.share != nil {
		b := ping.bytes(c.chunked)
		switch n, err := c.write(b); {
		case err == io.ErrShortWrite:
			l.backlog(c).cut = b[n:]
			l.fillUp(c)
		case err != nil:
			l.failed(c, err)
			return
		}
	}
	l.judge(c, c.feel())
}

// judge ends a connection whose client has vanished or takes nothing, and
// reports whether it did.
func (l *loop) judge(c *direct, pulse socket.Pulse) (ended bool) {
	why := c.pace.observe(&l.config, l.now, pulse, c.load())
	if why != "" {
		l.sendAway(c, why)
	}
	return why != ""
}

func (l *loop) failed(c *direct, err error) {
	l.finish(c, cause(err))
}

// finish closes the connection and reports its end.
func (l *loop) finish(c *direct, why End) {
	if c.fd < 0 {
		return
	}
	c.sits.detach()
	if c.ending == "" {
		c.ending = why
	}
	if c.ending == Timeout || c.ending == Slow && c.backlog != nil { // it has not even taken the goodbye
		socket.Reset(descriptor(c.fd))
	} else {
		l.ender.End(descriptor(c.fd))
	}
	delete(l.behind, c)
	if c.backlog != nil {
		c.backlog.release()
	}
	c.fd, c.backlog = -1, nil
	l.slots[c.slot] = nil
	l.free = append(l.free, c.slot)
	l.conns.Add(-1)
	l.ours.Done()
	if c.released != nil {
		c.released()
	}
	if c.ended != nil {
		l.report(c.ended, c.ending)
		c.ended = nil
	}
}

// report has ended called by a goroutine that may wait for locks.
func (l *loop) report(ended func(End), why End) { l.ended.add(func() { ended(why) }) }
