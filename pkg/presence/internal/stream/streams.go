package stream

import (
	"errors"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Streams serves the shared streams of all rooms. Its methods are safe for concurrent use.
type Streams struct {
	resources
	encoders encoders
	loops    loops
	wakers   []*waker
	writers  atomic.Uint64 // number of writers made so far; selects the waker of the next one
	stop     chan struct{}
	running  sync.WaitGroup // report and checker.run

	mu     sync.RWMutex // guards closed; read-locked while a connection is added
	closed bool         // new connections are neither in resources.open nor in a loop
}

// Open starts the goroutines that serve streams. [Streams.Close] stops them.
func Open(c Config) *Streams {
	s := &Streams{stop: make(chan struct{})}
	s.config, s.opened, s.ended = c.withDefaults(), time.Now(), newInbox[func()]()
	s.unsent.limit, s.unsent.least = s.config.MaxUnsentTotal, s.config.MinShare
	s.rings.used.Store(c.IOUring)
	s.running.Go(s.report)                                             // ended by Close
	s.running.Go(func() { s.checker.run(s.config.Heartbeat, s.stop) }) // ended by Close
	cores := runtime.GOMAXPROCS(0)
	if !c.Portable {
		s.loops = openLoops(cores, &s.resources)
	}
	if c.IOUring && len(s.loops.tallies()) == 0 {
		s.rings.fail(errors.ErrUnsupported)
	}
	for range cores {
		s.wakers = append(s.wakers, openWaker(&s.resources))
	}
	s.encoders = openEncoders(cores)
	return s
}

// Stream returns a new shared stream. The stream has no goroutine and needs no Close. The name
// selects the encoder of the stream.
func (s *Streams) Stream(name string) *Stream {
	return &Stream{encoder: s.encoders.of(name), unsent: &s.unsent, account: &s.unsent.server, size: 1}
}

// Conn returns a connection that responds to the request with an event stream. The response
// includes the headers that are already set in w. Conn hijacks an HTTP/1 connection from net/http,
// whose server then no longer tracks it. If the error is not nil, the connection is:
//
//	error                                connection
//	ErrUnsupported, error from Hijack    nil
//	ErrFull                              a writer, to send a goodbye; it costs a goroutine
func (s *Streams) Conn(w http.ResponseWriter, r *http.Request) (*Conn, error) {
	if r.ProtoMajor == 1 {
		h, err := hijack(w, r, &s.ender)
		if err == nil {
			sink, err := s.sink(h)
			return &Conn{sink}, err
		}
		if errors.Is(err, http.ErrHijacked) {
			return nil, err
		}
		w.Header().Set("Connection", "close") // the next request must not inherit its deadlines
	}
	if !canServe(w) {
		return nil, ErrUnsupported
	}
	for _, field := range headers {
		w.Header().Set(field.name, field.value)
	}
	response := struct {
		http.ResponseWriter
		*http.ResponseController
	}{w, http.NewResponseController(w)}
	own := newWriter(response, &s.resources, s.waker(), false)
	if m, ok := w.(Monitored); ok {
		own.vanished = m.Vanished
	}
	return &Conn{own}, nil
}

// sink returns a sink for the connection: a direct if possible, else a writer. If the error is
// [ErrFull], the sink is a writer.
func (s *Streams) sink(h *http1) (sink, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return newWriter(h, &s.resources, s.waker(), false), nil
	}
	s.open.Add(1)
	c, err := s.loops.direct(h)
	if c != nil {
		return c, nil
	}
	return newWriter(h, &s.resources, s.waker(), true), err
}

// waker returns the waker for the next writer.
func (s *Streams) waker() *waker { return s.wakers[s.writers.Add(1)%uint64(len(s.wakers))] }

// canServe reports whether w, or the ResponseWriter that it unwraps to, can flush and accepts a
// write deadline. It follows the rules of [http.ResponseController].
func canServe(w http.ResponseWriter) bool {
	if http.NewResponseController(w).SetWriteDeadline(time.Time{}) != nil {
		return false
	}
	for {
		switch t := w.(type) {
		case http.Flusher, interface{ FlushError() error }:
			return true
		case interface{ Unwrap() http.ResponseWriter }:
			w = t.Unwrap()
		default:
			return false
		}
	}
}

// Stats returns the current statistics.
func (s *Streams) Stats() (all Stats) {
	for _, t := range s.loops.tallies() {
		t.addTo(&all)
	}
	for _, w := range s.wakers {
		w.fanOuts.tally.addTo(&all)
	}
	all.Bytes += s.written.Load()
	all.Backlogged += int(s.backlogged.Load())
	all.BacklogBytes += int(s.backlogBytes.Load())
	all.Unsent = int(s.unsent.total.Load())
	all.IOUring, all.IOUringError = s.rings.used.Load(), s.rings.failure()
	return all
}

// Excess returns by how many bytes the unsent events of all streams exceed Config.MaxUnsentTotal.
// It is 0 or less if they do not.
func (s *Streams) Excess() int { return s.unsent.excess() }

// Drain waits until every event that was published before the call is queued for its connections.
func (s *Streams) Drain() {
	var queued sync.WaitGroup
	for _, e := range s.encoders.all {
		queued.Add(1)
		marker := &Stream{encoder: e, unsent: &s.unsent, account: &s.unsent.server}
		marker.publish(Event{ID: "0", Name: "drain", Data: []byte("{}")}, &frame{done: queued.Done})
	}
	queued.Wait()
}

// Close stops the streams, in this order:
//
//  1. It delivers the events that were published before the call.
//  2. It waits for the connections to end. The caller must have called [Conn.End] or [Conn.Drop]
//     for each of them.
//  3. It stops the goroutines.
//
// Events that are published after Close are dropped. A connection that is made after Close can
// still send events and a goodbye to its client.
func (s *Streams) Close() {
	s.Drain()
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.open.Wait() // at most Config.goodbyeTime
	s.encoders.close()
	s.loops.close()
	for _, w := range s.wakers {
		w.close()
	}
	close(s.stop)
	s.running.Wait()
	s.ender.Close()
}

// report calls the end callback of each ended connection, as passed to [Conn.Serve]. It has its own
// goroutine, because a callback may block on its owner's locks, and a loop must never block.
func (s *Streams) report() {
	for open := true; open; {
		select {
		case <-s.ended.wake:
		case <-s.stop:
			open = false
		}
		for _, call := range s.ended.take(nil) {
			call()
		}
	}
}
