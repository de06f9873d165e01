package stream

import (
	"strconv"
	"sync/atomic"
)

// frame is an event on its way to the connections of its Stream.
type frame struct {
	event  Event
	kind   Kind
	stream *Stream
	number uint64 // of its Stream's events

	// The encoded event as a chunk of an HTTP/1.1 body, made once for all
	// connections and never changed; the event alone begins at text.
	chunk []byte
	text  int

	holders atomic.Int32 // those that will take it at once, and the encoder
	taken   func()       // called when there is none left; may be nil
}

// encoded sets the bytes of the event, of which it keeps none.
func (f *frame) encoded(event []byte) {
	f.event = Event{} // or what waits would be held twice
	f.chunk = make([]byte, 0, len(event)+len("ffffff\r\n\r\n"))
	f.chunk = appendChunkHead(f.chunk, len(event))
	f.text = len(f.chunk)
	f.chunk = append(append(f.chunk, event...), chunkEnd...)
}

// bytes returns the event, as a chunk or alone.
func (f *frame) bytes(chunked bool) []byte {
	if chunked {
		return f.chunk
	}
	return f.chunk[f.text : len(f.chunk)-len(chunkEnd)]
}

func (f *frame) len() int { return len(f.chunk) - f.text - len(chunkEnd) }

// counts returns how much the frame adds to what is unsent.
func (f *frame) counts() int {
	if f.kind == Free {
		return 0
	}
	return f.len()
}

func (f *frame) hold() { f.holders.Add(1) }

func (f *frame) release() {
	if f.holders.Add(-1) == 0 && f.taken != nil {
		f.taken()
	}
}

// A body of HTTP/1.1 whose length nobody knows goes out in chunks (RFC 9112
// section 7.1).
const (
	chunkEnd  = "\r\n"
	chunkLast = "0\r\n\r\n" // ends the body
)

func appendChunkHead(b []byte, size int) []byte {
	return append(strconv.AppendInt(b, int64(size), 16), "\r\n"...)
}
