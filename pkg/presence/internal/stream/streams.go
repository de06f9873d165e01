package stream

import (
	"errors"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Streams are the shared streams of all rooms. Its methods are safe for concurrent use.
type Streams struct {
	resources
	encoders encoders
	loops    loops
	wakers   []*waker
	writers  atomic.Uint64 // made so far: each uses the next waker
	stop     chan struct{}
	running  sync.WaitGroup // report and liveness.run

	mu     sync.RWMutex // guards closed; read-locked while a loop takes a connection
	closed bool         // connections are not counted in resources.open, nor given to loops
}

// Open starts the streams. [Streams.Close] ends them.
func Open(c Config) *Streams {
	s := &Streams{stop: make(chan struct{})}
	s.config, s.opened, s.ended = c.withDefaults(), time.Now(), newInbox[func()]()
	s.running.Go(s.report)                                              // ended by Close
	s.running.Go(func() { s.liveness.run(s.config.Heartbeat, s.stop) }) // ended by Close
	cores := runtime.GOMAXPROCS(0)
	if !c.Portable {
		s.loops = openLoops(cores, &s.resources)
	}
	for range cores {
		s.wakers = append(s.wakers, openWaker())
	}
	s.encoders = openEncoders(cores)
	return s
}

// Stream returns a new shared stream. It has no goroutine and needs no Close. The name decides
// which encoder it uses.
func (s *Streams) Stream(name string) *Stream { return &Stream{encoder: s.encoders.of(name)} }

// Conn returns a connection that answers the request with an event stream. The headers that w has
// already are sent with it. It returns [ErrUnsupported], or an error of Hijack, and no connection;
// or [ErrFull] and a connection, which costs a goroutine and is meant for a goodbye.
//
// A connection of HTTP/1 is hijacked from net/http, whose server does not know it from then on.
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
		w.Header().Set("Connection", "close") // its deadlines must not apply to another request
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
	return &Conn{newWriter(response, &s.resources, s.waker(), false)}, nil
}

// sink returns a sink for the connection, direct if possible. It returns [ErrFull] with a writer.
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

// waker returns the waker of the next writer.
func (s *Streams) waker() *waker { return s.wakers[s.writers.Add(1)%uint64(len(s.wakers))] }

// canServe reports whether w can flush and takes a write deadline, itself or the one that it
// unwraps to, as [http.ResponseController] demands.
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

// Drain returns when every event published before was queued for its connections.
func (s *Streams) Drain() {
	var queued sync.WaitGroup
	for _, e := range s.encoders.all {
		queued.Add(1)
		marker := &Stream{encoder: e}
		marker.publish(Event{ID: "0", Name: "drain", Data: []byte("{}")}, &frame{done: queued.Done})
	}
	queued.Wait()
}

// Close delivers the events that were published before, waits for the connections, each of which
// must have been asked for its end, and ends the streams and their goroutines. Events published
// later are dropped. A connection made later can still be sent events and a goodbye.
func (s *Streams) Close() {
	s.Drain()
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.open.Wait() // for Config.goodbyeTime at most
	s.encoders.close()
	s.loops.close()
	for _, w := range s.wakers {
		w.close()
	}
	close(s.stop)
	s.running.Wait()
	s.ender.Close()
}

// report reports the ends of connections, on a goroutine that may wait for their owner's locks, as
// no loop may.
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
