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
	"example.com/presence/pkg/presence/internal/uring"
)

// loop writes to some of the process's direct connections, and uses its own epoll instance to
// detect when they end. There is one loop per core. A loop has two goroutines, run and poll, for
// any number of connections and rooms. Other goroutines send tasks to the loop through its inbox.
//
// run works in turns. A turn starts when the inbox or epoll signals, at each part of a heartbeat,
// when deadlines must be checked, or when the last turn left unfinished work. A turn has these
// steps:
//
//  1. handle epoll events, for at most a slice: clients that close, sockets with free space
//  2. heartbeat: ping some connections and check others, once per part of a heartbeat
//  3. handle all tasks of the inbox: joins, ends, events to fan out
//  4. flush the backlogs of joiners and of ending connections, for at most a slice
//  5. continue the fan-outs of its rooms, for a slice
//  6. check the deadlines of blocked clients and measure their backlogs, once per measureTime
//
// Events that are published during a fan-out are queued for the room's next fan-out, which writes
// all of them to each socket in one write.
type loop struct {
	*resources
	inbox    *inbox[task]
	size     atomic.Int64 // number of connections
	epoll    *os.File
	ready    chan struct{} // signalled when epoll has events
	yielder  *yielder
	stopping context.Context
	stop     context.CancelFunc
	running  sync.WaitGroup

	// Used only by run's goroutine.
	epfd      int
	time      time.Duration // start of the turn, as a time of resources.now
	conns     []*direct     // an epoll event contains an index into conns
	free      []int32       // unused indexes of conns
	fanOuts   fanOuts
	unflushed []*direct // joiners and ending connections whose backlogs must be flushed
	blocked   map[*direct]bool
	lag       lag
	part      int // next part of the heartbeat
	events    []unix.EpollEvent
	ring      ringSends // the sends of the current group
	pieces    [][]byte
	scratch   []byte
}

// openLoop starts a loop. loop.close stops it.
func openLoop(r *resources) (*loop, error) {
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(epfd, true); err != nil { // otherwise, the runtime would not poll it
		unix.Close(epfd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	l := &loop{
		resources: r, inbox: newInbox[task](), epfd: epfd, epoll: os.NewFile(uintptr(epfd), "epoll"),
		ready: make(chan struct{}, 1), blocked: map[*direct]bool{},
		fanOuts: fanOuts{group: writeCost * loopGroup, bytes: maxBatch, tally: tally{delivered: r.config.Delivered, pass: r.config.Pass}},
		events:  make([]unix.EpollEvent, 8), pieces: make([][]byte, 0, maxPieces), scratch: make([]byte, 4<<10),
	}
	raw, err := l.epoll.SyscallConn()
	if err == nil {
		err = l.epoll.SetReadDeadline(time.Time{}) // works only if the runtime polls it
	}
	if err == nil {
		l.yielder, err = openYielder()
	}
	if err != nil {
		l.epoll.Close()
		return nil, err
	}
	l.ring.open(r)
	if l.ring.ring != nil {
		l.fanOuts.alone, l.fanOuts.settle = ringGroupAlone, l.sendGroup
	}
	l.stopping, l.stop = context.WithCancel(context.Background())
	l.running.Go(func() { l.poll(raw) }) // ended by close
	l.running.Go(l.run)                  // ended by close
	return l, nil
}

// close stops the loop. All its connections must have ended.
func (l *loop) close() {
	l.inbox.close()
	l.stop()
	l.epoll.SetReadDeadline(time.Unix(1, 0)) // wakes poll
	l.running.Wait()
	l.epoll.Close()
	l.yielder.close()
	l.ring.close()
}

// do makes run call f after all earlier tasks. It returns false after close.
func (l *loop) do(f func()) bool { return l.inbox.add(task{do: f}) }

// put is like do, but does not wake the loop: f runs in the next turn. Only the last step of a join
// wakes the loop, because a turn for each step would cost more than the step.
func (l *loop) put(f func()) bool { return l.inbox.put(task{do: f}) }

// poll signals ready when epoll has events. The descriptor of the epoll instance is then readable.
// The runtime waits for this as for any other descriptor, without a thread.
func (l *loop) poll(raw syscall.RawConn) {
	raw.Read(func(uintptr) (done bool) {
		signal(l.ready)
		return l.stopping.Err() != nil
	})
}

func (l *loop) run() {
	var tasks []task
	ticks := time.NewTicker(l.config.Heartbeat / heartbeatParts)
	defer ticks.Stop()
	deadlines := time.NewTimer(measureTime)
	defer deadlines.Stop()
	var checked time.Duration
	more := false // epoll may have more events
	for last := false; !last; {
		tick := false
		if more || len(l.unflushed) > 0 || len(l.fanOuts.active) > 0 { // start another turn
			l.fanOuts.yield(l.yielder)
			signal(l.inbox.wake)
		}
		select {
		case <-l.inbox.wake:
		case <-l.ready:
		case <-ticks.C:
			tick = true
		case <-deadlines.C:
		case <-l.stopping.Done():
			last = true
		}
		l.time = l.now()
		more = l.handleEvents()
		if tick {
			l.heartbeat()
		}
		tasks = l.inbox.take(tasks)
		l.fanOuts.handle(tasks)
		l.flushAll()
		l.fanOuts.round()
		if len(l.blocked) > 0 {
			if l.time-checked >= measureTime {
				checked = l.time
				l.checkDeadlines()
				l.measureBacklogs()
			}
			deadlines.Reset(measureTime)
		} else if l.fanOuts.tally.totals.backlogged.Load() > 0 || len(l.lag.shares) > 0 {
			l.measureBacklogs()
		}
		l.fanOuts.tally.publish(l.now() - l.time)
	}
	for len(l.unflushed) > 0 {
		l.flushAll()
	}
	l.fanOuts.finish()
}

// add adds a connection to the loop.
func (l *loop) add(c *direct) {
	if len(l.free) == 0 {
		l.conns = append(l.conns, nil)
		l.free = append(l.free, int32(len(l.conns)-1))
	}
	last := len(l.free) - 1
	c.index, l.free = l.free[last], l.free[:last]
	l.conns[c.index] = c
	if err := l.register(c, unix.EPOLL_CTL_ADD, 0); err != nil {
		l.finish(c, Closed)
	}
}

// register makes epoll report when the client closes the connection or sends data. It also reports
// the additional events in more. All events are edge-triggered.
func (l *loop) register(c *direct, op int, more uint32) error {
	return unix.EpollCtl(l.epfd, op, int(c.fd), &unix.EpollEvent{
		Events: unix.EPOLLIN | unix.EPOLLET | more, Fd: c.index,
	})
}

func (l *loop) serve(c *direct, ended func(End)) {
	if c.fd < 0 {
		l.reportEnd(ended, c.ending)
		return
	}
	c.ended = ended
}

func (l *loop) attach(c *direct, sh *share, after uint64) {
	if c.fd < 0 || c.ending != "" {
		return
	}
	sh.attach(c, after)
}

func (l *loop) send(c *direct, events [][]byte, sent func()) {
	if c.fd < 0 || c.ending != "" {
		if sent != nil {
			sent()
		}
		return
	}
	b := l.backlog(c)
	b.addPrivate(events)
	if sent != nil {
		b.sent = append(b.sent, sent)
	}
	l.unflushed = append(l.unflushed, c)
}

// end ends the connection with a goodbye, after the events that were published before the call.
func (l *loop) end(c *direct, why End) {
	if c.fd < 0 || c.ending != "" {
		return
	}
	for _, f := range c.att.undelivered() {
		l.backlog(c).queue.push(f)
	}
	l.goodbye(c, why, l.config.goodbyeTime)
}

// goodbye adds a goodbye to the backlog. flushAll writes it later, because many connections may end
// at the same time.
func (l *loop) goodbye(c *direct, why End, within time.Duration) {
	c.att.detach()
	c.ending = why
	l.backlog(c).addGoodbye(why)
	c.pace.end(l.time, within)
	l.unflushed = append(l.unflushed, c)
}

// writeCost is the cost of a write. That of a send with the ring is 1, so that a group has
// ringGroup sends or loopGroup writes.
const writeCost = ringGroup / loopGroup

// deliver writes a batch to a connection, or adds it to the backlog if there is one. With a ring,
// sendGroup writes it after the last connection of the group.
func (l *loop) deliver(c *direct, batch *batch) (cost int) {
	if c.backlog == nil && c.att.after < batch.frames[0].number {
		b := batch.bytes(c.chunked)
		if l.ring.ring != nil && len(c.att.share.conns) >= l.config.MinRing {
			l.ring.add(c, c.fd, b)
			return 1
		}
		n, err := c.write(b)
		l.wrote(c, batch, n, err)
		return writeCost
	}
	b := l.backlog(c)
	for _, f := range batch.frames {
		if c.att.after < f.number {
			b.queue.push(f)
		}
	}
	switch {
	case !b.full:
		l.flush(c)
	case !c.pace.queued(&l.config, l.time, b.load()):
		l.evict(c, l.config.tooSlow(c.liveness()))
	}
	return writeCost
}

// sendGroup makes the sends of the ring, after the last connection of a group of a fan-out.
func (l *loop) sendGroup(batch *batch) {
	l.ring.flush(func(r receiver, s uring.Send) {
		c := r.(*direct)
		if s.N > 0 {
			l.fanOuts.tally.bytes += s.N
		}
		switch s.N {
		case len(s.Bytes):
		case uring.NotSent:
			n, err := c.write(s.Bytes)
			l.wrote(c, batch, n, err)
		case uring.Failed:
			l.wrote(c, batch, 0, s.Err)
		case uring.Unknown:
			unix.Shutdown(int(c.fd), unix.SHUT_RDWR) // otherwise, the ring could send later
			l.finish(c, Closed)
		default:
			l.wrote(c, batch, s.N, io.ErrShortWrite)
		}
	})
	if l.ring.ring == nil { // it has failed
		l.fanOuts.alone, l.fanOuts.settle = 0, nil
	}
}

// wrote handles the result of writing a batch to a connection without a backlog.
func (l *loop) wrote(c *direct, batch *batch, n int, err error) {
	if err == nil {
		return
	}
	if err != io.ErrShortWrite {
		l.finish(c, endOf(err))
		return
	}
	l.backlog(c).addRest(batch.frames, n)
	c.pace.wrote(n)
	l.block(c)
}

// backlog returns the backlog of the connection. If there is none, it makes one.
func (l *loop) backlog(c *direct) *backlog {
	if c.backlog == nil {
		c.setBacklog(&backlog{chunked: c.chunked})
	}
	return c.backlog
}

// flush writes as much of the backlog as the socket accepts.
func (l *loop) flush(c *direct) {
	if c.backlog == nil || c.backlog.full {
		return
	}
	err := c.flush(l.pieces)
	if !c.backlog.isPrivate() {
		c.backlog.callSent()
	}
	switch {
	case err == io.ErrShortWrite:
		l.block(c)
	case err != nil:
		l.finish(c, endOf(err))
	default:
		c.pace.wroteAll()
		c.setBacklog(nil)
		c.holds.set(Held{})
		delete(l.blocked, c)
		if c.ending != "" {
			l.finish(c, c.ending)
		}
	}
}

// block records that the socket is full. Epoll reports when the socket has free space.
func (l *loop) block(c *direct) {
	b := c.backlog
	b.full = true
	l.blocked[c] = true
	c.pace.blocked(&l.config, l.time, b.load())
	if sh := c.att.share; sh != nil && sh.oldest == 0 && b.oldest() > 0 { // the first one of its share
		l.lag.add(sh, b.oldest())
		sh.of.update(sh)
	}
	if !c.wantsWrite {
		c.wantsWrite = true
		if err := l.register(c, unix.EPOLL_CTL_MOD, unix.EPOLLOUT); err != nil {
			l.finish(c, endOf(err))
		}
	}
}

// handleEvents handles epoll events for about a slice, and reports whether there may be more. It
// checks the time after each batch, so it may overrun: an event of a client that resumes reading
// large messages may take 100 µs.
func (l *loop) handleEvents() (more bool) {
	for start := time.Now(); time.Since(start) < slice; {
		n, err := unix.EpollWait(l.epfd, l.events, 0)
		for i := range max(0, n) {
			l.handleEvent(l.events[i])
		}
		if err != unix.EINTR && n < len(l.events) {
			return false
		}
	}
	return true
}

// handleEvent handles one epoll event. The event is only a hint, because its index may belong to
// another connection now.
func (l *loop) handleEvent(e unix.EpollEvent) {
	c := l.conns[e.Fd]
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

// flushAll flushes the backlogs of joiners and ending connections, for at most a slice.
func (l *loop) flushAll() {
	n := 0
	for start := time.Now(); n < len(l.unflushed) && time.Since(start) < slice; n++ {
		l.flush(l.unflushed[n])
	}
	left := copy(l.unflushed, l.unflushed[n:])
	clear(l.unflushed[left:])
	l.unflushed = l.unflushed[:left]
	if left == 0 && cap(l.unflushed) > 1024 {
		l.unflushed = nil
	}
}

// read discards the bytes that the client sends after its request, because the end of the
// connection is visible only after them. It disconnects a client that sends more than maxTrailing
// bytes.
func (l *loop) read(c *direct) {
	for {
		n, err := unix.Read(int(c.fd), l.scratch)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return
		case err != nil:
			l.finish(c, endOf(err))
			return
		case n == 0:
			l.finish(c, Closed) // a half-closed connection counts as ended
			return
		default:
			if c.trailing += uint16(n); c.trailing > maxTrailing {
				l.finish(c, Closed)
				return
			}
		}
	}
}

// checkDeadlines evicts the clients whose deadline has passed. It flushes their backlogs first,
// because the loop may have been late instead of the client.
func (l *loop) checkDeadlines() {
	for c := range l.blocked {
		if !c.pace.late(l.time) {
			continue
		}
		c.backlog.full = false
		l.flush(c)
		if c.backlog == nil || !c.pace.late(l.time) {
			continue
		}
		if c.ending != "" {
			l.finish(c, c.ending)
			continue
		}
		liveness := c.liveness()
		if !l.observe(c, liveness) && c.pace.late(l.time) {
			l.evict(c, l.config.tooSlow(liveness))
		}
	}
}

// measureBacklogs publishes the number and the size of the backlogs of full sockets.
func (l *loop) measureBacklogs() {
	unsent := 0
	l.lag.begin()
	for c := range l.blocked {
		unsent += c.backlog.queue.unsent
		c.holds.set(Held{c.backlog.queue.unsent, c.pace.stalled})
		l.lag.add(c.att.share, c.backlog.oldest())
	}
	l.lag.end()
	l.fanOuts.tally.totals.backlogged.Store(int64(len(l.blocked)))
	l.fanOuts.tally.totals.backlogBytes.Store(int64(unsent))
}

// heartbeat handles one part of a heartbeat. The index of a connection determines its part:
//
//	parts since its part   connection                                    action
//	0                      all                                           ping, observe
//	≥ answerParts          with data to acknowledge, such as the ping    observe
//	any                    with a full socket                            observe
func (l *loop) heartbeat() {
	for i, c := range l.conns {
		if c == nil {
			continue
		}
		ago := (l.part - i%heartbeatParts + heartbeatParts) % heartbeatParts
		switch {
		case ago == 0:
			l.ping(c)
		case ago >= answerParts && c.pace.unackedSince > 0, c.backlog != nil && c.backlog.full:
			l.observe(c, c.liveness())
		}
	}
	l.part = (l.part + 1) % heartbeatParts
}

// ping sends a ping and observes the client. A connection with a backlog needs no ping. A
// connection that is not attached yet must receive its sync first.
func (l *loop) ping(c *direct) {
	if c.backlog == nil && c.att.share != nil {
		b := ping.bytes(c.chunked)
		switch n, err := c.write(b); {
		case err == io.ErrShortWrite:
			l.backlog(c).partial = b[n:]
			l.block(c)
		case err != nil:
			l.finish(c, endOf(err))
			return
		}
	}
	l.observe(c, c.liveness())
}

// observe evicts the client if it has vanished or acknowledges nothing. It reports whether it
// evicted the client.
func (l *loop) observe(c *direct, liveness socket.Liveness) (evicted bool) {
	why := c.pace.observe(&l.config, l.time, liveness, c.load())
	if why != "" {
		l.evict(c, why)
	}
	return why != ""
}

// evict ends the connection of a client that is too slow. The client may still read the rest of the
// current event, and a goodbye. A replay is cut off, because it may be long. A vanished client
// receives neither.
func (l *loop) evict(c *direct, why End) {
	if why == Timeout || c.load().private {
		l.finish(c, why)
		return
	}
	l.backlog(c).queue = queue{}
	l.goodbye(c, Slow, l.config.slowTime)
}

// finish closes the connection and reports its end.
func (l *loop) finish(c *direct, why End) {
	if c.fd < 0 {
		return
	}
	c.att.detach()
	if c.ending == "" {
		c.ending = why
	}
	// A slow client with a backlog has not read its goodbye either.
	if c.ending == Timeout || c.ending == Slow && c.backlog != nil {
		socket.Reset(descriptor(c.fd))
	} else {
		l.ender.End(descriptor(c.fd))
	}
	delete(l.blocked, c)
	if c.backlog != nil {
		c.backlog.callSent()
	}
	c.fd = -1
	c.setBacklog(nil)
	l.conns[c.index] = nil
	l.free = append(l.free, c.index)
	l.size.Add(-1)
	l.open.Done()
	if c.released != nil {
		c.released()
	}
	if c.ended != nil {
		l.reportEnd(c.ended, c.ending)
		c.ended = nil
	}
}
