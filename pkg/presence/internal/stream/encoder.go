package stream

// r3labs/sse v2.10 publishes the events to its subscribers, and encodes them for the wire. The
// project requires this library. Clients are not its subscribers because of the quirks below. The
// tests are in quirks_test.go.
//
//   - A full subscriber blocks its stream (TestQuirkFullReaderBlocksItsStream). The goroutine of a
//     stream sends to its subscribers in turn, and blocks at the first whose channel of 64 events
//     is full. Here, the only subscriber is the encoder, which never waits.
//   - Publish blocks while the channel of the stream is full (TestQuirkPublishWaitsWhileFull).
//     Here, only the goroutine of feed calls Publish. It does nothing else and holds no lock.
//   - AutoReplay, which is on by default, keeps every event forever and replaces the id of the
//     event with a number (TestQuirkLogGrowsAndRenumbers). Here, it is off.
//   - An event without an id has an empty id line (TestQuirkEmptyIDIsWritten), which makes a
//     browser forget its last id. Here, every event that r3labs encodes has an id.
//   - Fields can be forged (TestQuirkFieldsCanBeForged). Data that begins with a colon becomes a
//     comment, and a line break in the data or in the name begins a new field. Here, data is JSON
//     on one line, and names are checked.
//   - An event without data ends the subscriber (TestQuirkEventWithoutDataEndsSubscriber). Here, no
//     such event is published.
//   - One goroutine removes a subscriber, but callbacks on other goroutines count it, in any order.
//     Here, no callback counts subscribers.
//   - Subscribers that still exist when their stream closes wait forever (the cleanup of
//     TestQuirkEventWithoutDataEndsSubscriber avoids it). Here, the encoders end before the streams
//     close.

import (
	"context"
	"hash/maphash"
	"net/http"
	"net/url"
	"strconv"
	"sync"

	"github.com/r3labs/sse/v2"
)

// encoders holds the streams of r3labs, each with its encoder. Their number does not depend on the
// number of rooms, because a stream of r3labs costs two goroutines and a channel of 1,024 events.
type encoders struct {
	server *sse.Server
	all    []*encoder
	seed   maphash.Seed
}

// openEncoders opens n encoders. encoders.close stops them.
func openEncoders(n int) encoders {
	es := encoders{server: sse.New(), seed: maphash.MakeSeed()}
	es.server.AutoReplay = false
	for i := range n {
		es.all = append(es.all, openEncoder(es.server, strconv.Itoa(i)))
	}
	return es
}

// of returns the encoder for the Stream with the given name.
func (es *encoders) of(name string) *encoder {
	return es.all[maphash.String(es.seed, name)%uint64(len(es.all))]
}

func (es *encoders) close() {
	for _, e := range es.all {
		e.close()
	}
	es.server.Close()
}

// publication is an event that r3labs has not encoded yet, and the frame for its text.
type publication struct {
	frame *frame
	event Event
	to    destination
}

// destination is the Stream of an event. The encoder's goroutine calls fanOut with the encoded
// frame, so fanOut must not block.
type destination interface{ fanOut(*frame) }

// encoding is a publication that was passed to r3labs and is not encoded yet.
type encoding struct {
	frame *frame
	size  int // size of the event's text
	to    destination
}

// encoder is one stream of r3labs and its only subscriber. It implements [http.ResponseWriter]: for
// each event, r3labs writes the text to it and then calls Flush.
type encoder struct {
	id        string
	server    *sse.Server
	published *inbox[publication]
	encodings chan encoding // in the order in which r3labs writes their text
	stopFeed  chan struct{}
	stopSSE   context.CancelFunc
	running   sync.WaitGroup

	// Used only by the goroutine of ServeHTTP.
	header     http.Header
	subscribed chan struct{} // closed by the first Flush, before any event
	current    encoding
	buffer     []byte // text of current so far; nil between two events
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

// feed publishes the events to r3labs in the order in which they were added.
func (e *encoder) feed() {
	var publications []publication
	for {
		publications = e.published.take(publications)
		for _, p := range publications {
			select {
			case e.encodings <- encoding{p.frame, p.event.size(), p.to}:
			case <-e.stopFeed: // nothing receives them any more
				return
			}
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

// Write appends to the text of the current event. The frame of the event keeps the buffer.
func (e *encoder) Write(text []byte) (int, error) {
	if e.buffer == nil {
		e.current = <-e.encodings
		e.buffer = newChunkBuffer(e.current.size)
	}
	e.buffer = append(e.buffer, text...)
	return len(text), nil
}

// Flush completes the current event. The first Flush, before any event, means that r3labs has
// subscribed the encoder.
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
