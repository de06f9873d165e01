package stream

import (
	"context"
	"io"
	"sync"
	"time"

	"example.com/presence/pkg/presence/internal/socket"
)

// output is the response that a writer writes to: a response of net/http, or an [http1].
type output interface {
	io.Writer
	Flush() error
	SetWriteDeadline(time.Time) error
}

// Monitored is a ResponseWriter of HTTP/2 whose connection is monitored. Vanished reports that the
// client has vanished, and that the connection was therefore reset.
type Monitored interface{ Vanished() bool }

// writer is the sink that works with every protocol and system, including TLS and HTTP/2. A waker
// fills its backlog, and the goroutine of serve writes the events:
//
//	HTTP/2   serve runs on the goroutine of the request
//	HTTP/1   serve starts one goroutine that writes and one that reads; the goroutine of the
//	         request ends, which frees the buffers of net/http
type writer struct {
	*resources
	waker   *waker
	out     output
	http1   *http1 // out if the connection is hijacked, else nil
	counted bool   // counted in resources.open until the end
	wake    chan struct{}

	vanished func() bool // reports whether the client of an HTTP/2 stream has vanished; see Monitored

	attachedTo *share     // guarded by the Stream's lock
	att        attachment // used only by the waker's goroutine
	measured   bool       // in waker.measured; used only by the waker's goroutine
	holds      heldCell   // safe for all goroutines

	// Used only by the goroutine of serve.
	pingDue   bool
	finished  bool // everything is written
	unflushed bool // data was written after the last Flush

	mu        sync.Mutex // guards the fields below
	private   [][]byte   // private events, in pieces; written before queue
	sent      []func()   // called when all of private is written
	attached  bool       // attach was called, so pings are allowed
	queue     queue
	isPrivate bool   // the write in progress belongs to a private event
	begun     uint64 // start of the frame that the write in progress belongs to; 0: of none
	waiting   bool   // serve waits for wake, so the next frame must signal it
	woken     bool   // the waker woke serve, and waits until serve has taken the frame
	pace      pace
	debt      debt          // of pace
	accounted int           // part of queue.unsent in resources.backlogBytes
	limit     time.Duration // write deadline of out, as a time of resources.now; 0: none
	endAsked  bool          // end was called, so private accepts no more events
	ending    End
	dropped   bool // the connection ends without a goodbye
	stopped   bool // serve has returned
}

// newWriter returns a sink that writes to o. If counted is set, the caller has counted the
// connection in resources.open, and the sink removes it when the connection ends.
func newWriter(o output, r *resources, w *waker, counted bool) *writer {
	h, _ := o.(*http1)
	c := &writer{resources: r, waker: w, out: o, http1: h, counted: counted, wake: make(chan struct{}, 1),
		vanished: func() bool { return false }}
	c.pace.debt = &c.debt
	return c
}

func (c *writer) inbox() *inbox[task] { return c.waker.inbox }

func (c *writer) attachment() *attachment { return &c.att }

func (c *writer) attach(sh *share, after uint64) {
	c.attachedTo = sh
	c.waker.do(func() {
		sh.attach(c, after)
		c.measureLater()
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.attached = true
}

func (c *writer) detach() *share {
	c.waker.do(c.att.detach)
	return c.attachedTo
}

func (c *writer) send(events [][]byte, sent func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.endAsked || c.ending != "" || c.stopped {
		if sent != nil {
			sent()
		}
		return
	}
	c.private = append(c.private, events...)
	if sent != nil {
		c.sent = append(c.sent, sent)
		c.waker.do(c.measureLater) // the input is long
	}
	c.waiting = false // deliver need not wake serve
	signal(c.wake)
}

func (c *writer) held() Held { return c.holds.get() }

// deliver is called by the waker.
func (c *writer) deliver(b *batch) (cost int) {
	c.measureLater()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending != "" || c.stopped {
		return 1
	}
	for _, f := range b.frames {
		if c.att.after < f.number {
			c.queue.push(f)
		}
	}
	if c.waiting && c.queue.len() > 0 {
		c.waiting, c.woken = false, true
		c.waker.woken.Add(1)
		signal(c.wake)
	}
	if !c.pace.queued(&c.config, c.now(), c.loadLocked()) {
		c.endLocked(Slow)
	}
	c.setDeadlineLocked() // applies to a write that is blocked now, too
	c.accountLocked()
	return 1
}

// measureLater makes the waker measure the writer until it has no backlog. It is called by the
// waker.
func (c *writer) measureLater() {
	if !c.measured {
		c.measured = true
		c.waker.measured = append(c.waker.measured, c)
	}
}

// measure implements backlogged.
func (c *writer) measure() (oldest uint64, done bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped || c.waiting {
		c.holds.set(Held{})
		c.measured = false
		return 0, true
	}
	if c.http1 == nil { // otherwise check does it, when it has read the acknowledgements
		c.pace.progress(&c.config, c.now())
	}
	c.holds.set(Held{c.queue.unsent, c.pace.stalled})
	if oldest = c.begun; oldest == 0 {
		if f := c.queue.first(); f != nil {
			oldest = f.start()
		}
	}
	return oldest, false
}

// accountLocked adds the change of the backlog to that of all writers.
func (c *writer) accountLocked() {
	before, now := c.accounted, c.queue.unsent
	if before == now {
		return
	}
	c.accounted = now
	c.backlogBytes.Add(int64(now - before))
	if before == 0 {
		c.backlogged.Add(1)
	} else if now == 0 {
		c.backlogged.Add(-1)
	}
}

// end ends the connection after all events that were published before the call are written.
func (c *writer) end(why End) {
	last := func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.ending == "" {
			for _, f := range c.att.undelivered() {
				c.queue.push(f)
			}
		}
		c.endLocked(why)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.endAsked = true
	if !c.waker.do(last) {
		c.endLocked(why)
	}
}

func (c *writer) endLocked(why End) {
	if c.ending != "" || c.stopped {
		return
	}
	c.ending = why
	within := c.config.goodbyeTime
	if why == Slow {
		within = c.config.slowTime
		c.queue = queue{}
		c.accountLocked()
	}
	c.pace.end(c.now(), within)
	c.setDeadlineLocked() // applies to a write that is blocked now, too
	signal(c.wake)
}

func (c *writer) drop(why End) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dropLocked(why)
}

func (c *writer) dropLocked(why End) {
	if c.stopped {
		return
	}
	if c.ending == "" {
		c.ending = why
	}
	c.dropped = true
	c.pace.end(c.now(), 0)
	c.setDeadlineLocked()
	signal(c.wake)
}

// releaseWakerLocked lets the waker continue, because serve has taken the frame that it was woken
// for.
func (c *writer) releaseWakerLocked() {
	if c.woken {
		c.woken = false
		c.waker.woken.Done()
	}
}

// loadLocked returns the state of the backlog. pace uses it to set the deadline.
func (c *writer) loadLocked() load { return load{c.queue.unsent, c.isPrivate} }

// setDeadlineLocked makes a write fail when the deadline of the pace passes. SetWriteDeadline costs
// more than a small write. Therefore, setDeadlineLocked keeps an old deadline that is early by at
// most a tenth of its time.
func (c *writer) setDeadlineLocked() {
	deadline, within := c.pace.deadline, c.loadLocked().within(&c.config)
	early := deadline - c.limit
	if deadline == 0 || early == 0 || c.limit > 0 && early > 0 && early <= within/10 && !c.pace.ending {
		return
	}
	c.limit = deadline
	c.out.SetWriteDeadline(c.opened.Add(deadline)) // cannot fail: see canServe
}

func (c *writer) serve(ctx context.Context, ended func(End)) {
	if c.http1 == nil {
		ended(c.run(ctx))
		return
	}
	c.checker.add(c)
	go func() { // ends with the connection, at most Config.goodbyeTime after end
		if c.counted {
			defer c.open.Done()
		}
		clientEnded := make(chan struct{})
		go func() { // ended by http1.close
			defer close(clientEnded)
			c.drop(endOf(c.http1.waitForEnd()))
		}()
		why := c.run(context.Background())
		c.http1.close(c.finished && !c.isDropped(), why, c.config.slowTime)
		<-clientEnded
		c.checker.remove(c)
		ended(why)
	}()
}

// check ends the connection if the client has vanished or is a slow consumer.
func (c *writer) check() {
	liveness := c.http1.liveness()
	c.mu.Lock()
	defer c.mu.Unlock()
	switch why := c.pace.observe(&c.config, c.now(), liveness, c.loadLocked()); why {
	case "":
		c.setDeadlineLocked()
	case Timeout:
		c.dropLocked(why)
	default:
		c.endLocked(why)
	}
}

// run writes events until the connection ends, and returns the reason for the end.
func (c *writer) run(ctx context.Context) End {
	heartbeat := time.NewTicker(c.config.Heartbeat)
	defer heartbeat.Stop()
	defer c.stop()
	for ctx.Err() == nil {
		select {
		case <-heartbeat.C:
			c.pingDue = true
		default:
		}
		if b := c.next(); b != nil {
			if err := c.write(b); err != nil {
				return c.failed(err)
			}
			continue
		}
		if err := c.flush(); err != nil {
			return c.failed(err)
		}
		if c.finished {
			return c.reason()
		}
		if c.wait() {
			select {
			case <-c.wake:
			case <-heartbeat.C:
				c.pingDue = true
			case <-ctx.Done():
			}
		}
	}
	switch why := c.reason(); {
	case why != "":
		return why
	case c.vanished():
		return Timeout
	}
	return Closed
}

// next returns the bytes to write next, or nil if there are none. The order is:
//
//  1. private events
//  2. a ping, if one is due
//  3. the next event of the queue
//  4. the goodbye, after which nothing follows
func (c *writer) next() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting, c.isPrivate, c.begun = false, false, 0
	c.releaseWakerLocked()
	switch {
	case c.finished || c.dropped:
		c.finished = true
		return nil
	case len(c.private) > 0:
		b := c.private[0]
		c.private[0] = nil // otherwise, it would stay in memory until the last piece is written
		c.private = c.private[1:]
		c.isPrivate = true
		return b
	}
	c.private = nil
	c.callSentLocked()
	if c.attached && c.pingDue {
		c.pingDue = false
		return ping.bytes(false)
	}
	if f := c.queue.pop(); f != nil {
		c.begun = f.start()
		c.accountLocked()
		return f.bytes(false)
	}
	if c.ending != "" {
		c.finished = true
		return Goodbye(c.ending).Append(nil)
	}
	return nil
}

// wait reports whether serve must wait because there is nothing to write. The next frame then wakes
// serve.
func (c *writer) wait() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = c.queue.len() == 0 && len(c.private) == 0 && c.ending == ""
	if !c.waiting {
		return false
	}
	c.pace.wroteAll()
	if c.http1 == nil && c.limit != 0 { // HTTP/2 resets a stream at its deadline, even between writes
		c.limit = 0
		c.out.SetWriteDeadline(time.Time{})
	}
	return true
}

// write writes b to the buffers of the response and of the socket. It writes one piece at a time,
// because the deadline applies to one piece.
func (c *writer) write(b []byte) error {
	c.unflushed = true
	size := piece
	if c.http1 == nil {
		size = smallPiece
	}
	for len(b) > 0 {
		n := min(len(b), size)
		c.begin()
		if _, err := c.out.Write(b[:n]); err != nil {
			return err
		}
		c.wrote(n)
		b = b[n:]
	}
	return nil
}

// begin sets the deadline for the next write and for the flush after it.
func (c *writer) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pace.begin(&c.config, c.now(), c.loadLocked())
	c.setDeadlineLocked()
}

func (c *writer) wrote(n int) {
	c.written.Add(uint64(n))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pace.wrote(n)
}

func (c *writer) flush() error {
	if !c.unflushed { // otherwise, a flush before the first byte would send the headers
		return nil
	}
	c.unflushed = false
	return c.out.Flush()
}

// reason returns the reason for the end, or "" if the connection is not ending.
func (c *writer) reason() End {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ending
}

// failed returns the reason for the end of the connection after a write error.
func (c *writer) failed(err error) End {
	c.mu.Lock()
	defer c.mu.Unlock()
	// The error does not show whether the deadline has passed, because HTTP/2 returns its own
	// error.
	late := c.limit > 0 && c.now() >= c.limit
	switch {
	case c.ending != "" && c.ending != Slow:
		return c.ending
	case c.vanished():
		return Timeout
	case late || c.ending == Slow:
		return c.config.tooSlow(c.liveness())
	}
	return endOf(err)
}

// liveness returns the kernel's TCP statistics for the client, or zero if they are unknown.
func (c *writer) liveness() (p socket.Liveness) {
	if c.http1 != nil {
		p = c.http1.liveness()
	}
	return p
}

func (c *writer) isDropped() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dropped
}

// stop makes send, deliver and end no-ops after serve has returned.
func (c *writer) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = true
	c.private, c.queue = nil, queue{}
	c.accountLocked()
	c.releaseWakerLocked()
	c.callSentLocked()
}

func (c *writer) callSentLocked() {
	for _, sent := range c.sent {
		sent()
	}
	c.sent = nil
}
