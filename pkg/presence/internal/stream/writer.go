package stream

import (
	"cmp"
	"context"
	"io"
	"sync"
	"time"

	"example.com/presence/pkg/presence/internal/socket"
)

const (
	// hopeless times MaxUnsent waits for a client that takes something, and
	// ever less than comes. It costs little, as all connections share the frames.
	hopeless = 16
	// piece is how much a client must take in the time that it has.
	piece = 32 << 10
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
	alone    bool      // what is being written is for this client alone
	waiting  bool      // serve waits for wake, and will take the next frame at once
	woken    bool      // by the waker, which waits until it has seen to it
	deadline time.Time // set on the socket
	asked    bool      // to end: nothing more is for it alone
	ending   End
	dropped  bool // it ends without a word
	stopped  bool // serve has returned

	acked  uint64    // Pulse.Acked, when it was last felt
	moved  time.Time // when it was last seen to have acknowledged something, or all
	mark   uint64    // Pulse.Written at marked; 0 if all of that was acknowledged
	marked time.Time
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
	switch {
	case c.queue.unsent > hopeless*c.streams.config.MaxUnsent:
		c.endLocked(Slow)
	case c.hurriesLocked():
		if soon := time.Now().Add(c.streams.config.Hurry); c.deadline.After(soon) {
			c.setDeadlineLocked(soon) // for a write that blocks just now
		}
	}
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
	c.setDeadlineLocked(time.Now().Add(within)) // for a write that blocks just now, too
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
	c.setDeadlineLocked(time.Now())
	signal(c.wake)
}

// settleLocked has the waker go on that woke the goroutine.
func (c *writer) settleLocked() {
	if c.woken {
		c.woken = false
		c.waker.woken.Done()
	}
}

func (c *writer) setDeadlineLocked(t time.Time) {
	c.deadline = t
	c.out.SetWriteDeadline(t) // canServe has seen that it works
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

// check feels the client's pulse, and drops it if it has vanished. A client that
// takes something in its time is given more, though the socket may have room
// for much only.
func (c *writer) check(now time.Time) {
	p := c.http1.feel()
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case p.Acked >= c.mark:
		c.mark = 0
		if p.Written > p.Acked {
			c.mark, c.marked = p.Written, now
		}
	case now.Sub(c.marked) >= c.streams.config.patience() && p.Lost(c.streams.config.patience()):
		c.dropLocked(Timeout)
		return
	}
	if p.Acked > c.acked || p.Acked == p.Written {
		c.moved = now
	} else if now.Sub(c.moved) >= c.streams.config.pause() {
		if why := c.streams.config.tooSlow(p); why == Timeout {
			c.dropLocked(why)
		} else {
			c.endLocked(why)
		}
		return
	}
	if p.Acked > c.acked && c.ending == "" && !c.hurriesLocked() && !c.deadline.IsZero() {
		c.setDeadlineLocked(now.Add(c.streams.config.Progress))
	}
	c.acked = p.Acked
}

// hurriesLocked reports whether the client has little time for each piece.
func (c *writer) hurriesLocked() bool { return c.queue.unsent > c.streams.config.MaxUnsent && !c.alone }

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
	if c.waiting && c.http1 == nil && !c.deadline.IsZero() {
		c.setDeadlineLocked(time.Time{}) // HTTP/2 resets the stream when it passes, written to or not
	}
	return c.waiting
}

// write brings b into the buffers of the response and of the socket, a piece
// at a time, so that a client that takes each within Config.Progress may take
// its time over the whole.
func (c *writer) write(b []byte) error {
	c.unflushed = true
	for len(b) > 0 {
		n := min(len(b), piece)
		c.extend()
		if _, err := c.out.Write(b[:n]); err != nil {
			return err
		}
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

// extend gives the next write its time, unless the connection is ending and
// its time is set. A tenth of it may have passed before it is given anew.
func (c *writer) extend() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending != "" {
		return
	}
	within := c.streams.config.Progress
	if c.hurriesLocked() {
		within = c.streams.config.Hurry
	}
	now := time.Now()
	if left := c.deadline.Sub(now); left > within || left < within*9/10 {
		c.setDeadlineLocked(now.Add(within))
	}
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
	late := !time.Now().Before(c.deadline) // HTTP/2 has an error of its own for it
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
