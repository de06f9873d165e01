package load

import (
	"container/heap"
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// loop runs a share of the clients. One goroutine, in work, opens and closes their connections.
type loop struct {
	*shard
	sockets sockets
	limit   int // maximum number of clients in flight

	// The lock of the shard guards the fields below.
	clients []*client // client i of the run is client i/loops of loop i modulo loops
	slow    []*client // of these
	next    int       // the first client that was not opened yet
	retries retries
	churned int           // connections closed by the churn
	paced   time.Duration // of the last reads of slow clients
	checked time.Duration // of the last check of time limits
}

// sockets are the connections of a loop.
type sockets interface {
	// open begins a connection with a request. It sets the link of the client, or returns an error.
	// The caller holds the lock of the loop.
	open(c *client, request []byte) error
	// drain reads the bytes that have arrived, up to a number. The connection may end. The caller
	// holds the lock.
	drain(c *client, most int)
	// wait waits for events until the time, and passes them to the clients. It takes the lock.
	wait(until time.Duration)
	// end frees the resources, after all connections were closed.
	end()
}

// maxUnread is the maximum number of bytes that a client reads before its connection is closed, and
// after it was held. A receive buffer has at most 6 MiB by default (tcp_rmem).
const maxUnread = 8 << 20

// tick is the time between two reads of a slow client, and the longest sleep of a loop.
const tick = 100 * time.Millisecond

var errNoResponse = errors.New("no response")

// work runs the loop until ctx is done. Then it closes all connections.
func (l *loop) work(ctx context.Context) {
	for ctx.Err() == nil {
		l.mu.Lock()
		next := l.act()
		l.mu.Unlock()
		l.sockets.wait(next)
	}
	l.mu.Lock()
	for _, c := range l.clients {
		if c.link != nil {
			c.leave()
		}
	}
	l.mu.Unlock()
	l.sockets.end()
}

// act does all that is due, and returns the time of the next act.
func (l *loop) act() (next time.Duration) {
	l.now = l.shared.now()
	if p := l.phaseNow(); p != l.phase {
		l.phase = p
		l.enter()
	}
	next = l.now + tick
	for l.next < len(l.clients) && l.stats.flight < l.limit && l.phase <= steady {
		if due := l.dueAt(l.next); due > l.now {
			next = min(next, due)
			break
		}
		l.next++
		l.connect(l.clients[l.next-1])
	}
	for len(l.retries) > 0 && l.stats.flight < l.limit {
		if due := l.retries[0].at; due > l.now {
			next = min(next, due)
			break
		}
		c := heap.Pop(&l.retries).(retry).client
		l.stats.waiting--
		l.connect(c)
	}
	if l.phase == steady && l.Churn > 0 {
		next = min(next, l.churn())
	}
	if l.now-l.paced >= tick {
		l.paced = l.now
		for _, c := range l.slow {
			if c.held && c.link != nil {
				l.sockets.drain(c, max(1, l.SlowRate/int(time.Second/tick)))
			}
		}
	}
	if l.now-l.checked >= time.Second {
		l.checked = l.now
		l.expire()
	}
	return next
}

// dueAt returns when the client of this loop connects in the ramp phase.
func (l *loop) dueAt(index int) time.Duration {
	return time.Duration(float64(l.Ramp) * float64(l.clients[index].index) / float64(l.Clients))
}

// connect opens a connection for a client.
func (l *loop) connect(c *client) {
	l.now = l.shared.now()
	c.begin(l.now)
	request := l.Target.streamRequest(&l.Config, c.room.name, c.token, c.id)
	if err := l.sockets.open(c, request); err != nil {
		l.lose(c, err)
	}
}

// receive passes bytes from a socket to their client.
func (l *loop) receive(c *client, b []byte) {
	l.now = l.shared.now()
	l.stats.bytes += int64(len(b))
	if err := c.decoder.feed(b); err != nil {
		l.lose(c, err)
	}
}

// lose ends a connection because of an error, and schedules the next one.
func (l *loop) lose(c *client, err error) {
	wait := c.end(err)
	if wait < 0 {
		c.state = dead
		l.stats.dead++
		return
	}
	c.state = waiting
	l.stats.waiting++
	heap.Push(&l.retries, retry{l.now + wait, c})
}

// enter begins a phase.
func (l *loop) enter() {
	for _, c := range l.clients {
		if c.state != open || !c.landed || c.pace == normal {
			continue
		}
		if c.hold(); !c.held {
			l.sockets.drain(c, maxUnread)
		}
	}
}

// churn closes and opens connections at the rate. It returns the time of the next one.
func (l *loop) churn() time.Duration {
	rate := l.Churn * float64(len(l.clients)) / float64(l.Clients)
	for {
		due := l.steadyAt() + time.Duration(float64(l.churned)/rate*float64(time.Second))
		if due > l.now {
			return due
		}
		if l.stats.flight >= l.limit {
			return l.now + tick
		}
		l.churned++
		c := l.candidate()
		if c == nil {
			continue
		}
		l.sockets.drain(c, maxUnread) // close(2) would send a reset if there were unread bytes
		if c.state == open {
			c.leave()
			l.stats.churned++
			l.connect(c)
		}
	}
}

// candidate returns a random client with a stream that reads at full speed. It returns nil if it
// finds none soon.
func (l *loop) candidate() *client {
	for range 50 {
		if c := l.clients[rand.IntN(len(l.clients))]; c.state == open && !c.held {
			return c
		}
	}
	return nil
}

// expire ends the connections without a response.
func (l *loop) expire() {
	for _, c := range l.clients {
		if c.link != nil && !c.landed && l.now-c.began > openTimeout {
			l.lose(c, errNoResponse)
		}
	}
}

// retry is a client that connects again at a time.
type retry struct {
	at     time.Duration
	client *client
}

// retries is a heap, with the earliest first.
type retries []retry

func (r retries) Len() int           { return len(r) }
func (r retries) Less(i, j int) bool { return r[i].at < r[j].at }
func (r retries) Swap(i, j int)      { r[i], r[j] = r[j], r[i] }
func (r *retries) Push(x any)        { *r = append(*r, x.(retry)) }
func (r *retries) Pop() any {
	last := len(*r) - 1
	x := (*r)[last]
	*r = (*r)[:last]
	return x
}
