package stream

import (
	"cmp"
	"context"
	"io"
	"sync"
	"time"

	"example.com/presence/pkg/presence/internal/socket"
)

// out is what a writer writes to: an answer of net/http's, or one of HTTP/1
// that was taken out of it.
type out interface {
	io.Writer
	Flush() error
	SetWriteDeadline(time.Time) error
}

// writer is the sink that works everywhere, TLS and HTTP/2 included: a goroutine
// writes events from a bounded queue, which a waker fills with shared events. Of
// HTTP/2 it is that of the request; of HTTP/1 it is one of its own, and another one
// reads, so that net/http's with its buffers can go.
type writer struct {
	streams *Streams
	waker   *waker
	out     out
	http1   *http1 // what out is, if it was taken out of net/http; else nil
	counted bool   // in Streams.ours
	wake    chan struct{}

	attachedTo *share // guarded by the Stream's lock
	sits       seat   // the waker's alone

	// Of serve's goroutine alone.
	beat      bool // a ping is due
	said      bool // nothing is left to be written
	unflushed bool

	mu       sync.Mutex // guards what follows
	private  [][]byte   // events for this client alone, in pieces; they go before queue
	taken    []func()   // called when private has gone
	attached bool       // pings may come
	queue    queue
	alone    bool // what is being written is for this client alone
	waiting  bool // serve waits for wake, and will take the next frame at once
	woken    bool // by the waker, which waits until it has seen to it
	pace     pace
	limit    time.Duration // the deadline that out has, since streams.opened; 0 if it has none
	asked    bool          // to end: nothing more is for it alone
	ending   End
	dropped  bool // it ends without a word
	stopped  bool // serve has returned
}

func newWriter(o out, s *Streams) *writer {
	h, _ := o.(*http1)
	waker := s.wakers[s.writers.Add(1)%uint64(len(s.wakers))]
	return &writer{streams: s, waker: waker, out: o, http1: h, wake: make(chan struct{}, 1)}
}

func (c *writer) seat() *seat { return &c.sits }

func (c *writer) attach(s *Stream) {
	sh, place := s.shareLocked(c.waker.inbox), s.published
	sh.attached++
	c.attachedTo = sh
	c.waker.do(func() { sh.attach(c, place) })
	c.mu.Lock()
	defer c.mu.Unlock()
	c.attached = true
}

func (c *writer) detach(s *Stream) {
	s.leaveLocked(c.attachedTo)
	c.waker.do(c.sits.detach)
}

func (c *writer) tell(private [][]byte, taken func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.asked || c.ending != "" || c.stopped {
		if taken != nil {
			taken()
		}
		return
	}
	c.private = append(c.private, private...)
	if taken != nil {
		c.taken = append(c.taken, taken)
	}
	c.waiting = false // it takes this first
	signal(c.wake)
}

// deliver is called by the waker.
func (c *writer) deliver(b *batch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending != "" || c.stopped {
		return
	}
	for _, f := range b.frames {
		if c.sits.place < f.number {
			c.queue.push(f)
		}
	}
	if c.waiting && c.queue.len() > 0 {
		c.waiting, c.woken = false, true
		c.waker.woken.Add(1)
		signal(c.wake)
	}
	if !c.pace.queued(&c.streams.config, c.now(), c.loadLocked()) {
		c.endLocked(Slow)
	}
	c.limitLocked() // of a write that blocks now
}

// end asks for the end, after all events that were published before.
func (c *writer) end(why End) {
	ask := func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.ending == "" {
			for _, f := range c.sits.rest() {
				c.queue.push(f)
			}
		}
		c.endLocked(why)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = true
	if !c.waker.do(ask) {
		c.endLocked(why)
	}
}

func (c *writer) endLocked(why End) {
	if c.ending != "" || c.stopped {
		return
	}
	c.ending = why
	within := c.streams.config.LastWords
	if why == Slow {
		within = c.streams.config.Hurry
		c.queue = queue{}
	}
	c.pace.end(c.now(), within)
	c.limitLocked() // of a write that blocks now, too
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
	c.limitLocked()
	signal(c.wake)
}

// settleLocked has the waker go on that woke the goroutine.
func (c *writer) settleLocked() {
	if c.woken {
		c.woken = false
		c.waker.woken.Done()
	}
}

// now is the time since the streams were opened.
func (c *writer) now() time.Duration { return time.Since(c.streams.opened) }

// loadLocked returns the figures by which [pace] judges the client.
func (c *writer) loadLocked() load { return load{c.queue.unsent, c.alone} }

// limitLocked has a write fail when the deadline passes. Setting it costs more than a small write:
// one that is early by at most a tenth of its time stays.
func (c *writer) limitLocked() {
	deadline, within := c.pace.deadline, c.loadLocked().within(&c.streams.config)
	early := deadline - c.limit
	if deadline == 0 || early == 0 || c.limit > 0 && early > 0 && early <= within/10 && !c.pace.ending {
		return
	}
	c.limit = deadline
	c.out.SetWriteDeadline(c.streams.opened.Add(c.limit)) // canServe has seen that it works
}

func (c *writer) serve(ctx context.Context, ended func(End)) {
	if c.http1 == nil {
		ended(c.run(ctx))
		return
	}
	c.streams.watched.add(c)
	go func() { // ends with the connection, within Config.LastWords of its End
		if c.counted {
			defer c.streams.ours.Done()
		}
		heard := make(chan struct{})
		go func() {
			defer close(heard)
			c.drop(cause(c.http1.listen()))
		}()
		why := c.run(context.Background())
		c.http1.close(c.said && !c.isDropped(), why, c.streams.config.Hurry)
		<-heard
		c.streams.watched.remove(c)
		ended(why)
	}()
}

// check judges the client.
func (c *writer) check() {
	pulse := c.http1.feel()
	c.mu.Lock()
	defer c.mu.Unlock()
	switch why := c.pace.observe(&c.streams.config, c.now(), pulse, c.loadLocked()); why {
	case "":
		c.limitLocked()
	case Timeout:
		c.dropLocked(why)
	default:
		c.endLocked(why)
	}
}

// run writes until the end, and returns which one it is.
func (c *writer) run(ctx context.Context) End {
	heartbeat := time.NewTicker(c.streams.config.Heartbeat)
	defer heartbeat.Stop()
	defer c.stop()
	for ctx.Err() == nil {
		select {
		case <-heartbeat.C:
			c.beat = true
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
		if c.said {
			return c.ended()
		}
		if c.rest() {
			select {
			case <-c.wake:
			case <-heartbeat.C:
				c.beat = true
			case <-ctx.Done():
			}
		}
	}
	return cmp.Or(c.ended(), Closed)
}

// next returns what is to be written now: events in their order, a ping between
// two of them, the goodbye last, and then nil.
func (c *writer) next() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting, c.alone = false, false
	c.settleLocked()
	switch {
	case c.said || c.dropped:
		c.said = true
		return nil
	case len(c.private) > 0:
		b := c.private[0]
		c.private[0] = nil // or it is held until the last has gone
		c.private = c.private[1:]
		c.alone = true
		return b
	}
	c.private = nil
	c.releaseLocked()
	if c.attached && c.beat {
		c.beat = false
		return ping.bytes(false)
	}
	if f := c.queue.pop(); f != nil {
		return f.bytes(false)
	}
	if c.ending != "" {
		c.said = true
		return Goodbye(c.ending).Append(nil)
	}
	return nil
}

// rest reports whether nothing is left to do, and then lets the next frame
// wake serve.
func (c *writer) rest() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = c.queue.len() == 0 && len(c.private) == 0 && c.ending == ""
	if !c.waiting {
		return false
	}
	c.pace.wroteAll()
	if c.http1 == nil && c.limit != 0 { // HTTP/2 resets the stream when it passes, written to or not
		c.limit = 0
		c.out.SetWriteDeadline(time.Time{})
	}
	return true
}

// write brings b into the buffers of the response and of the socket, a piece
// at a time, so that a client that takes each within Config.Progress may take
// its time over the whole.
func (c *writer) write(b []byte) error {
	c.unflushed = true
	for len(b) > 0 {
		n := min(len(b), piece)
		c.begin()
		if _, err := c.out.Write(b[:n]); err != nil {
			return err
		}
		c.wrote(n)
		b = b[n:]
	}
	return nil
}

func (c *writer) flush() error {
	if !c.unflushed { // before the first byte it would send the headers
		return nil
	}
	c.unflushed = false
	return c.out.Flush()
}

// begin sets the deadline of the next write, and of a flush after it.
func (c *writer) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pace.begin(&c.streams.config, c.now(), c.loadLocked())
	c.limitLocked()
}

func (c *writer) wrote(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pace.wrote(n)
}

func (c *writer) ended() End {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ending
}

// failed says which end an error of the socket is.
func (c *writer) failed(err error) End {
	c.mu.Lock()
	defer c.mu.Unlock()
	late := c.limit > 0 && c.now() >= c.limit // HTTP/2 has an error of its own for it
	switch {
	case c.ending != "" && c.ending != Slow:
		return c.ending
	case late || c.ending == Slow:
		return c.streams.config.tooSlow(c.feel())
	}
	return cause(err)
}

// feel returns the client's pulse, if there is a way to feel it.
func (c *writer) feel() (p socket.Pulse) {
	if c.http1 != nil {
		p = c.http1.feel()
	}
	return p
}

func (c *writer) isDropped() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dropped
}

// stop makes tell, send and end harmless after serve.
func (c *writer) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = true
	c.private, c.queue = nil, queue{}
	c.settleLocked()
	c.releaseLocked()
}

// releaseLocked says that what was told has gone, or will not.
func (c *writer) releaseLocked() {
	for _, taken := range c.taken {
		taken()
	}
	c.taken = nil
}
