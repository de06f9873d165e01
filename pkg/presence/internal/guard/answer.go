package guard

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"example.com/presence/pkg/presence/internal/refusal"
)

const (
	// BodyTime is the time within which a request body must arrive.
	BodyTime = 10 * time.Second

	// piece is the size of one write. Each piece has its own write deadline.
	piece = 8 << 10
	// patience is the write deadline per piece if the guard cannot see the peer's acknowledgements.
	// It is long, because the kernel accepts more data only when a third of its buffer is free, and
	// a slow peer needs some time for that.
	patience = 30 * time.Second
	// The maximum time of a response is answerTime plus 1 s per answerRate bytes, even if the peer
	// reads steadily.
	answerTime = 5 * time.Minute
	answerRate = 4 << 10
)

// Answer is the [http.ResponseWriter] of one request. It enforces the deadlines of the response.
type Answer struct {
	http.ResponseWriter
	control   *http.ResponseController
	conn      *Conn // nil if the guard did not harden the listener
	monitored bool  // the sweep monitors the acknowledgements of conn's peer
	http2     bool
	began     time.Time
	body      bool // the request body is incomplete; guarded by guard.mu if conn is set
	isStream  bool // the response is an event stream
	refused   bool // rejected at the limit of concurrent responses
	status    int  // status of the response; 0 until it is known

	size    atomic.Int64 // bytes passed to Write
	written atomic.Int64 // bytes accepted by net/http
	blocked atomic.Bool  // a write is in progress
	lost    atomic.Bool  // the connection was reset, because the peer has vanished
	ends    atomic.Int64 // write deadline of an event stream, in Unix nanoseconds; 0: none

	using sync.Mutex // held while abort uses control or conn
	done  bool       // abort must not use them any more; guarded by using

	// Used only by the sweep.
	mark   int64     // value of written at the last progress
	marked time.Time // time of the last progress
}

// Begin sets the deadlines of the request. The handler must use the returned ResponseWriter and
// Request, and must call [Answer.End] when it is done.
func (g *Guard) Begin(w http.ResponseWriter, r *http.Request) (*Answer, *http.Request) {
	conn, _ := r.Context().Value(connKey{}).(*Conn)
	a := &Answer{ResponseWriter: w, control: http.NewResponseController(w), conn: conn, http2: r.ProtoMajor == 2,
		began: time.Now(), body: r.ContentLength != 0 && r.Body != nil}
	if a.body {
		// Rejected requests need this deadline as well, because net/http reads the body before it
		// responds. An error only means that w does not support deadlines.
		a.control.SetReadDeadline(a.began.Add(BodyTime))
		own := *r
		own.Body = &body{r.Body, a}
		r = &own
	}
	a.monitored = conn != nil && conn.known
	if !a.monitored {
		a.extend()
	}
	if conn == nil {
		return a, r
	}
	if a.refused = !conn.guard.freeSlot(r.Context(), conn); a.refused {
		a.abort()
	}
	conn.guard.mu.Lock()
	defer conn.guard.mu.Unlock()
	conn.http2 = a.http2
	conn.guard.answers++
	conn.answers = append(conn.answers, a)
	if a.body {
		conn.bodies++
	} else {
		conn.sentRequest = true
	}
	return a, r
}

// Refused reports whether the request was rejected, because the limit of concurrent responses was
// reached and no connection could be evicted. In this case the handler must write nothing, and the
// request is reset.
func (a *Answer) Refused() bool { return a.refused }

// freeSlot ensures that there is a slot for one more response, that of conn, and reports whether
// there is one. At the limit it resets the connection with the most responses that wait for the
// peer. It returns false if no connection has more than one such response.
func (g *Guard) freeSlot(ctx context.Context, conn *Conn) bool {
	g.mu.Lock()
	if g.answers < maxAnswers {
		g.mu.Unlock()
		return true
	}
	var victim *Conn
	most := 1
	for c := range g.conns {
		if n := c.waitingLocked(); n > most {
			victim, most = c, n
		}
	}
	if victim != nil {
		g.removeLocked(victim)
		g.answers -= len(victim.answers) // free the slots now, because its handlers end later
		victim.answers = nil
	}
	g.mu.Unlock()
	g.config.Refused(ctx, refusal.Answers, "detail", "concurrent response limit reached", "limit", maxAnswers,
		"client_address", textOf(cmp.Or(victim, conn).RemoteAddr()))
	if victim != nil {
		victim.reset()
	}
	return victim != nil
}

// waitingLocked returns the number of responses that wait for the peer to read, or to send the
// request body.
func (c *Conn) waitingLocked() (n int) {
	for _, a := range c.answers {
		if a.blocked.Load() || a.body {
			n++
		}
	}
	return n
}

// body is a request body that records when it has arrived completely.
type body struct {
	io.ReadCloser
	answer *Answer
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		b.answer.arrived()
	}
	return n, err
}

// arrived records that the request body is complete.
func (a *Answer) arrived() {
	a.control.SetReadDeadline(time.Time{}) // otherwise, it would cancel the request's context
	if a.conn == nil {
		return
	}
	a.conn.guard.mu.Lock()
	defer a.conn.guard.mu.Unlock()
	if a.body {
		a.conn.bodies--
		a.body = false
	}
	a.conn.sentRequest = true
}

// Unwrap returns the underlying ResponseWriter, for [http.ResponseController].
func (a *Answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// WriteHeader implements [http.ResponseWriter].
func (a *Answer) WriteHeader(status int) {
	if a.status == 0 && status >= http.StatusOK { // not one of the informational responses before it
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

// Status returns the status of the response. It is 200 if no status was written, because net/http
// sends that at the end of the handler.
func (a *Answer) Status() int { return cmp.Or(a.status, http.StatusOK) }

// IsStream reports whether the response is an event stream.
func (a *Answer) IsStream() bool { return a.isStream }

// Write implements [io.Writer]. It does not keep p.
func (a *Answer) Write(p []byte) (n int, err error) {
	a.size.Add(int64(len(p)))
	a.blocked.Store(true)
	defer a.blocked.Store(false)
	if a.monitored && !a.http2 {
		return a.ResponseWriter.Write(p) // the sweep monitors the acknowledgements instead
	}
	for len(p) > 0 && err == nil {
		if !a.monitored {
			a.extend()
		}
		var k int
		k, err = a.ResponseWriter.Write(p[:min(len(p), piece)])
		a.written.Add(int64(k))
		p, n = p[k:], n+k
	}
	return n, err
}

// deadline returns the time at which the response must be complete.
func (a *Answer) deadline() time.Time {
	return a.began.Add(answerTime + time.Duration(a.size.Load()/answerRate)*time.Second)
}

// extend sets the write deadline of the next piece, for a response that the sweep does not monitor.
func (a *Answer) extend() {
	within := patience
	if a.http2 { // only the peer's flow control delays the write
		within = window
	}
	end := time.Now().Add(within)
	if last := a.deadline(); last.Before(end) {
		end = last
	}
	a.control.SetWriteDeadline(end)
}

// review reports whether the response may continue. If judged is set, minProgress applies to the
// connection as a whole. The progress of the connection then counts for each of its responses.
func (a *Answer) review(p progress, judged bool, now time.Time) bool {
	written := a.written.Load()
	progressing := written-a.mark >= minProgress || judged && p.unacked && p.since.After(a.marked)
	if !a.blocked.Load() || progressing || a.marked.IsZero() {
		a.mark, a.marked = written, now
	}
	if !a.http2 { // Conn.review checks the progress of the connection
		a.marked = now
	}
	return now.Sub(a.marked) < window && now.Before(a.deadline())
}

// abort ends the response. An HTTP/2 connection stays open. abort does nothing after [Answer.End]:
// from then on, an HTTP/1 connection may carry the response to another user of a proxy, and
// net/http uses the state of an HTTP/2 response for another one.
func (a *Answer) abort() {
	a.using.Lock()
	defer a.using.Unlock()
	switch {
	case a.done:
	case a.http2:
		a.control.SetWriteDeadline(time.Unix(1, 0))
	default:
		a.conn.reset()
	}
}

// finish makes abort do nothing from now on.
func (a *Answer) finish() {
	a.using.Lock()
	defer a.using.Unlock()
	a.done = true
}

// Stream marks the response as an event stream, which has its own deadlines, and returns the
// ResponseWriter for it. An HTTP/2 connection carries the stream until [Answer.End]. Over HTTP/1,
// the stream takes over the connection; see [Conn.Detach].
func (a *Answer) Stream() http.ResponseWriter {
	a.isStream = true
	if a.conn == nil {
		return a.ResponseWriter // the stream sets its own deadline immediately
	}
	g := a.conn.guard
	g.mu.Lock()
	defer g.mu.Unlock()
	a.leaveLocked()
	a.conn.ended = time.Time{}
	_, counted := g.conns[a.conn]
	if a.conn.streams = append(a.conn.streams, a); len(a.conn.streams) == 1 && counted {
		g.countLocked(-1)
	}
	return streamWriter{a.ResponseWriter, a}
}

// streamWriter is the ResponseWriter of an event stream. It records the write deadline that the
// stream sets. net/http resets the stream after that deadline, but cannot send the reset while the
// peer reads nothing. Therefore, the sweep checks the deadline as well.
type streamWriter struct {
	http.ResponseWriter
	answer *Answer
}

func (c streamWriter) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// Vanished reports whether the peer has vanished, so that the guard has reset the connection.
func (c streamWriter) Vanished() bool { return c.answer.lost.Load() }

func (c streamWriter) SetWriteDeadline(t time.Time) error {
	at := int64(0)
	if !t.IsZero() {
		at = t.UnixNano()
	}
	c.answer.ends.Store(at)
	return c.answer.control.SetWriteDeadline(t)
}

// overdue reports whether the deadline of the stream passed more than one sweep interval ago.
func (a *Answer) overdue(now time.Time) bool {
	at := a.ends.Load()
	return at != 0 && now.UnixNano() > at+int64(sweepInterval)
}

// leaveLocked removes the response from its connection.
func (a *Answer) leaveLocked() {
	if i := slices.Index(a.conn.answers, a); i >= 0 {
		a.conn.answers = slices.Delete(a.conn.answers, i, i+1)
		a.conn.guard.answers--
	}
	// Over HTTP/1, the body still counts, because net/http reads the rest of it until the
	// connection is idle.
	if a.body && a.conn.http2 {
		a.conn.bodies--
		a.body = false
	}
}

// End must be called when the handler is done. It sets the deadline for the rest of the response,
// which net/http still has to write.
func (a *Answer) End() {
	switch {
	case a.isStream && a.conn != nil:
		a.finish()
		a.endStream()
	case a.conn == nil:
		if !a.isStream {
			a.extend()
		}
	default:
		if !a.monitored {
			a.extend()
		} else if a.http2 && a.size.Load() > 0 { // flow control can delay this flush
			a.blocked.Store(true)
			a.control.Flush()
		}
		a.finish()
		a.conn.guard.mu.Lock()
		defer a.conn.guard.mu.Unlock()
		a.leaveLocked()
		if until := a.deadline(); until.After(a.conn.until) {
			a.conn.until = until
		}
	}
}

// endStream counts the connection as idle again when its last stream has ended.
func (a *Answer) endStream() {
	c := a.conn
	g := c.guard
	g.mu.Lock()
	defer g.mu.Unlock()
	_, counted := g.conns[c]
	c.streams = slices.DeleteFunc(c.streams, func(other *Answer) bool { return other == a })
	if len(c.streams) == 0 && counted {
		g.countLocked(1)
		c.since = time.Now()
		c.ended = c.since
	}
}

// maxLarge is the maximum number of concurrent large responses per HTTP/2 connection.
const maxLarge = 2

// largeTime is the maximum time that a request waits for a slot for a large response.
const largeTime = 10 * time.Second

// largeSlots holds the slots for the large responses of one connection.
type largeSlots struct {
	slots chan struct{}
	users int // responses that hold or wait for a slot; at 0 Guard.largeSlots drops the entry
}

// ErrBusy means that no slot for a large response became free in time, because the other large
// responses of the connection wait for the peer.
var ErrBusy = errors.New("large response limit per connection reached")

// Large waits for a slot for a response that uses memory while a slow peer reads it. HTTP/1 needs
// no slots, because a connection has only one response at a time. The error is [ErrBusy] or the
// error of the request's context.
func (g *Guard) Large(r *http.Request) (release func(), err error) {
	if r.ProtoMajor != 2 {
		return func() {}, nil
	}
	p, leave := g.largeSlotsOf(r)
	if p == nil {
		return func() {}, nil
	}
	wait := time.NewTimer(largeTime)
	defer wait.Stop()
	select {
	case p.slots <- struct{}{}:
		return func() { <-p.slots; leave() }, nil
	case <-wait.C:
		leave()
		return nil, ErrBusy
	case <-r.Context().Done():
		leave()
		return nil, r.Context().Err()
	}
}

// largeSlotsOf returns the slots of the request's connection. If the connection is not a Conn, the
// pointer to its local address identifies it, because package net allocates one for each
// connection.
func (g *Guard) largeSlotsOf(r *http.Request) (p *largeSlots, leave func()) {
	var key *net.TCPAddr
	conn, _ := r.Context().Value(connKey{}).(*Conn)
	if conn != nil {
		g = conn.guard
	} else if key, _ = r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr); key == nil {
		return nil, nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if conn != nil {
		p = &conn.largeSlots
	} else if p = g.largeSlots[key]; p == nil {
		p = &largeSlots{}
		g.largeSlots[key] = p
	}
	if p.slots == nil {
		p.slots = make(chan struct{}, maxLarge)
	}
	p.users++
	return p, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if p.users--; p.users == 0 && key != nil {
			delete(g.largeSlots, key)
		}
	}
}
