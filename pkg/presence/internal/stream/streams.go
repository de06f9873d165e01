package stream

// r3labs/sse v2.10 is the stream: Publish to its subscribers, and the encoding
// of events. These are its habits that one must know, each shown by a test in
// habits_test.go, and the reason why clients are not its subscribers:
//
//   - A stream's goroutine sends to one subscriber after the other, and waits
//     for the first whose channel of 64 is full. So its only subscriber here
//     is the encoder, which never waits.
//   - Publish waits while the stream's own channel is full. So it is called by
//     a goroutine that does nothing else, never under a lock.
//   - With AutoReplay, on by default, every event is kept for ever and its id
//     replaced by its number. Off here.
//   - An event without an id is written with an empty id line, which makes a
//     browser forget the id that it has. Every event given to it has one.
//   - Data that begins with a colon goes out as it is, as a comment, and a
//     line break in data or a name forges fields. Data here is JSON on one
//     line, and names are checked.
//   - An event without data ends the subscriber. None is published.
//   - A subscriber is removed by one goroutine and counted by callbacks on
//     others, in any order. Nothing is counted by callbacks here.
//   - A stream that is closed before its subscribers have gone leaves them
//     waiting for ever. So the encoders end first, then the streams.

import (
	"cmp"
	"context"
	"hash/maphash"
	"net/http"
	"net/url"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/r3labs/sse/v2"

	"example.com/presence/pkg/presence/internal/socket"
)

// Config holds the settings of [Streams]. The zero value of a field is its
// default.
type Config struct {
	// Heartbeat is the time between two pings: 15 s by default.
	Heartbeat time.Duration
	// MaxUnsent is how many bytes of shared events may wait for a connection
	// that takes none: 256 KiB by default.
	MaxUnsent int
	// Progress is how long a client may take nothing of what waits for it: 15 s
	// by default.
	Progress time.Duration
	// Hurry is how long it may take over 32 KiB while more than MaxUnsent waits
	// for it, and over a goodbye when it does not keep up: 1 s by default. A
	// burst, or a client whose machine is busy, passes in less.
	Hurry time.Duration
	// LastWords is how long a connection that is to end has for what waits: 2 s
	// by default.
	LastWords time.Duration
	// Portable has every connection go the way that works everywhere, a
	// goroutine each.
	Portable bool
}

// Streams are the shared streams of all rooms: a few of r3labs's, one a core,
// whatever the number of rooms. One a room would cost goroutines and a channel
// of 1,024 events each, and bring every habit of removal.
type Streams struct {
	config Config
	opened time.Time
	server *sse.Server
	lanes  []*lane
	loops  loops
	wakers []*waker
	seed   maphash.Seed

	writers atomic.Uint64 // that were made: each goes to the next waker
	watched watched
	ender   socket.Ender   // of the connections' sockets
	ended   *inbox[func()] // the ends of connections, to be told by report
	stop    chan struct{}
	running sync.WaitGroup // report and watched.run

	door sync.RWMutex   // guards shut, and is held while a loop takes a connection in
	shut bool           // loops take none any more
	ours sync.WaitGroup // connections that loops have
}

// Open starts the streams. [Streams.Close] ends them.
func Open(c Config) *Streams {
	c.Heartbeat = cmp.Or(c.Heartbeat, 15*time.Second)
	c.MaxUnsent = cmp.Or(c.MaxUnsent, 256<<10)
	c.Progress = cmp.Or(c.Progress, 15*time.Second)
	c.Hurry = cmp.Or(c.Hurry, time.Second)
	c.LastWords = cmp.Or(c.LastWords, 2*time.Second)
	s := &Streams{config: c, opened: time.Now(), server: sse.New(), seed: maphash.MakeSeed(), ended: newInbox[func()](), stop: make(chan struct{})}
	s.server.AutoReplay = false
	s.running.Go(s.report) // both are ended by Close
	s.running.Go(func() { s.watched.run(c.Heartbeat, s.stop) })
	if !c.Portable {
		s.loops.open(c, s.ended, &s.ours, &s.ender)
	}
	for i := range runtime.GOMAXPROCS(0) {
		s.lanes = append(s.lanes, openLane(s.server, strconv.Itoa(i)))
		s.wakers = append(s.wakers, openWaker())
	}
	return s
}

// Stream returns a new shared stream, which has no goroutine and nothing to
// close. The name chooses which of r3labs's streams it goes by.
func (s *Streams) Stream(name string) *Stream {
	lane := s.lanes[maphash.String(s.seed, name)%uint64(len(s.lanes))]
	return &Stream{lane: lane}
}

// Drain returns when everything published before has been handed to the
// connections.
func (s *Streams) Drain() {
	var handed sync.WaitGroup
	for _, l := range s.lanes {
		handed.Add(1)
		marker := &Stream{lane: l}
		marker.publish(&frame{event: Event{ID: "0", Name: "drain", Data: []byte("{}")}, taken: handed.Done})
	}
	handed.Wait()
}

// Close hands over what was published before, waits for the connections, each
// of which must have been asked for its end, and ends the streams and their
// goroutines. What is published later is dropped; a connection that is made
// later can still be told something.
func (s *Streams) Close() {
	s.Drain()
	s.door.Lock()
	s.shut = true
	s.door.Unlock()
	s.ours.Wait() // each has LastWords
	for _, l := range s.lanes {
		l.close()
	}
	s.server.Close()
	s.loops.close()
	for _, w := range s.wakers {
		w.close()
	}
	close(s.stop)
	s.running.Wait()
	s.ender.Close()
}

// report tells the ends of connections, on a goroutine that may wait for their
// owner's locks, as no loop may.
func (s *Streams) report() {
	for open := true; open; {
		select {
		case <-s.ended.wake:
		case <-s.stop:
			open = false
		}
		for _, tell := range s.ended.take(nil) {
			tell()
		}
	}
}

// lane is one stream of r3labs with its encoder.
type lane struct {
	id        string
	server    *sse.Server
	published *inbox[*frame]
	inHand    chan *frame // given to r3labs, not yet encoded, in order
	stopFeed  chan struct{}
	stopSSE   context.CancelFunc
	running   sync.WaitGroup
}

func openLane(server *sse.Server, id string) *lane {
	ctx, cancel := context.WithCancel(context.Background())
	l := &lane{id: id, server: server, published: newInbox[*frame](), inHand: make(chan *frame, sse.DefaultBufferSize),
		stopFeed: make(chan struct{}), stopSSE: cancel}
	server.CreateStream(id)
	e := &encoder{lane: l, header: http.Header{}, subscribed: make(chan struct{})}
	request := (&http.Request{Method: http.MethodGet, URL: &url.URL{RawQuery: "stream=" + id}}).WithContext(ctx)
	l.running.Go(func() { server.ServeHTTP(e, request) }) // ended by stopSSE
	<-e.subscribed
	l.running.Go(l.feed) // ended by stopFeed
	return l
}

func (l *lane) close() {
	l.published.close()
	close(l.stopFeed)
	l.stopSSE()
	l.running.Wait()
}

// add takes a frame on its way. It never waits.
func (l *lane) add(f *frame) {
	if !l.published.add(f) {
		f.release()
	}
}

// feed gives frames to r3labs in the order of add. Publish blocks while
// r3labs's channel is full; nobody else waits for that.
func (l *lane) feed() {
	var frames []*frame
	for {
		frames = l.published.take(frames)
		for _, f := range frames {
			l.inHand <- f
			l.server.Publish(l.id, &sse.Event{ID: []byte(f.event.ID), Event: []byte(f.event.Name), Data: f.event.Data})
		}
		if len(frames) > 0 {
			continue
		}
		select {
		case <-l.published.wake:
		case <-l.stopFeed:
			return
		}
	}
}

// encoder is the only subscriber of a stream of r3labs: an
// [http.ResponseWriter] into which one event after the other is written. Each
// ends with a Flush, and the frame it belongs to is the next in hand. The
// goroutine of ServeHTTP alone touches it.
type encoder struct {
	lane       *lane
	header     http.Header
	subscribed chan struct{} // closed by the Flush that comes before the first event
	buf        []byte
}

func (e *encoder) Header() http.Header         { return e.header }
func (e *encoder) WriteHeader(int)             {}
func (e *encoder) Write(b []byte) (int, error) { e.buf = append(e.buf, b...); return len(b), nil }

func (e *encoder) Flush() {
	if len(e.buf) == 0 {
		close(e.subscribed)
		return
	}
	f := <-e.lane.inHand
	f.encoded(e.buf)
	e.buf = e.buf[:0]
	if cap(e.buf) > 1<<20 {
		e.buf = nil
	}
	f.stream.hand(f)
}
