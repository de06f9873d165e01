package stream

// r3labs/sse v2.10 is the shared stream: Publish to its subscribers, and the wire encoding. It is
// kept by requirement of the project. Its quirks, each shown by a test in quirks_test.go, are the
// reason why clients are not its subscribers:
//
//   - A stream's goroutine sends to one subscriber after the other, and waits for the first whose
//     channel of 64 events is full. Here its only subscriber is the encoder, which never waits.
//   - Publish blocks while the stream's own channel is full. Here a goroutine calls it that does
//     nothing else and holds no lock.
//   - With AutoReplay, on by default, every event is kept for ever and its id replaced by its
//     number. Here it is off.
//   - An event without an id is written with an empty id line, which makes a browser forget its
//     last id. Here every event of r3labs has an id.
//   - Data that begins with a colon is sent as a comment, and a line break in data or a name forges
//     fields. Here data is JSON on one line, and names are checked.
//   - An event without data ends the subscriber. Here none is published.
//   - A subscriber is removed by one goroutine and counted by callbacks on others, in any order.
//     Here nothing is counted by callbacks.
//   - A stream that is closed before its subscribers have left leaves them waiting for ever. Here
//     the encoders end first, then the streams.

import (
	"context"
	"hash/maphash"
	"net/http"
	"net/url"
	"strconv"
	"sync"

	"github.com/r3labs/sse/v2"
)

// encoders are the streams of r3labs, each with its encoder. There are a few, whatever the number
// of rooms: a stream of r3labs costs two goroutines and a channel of 1,024 events.
type encoders struct {
	server *sse.Server
	all    []*encoder
	seed   maphash.Seed
}

// openEncoders opens n encoders. encoders.close ends them.
func openEncoders(n int) encoders {
	es := encoders{server: sse.New(), seed: maphash.MakeSeed()}
	es.server.AutoReplay = false
	for i := range n {
		es.all = append(es.all, openEncoder(es.server, strconv.Itoa(i)))
	}
	return es
}

// of returns the encoder of the Stream with that name.
func (es *encoders) of(name string) *encoder {
	return es.all[maphash.String(es.seed, name)%uint64(len(es.all))]
}

func (es *encoders) close() {
	for _, e := range es.all {
		e.close()
	}
	es.server.Close()
}

// publication is an event on its way through r3labs, with the frame for its text.
type publication struct {
	frame *frame
	event Event
	to    destination
}

// destination is the Stream of an event: fanOut is called with the encoded frame, by the encoder's
// goroutine, which must not block.
type destination interface{ fanOut(*frame) }

// encoding is a publication that was given to r3labs.
type encoding struct {
	frame *frame
	size  int // of the event's text
	to    destination
}

// encoder is one stream of r3labs and its only subscriber: an [http.ResponseWriter] into which
// r3labs writes the text of each event, followed by a Flush.
type encoder struct {
	id        string
	server    *sse.Server
	published *inbox[publication]
	encodings chan encoding // in the order of their text
	stopFeed  chan struct{}
	stopSSE   context.CancelFunc
	running   sync.WaitGroup

	// Of the goroutine of ServeHTTP alone.
	header     http.Header
	subscribed chan struct{} // closed by the Flush before the first event
	current    encoding
	buffer     []byte // the text of current so far; nil between two events
}

func openEncoder(server *sse.Server, id string) *encoder {
	ctx, cancel := context.WithCancel(context.Background())
	e := &encoder{
		id: id, server: server, published: newInbox[publication](), encodings: make(chan encoding, sse.DefaultBufferSize),
		stopFeed: make(chan struct{}), stopSSE: cancel, header: http.Header{}, subscribed: make(chan struct{}),
	}
	server.CreateStream(id)
	request := (&http.Request{Method: http.MethodGet, URL: &url.URL{RawQuery: "stream=" + id}}).WithContext(ctx)
	e.running.Go(func() { server.ServeHTTP(e, request) }) // ended by stopSSE
	<-e.subscribed
	e.running.Go(e.feed) // ended by stopFeed
	return e
}

func (e *encoder) close() {
	e.published.close()
	close(e.stopFeed)
	e.stopSSE()
	e.running.Wait()
}

// add queues an event. It never blocks.
func (e *encoder) add(p publication) {
	if !e.published.add(p) {
		p.frame.release()
	}
}

// feed gives the events to r3labs in the order of add.
func (e *encoder) feed() {
	var publications []publication
	for {
		publications = e.published.take(publications)
		for _, p := range publications {
			e.encodings <- encoding{p.frame, p.event.size(), p.to}
			e.server.Publish(e.id, &sse.Event{ID: []byte(p.event.ID), Event: []byte(p.event.Name), Data: p.event.Data})
		}
		if len(publications) > 0 {
			continue
		}
		select {
		case <-e.published.wake:
		case <-e.stopFeed:
			return
		}
	}
}

func (e *encoder) Header() http.Header { return e.header }
func (e *encoder) WriteHeader(int)     {}

// Write appends to the text of the current event, in the buffer that its frame keeps.
func (e *encoder) Write(text []byte) (int, error) {
	if e.buffer == nil {
		e.current = <-e.encodings
		e.buffer = newChunkBuffer(e.current.size)
	}
	e.buffer = append(e.buffer, text...)
	return len(text), nil
}

// Flush ends the text of the current event.
func (e *encoder) Flush() {
	if e.buffer == nil {
		close(e.subscribed)
		return
	}
	current, buffer := e.current, e.buffer
	e.current, e.buffer = encoding{}, nil
	current.frame.fill(buffer)
	current.to.fanOut(current.frame)
}
