package guard

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"time"
)

const (
	// BodyTime is how long a request's body may take to arrive.
	BodyTime = 10 * time.Second

	// piece is written at once. Each needs progress.
	piece = 8 << 10
	// patience is the write deadline per piece where acknowledgements are not
	// visible. The kernel accepts more only when a third of its buffer is free,
	// which takes a slow peer a while.
	patience = 30 * time.Second
	// answerTime, and a second for each answerRate bytes, is the time of an
	// answer, however steadily its peer takes it.
	answerTime = 5 * time.Minute
	answerRate = 4 << 10
)

// Answer is the [http.ResponseWriter] of a request with its deadlines.
type Answer struct {
	http.ResponseWriter
	control *http.ResponseController
	conn    *Conn // nil if the listener is not the guard's
	seen    bool  // the sweep sees what the peer of conn acknowledges
	http2   bool
	began   time.Time
	body    bool // has not arrived yet; guarded by the guard's mu if there is a conn
	carries bool // an event stream
	refused bool // there are too many under way

	size    atomic.Int64 // given to Write
	written atomic.Int64 // accepted
	blocked atomic.Bool  // a write is under way
	ends    atomic.Int64 // an event stream's deadline, in Unix nanoseconds; 0 if it has none

	// Of the sweep alone.
	mark   int64 // written, when there was progress last
	marked time.Time
}

// Begin gives the request its deadlines. The handler goes on with both results,
// and calls End when it is done.
func (g *Guard) Begin(w http.ResponseWriter, r *http.Request) (*Answer, *http.Request) {
	conn, _ := r.Context().Value(connKey{}).(*Conn)
	a := &Answer{ResponseWriter: w, control: http.NewResponseController(w), conn: conn, http2: r.ProtoMajor == 2,
		began: time.Now(), body: r.ContentLength != 0 && r.Body != nil}
	if a.body {
		// Also of one that is refused: net/http reads it before it answers. An
		// error says that w knows no deadline.
		a.control.SetReadDeadline(a.began.Add(BodyTime))
		own := *r
		own.Body = &body{r.Body, a}
		r = &own
	}
	a.seen = conn != nil && conn.known
	if !a.seen {
		a.extend()
	}
	if conn == nil {
		return a, r
	}
	if a.refused = !conn.guard.answer(r.Context()); a.refused {
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
		conn.whole = true
	}
	return a, r
}

// Refused reports whether too many answers are under way, on connections that
// hold no more of them than others: the handler writes nothing, and the request
// is reset.
func (a *Answer) Refused() bool { return a.refused }

// answer makes place for one more answer. At the limit the connection ends that
// has most answers which wait for its peer, to read or to send a body; it reports
// false if there is none.
func (g *Guard) answer(ctx context.Context) bool {
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
		g.answers -= len(victim.answers) // now: its handlers take a while to end
		victim.answers = nil
	}
	g.mu.Unlock()
	g.config.Warn(ctx, "limit of answers under way reached", "limit", maxAnswers)
	if victim != nil {
		victim.reset()
	}
	return victim != nil
}

// waitingLocked returns the number of answers that wait for the peer: it reads
// nothing, or has not sent the request's body.
func (c *Conn) waitingLocked() (n int) {
	for _, a := range c.answers {
		if a.blocked.Load() || a.body {
			n++
		}
	}
	return n
}

// body tells when the request is whole.
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

// arrived notes that the request's body is there.
func (a *Answer) arrived() {
	a.control.SetReadDeadline(time.Time{}) // or it would end the request's context
	if a.conn == nil {
		return
	}
	a.conn.guard.mu.Lock()
	defer a.conn.guard.mu.Unlock()
	if a.body {
		a.conn.bodies--
		a.body = false
	}
	a.conn.whole = true
}

// Unwrap is for [http.ResponseController].
func (a *Answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// Write implements [io.Writer]. It keeps no copy of p.
func (a *Answer) Write(p []byte) (n int, err error) {
	a.size.Add(int64(len(p)))
	a.blocked.Store(true)
	defer a.blocked.Store(false)
	if a.seen && !a.http2 {
		return a.ResponseWriter.Write(p) // the sweep sees what is acknowledged
	}
	for len(p) > 0 && err == nil {
		if !a.seen {
			a.extend()
		}
		var k int
		k, err = a.ResponseWriter.Write(p[:min(len(p), piece)])
		a.written.Add(int64(k))
		p, n = p[k:], n+k
	}
	return n, err
}

// deadline is the end of the answer's time.
func (a *Answer) deadline() time.Time {
	return a.began.Add(answerTime + time.Duration(a.size.Load()/answerRate)*time.Second)
}

// extend gives the next piece its time, where the sweep does not see it.
func (a *Answer) extend() {
	within := patience
	if a.http2 { // what waits is the peer's own flow control
		within = window
	}
	end := time.Now().Add(within)
	if last := a.deadline(); last.Before(end) {
		end = last
	}
	a.control.SetWriteDeadline(end)
}

// review reports whether the answer may go on. The progress of the whole
// connection counts as well if it is judged by minProgress, as several answers
// share it.
func (a *Answer) review(p progress, judged bool, now time.Time) bool {
	written := a.written.Load()
	moves := written-a.mark >= minProgress || judged && p.owes && p.since.After(a.marked)
	if !a.blocked.Load() || moves || a.marked.IsZero() {
		a.mark, a.marked = written, now
	}
	if !a.http2 { // the connection's progress is its own
		a.marked = now
	}
	return now.Sub(a.marked) < window && now.Before(a.deadline())
}

// abort ends the answer; over HTTP/2 the connection goes on.
func (a *Answer) abort() { a.control.SetWriteDeadline(time.Unix(1, 0)) }

// Stream says that the answer is an event stream, which has deadlines of its own,
// and returns the ResponseWriter for it. A connection of HTTP/2 carries it until
// End; one of HTTP/1 is taken over.
func (a *Answer) Stream() http.ResponseWriter {
	a.carries = true
	if a.conn == nil {
		return a.ResponseWriter // the stream sets its own deadline at once
	}
	g := a.conn.guard
	g.mu.Lock()
	defer g.mu.Unlock()
	a.leaveLocked()
	_, counted := g.conns[a.conn]
	if a.conn.streams = append(a.conn.streams, a); len(a.conn.streams) == 1 && counted {
		g.countLocked(-1)
	}
	return carrier{a.ResponseWriter, a}
}

// carrier is the ResponseWriter of an event stream. It notes the deadline that
// the stream sets: when that has passed net/http resets the stream, which a
// connection whose peer takes nothing holds up as well.
type carrier struct {
	http.ResponseWriter
	answer *Answer
}

func (c carrier) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func (c carrier) SetWriteDeadline(t time.Time) error {
	at := int64(0)
	if !t.IsZero() {
		at = t.UnixNano()
	}
	c.answer.ends.Store(at)
	return c.answer.control.SetWriteDeadline(t)
}

// overdue reports whether the stream should have ended by now.
func (a *Answer) overdue(now time.Time) bool {
	at := a.ends.Load()
	return at != 0 && now.UnixNano() > at+int64(every)
}

// leaveLocked takes the answer off its connection.
func (a *Answer) leaveLocked() {
	if i := slices.Index(a.conn.answers, a); i >= 0 {
		a.conn.answers = slices.Delete(a.conn.answers, i, i+1)
		a.conn.guard.answers--
	}
	if a.body && a.conn.http2 { // net/http reads what is left of it over HTTP/1, until it is idle
		a.conn.bodies--
		a.body = false
	}
}

// End is called when the handler is done. What is left for net/http to write of
// the answer has its time, too.
func (a *Answer) End() {
	switch {
	case a.carries && a.conn != nil:
		a.endStream()
	case a.conn == nil:
		if !a.carries {
			a.extend()
		}
	default:
		if !a.seen {
			a.extend()
		} else if a.http2 && a.size.Load() > 0 { // flow control holds up the rest as well
			a.blocked.Store(true)
			a.control.Flush()
		}
		a.conn.guard.mu.Lock()
		defer a.conn.guard.mu.Unlock()
		a.leaveLocked()
		if until := a.deadline(); until.After(a.conn.until) {
			a.conn.until = until
		}
	}
}

// endStream counts the connection again when its last stream has ended.
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
	}
}

// maxPages bounds the large answers of an HTTP/2 connection that are under way.
const maxPages = 2

// pageTime is how long a request waits for its turn.
const pageTime = 10 * time.Second

// pages are the slots for large answers of a connection.
type pages struct {
	slots chan struct{}
	users int // of Guard.pages: answers that hold or wait for a slot
}

// ErrBusy: too many large answers of one connection wait for its peer.
var ErrBusy = errors.New("too many large answers of this connection wait for its client")

// Large waits for a slot for an answer that holds memory while the peer takes
// its time. Over HTTP/1 there is one answer at a time anyway. The error is
// [ErrBusy] or that of the request's context.
func (g *Guard) Large(r *http.Request) (release func(), err error) {
	if r.ProtoMajor != 2 {
		return func() {}, nil
	}
	p, forget := g.pagesOf(r)
	if p == nil {
		return func() {}, nil
	}
	wait := time.NewTimer(pageTime)
	defer wait.Stop()
	select {
	case p.slots <- struct{}{}:
		return func() { <-p.slots; forget() }, nil
	case <-wait.C:
		forget()
		return nil, ErrBusy
	case <-r.Context().Done():
		forget()
		return nil, r.Context().Err()
	}
}

// pagesOf returns the slots of the request's connection. Without a Conn it is
// known by its local address, which net makes one of for each connection.
func (g *Guard) pagesOf(r *http.Request) (p *pages, forget func()) {
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
		p = &conn.pages
	} else if p = g.pages[key]; p == nil {
		p = &pages{}
		g.pages[key] = p
	}
	if p.slots == nil {
		p.slots = make(chan struct{}, maxPages)
	}
	p.users++
	return p, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if p.users--; p.users == 0 && key != nil {
			delete(g.pages, key)
		}
	}
}
