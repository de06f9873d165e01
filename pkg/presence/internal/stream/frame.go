package stream

import (
	"sync/atomic"
	"time"
)

// frame is an encoded event. All connections of its Stream share its bytes, which never change.
type frame struct {
	kind   Kind
	number uint64    // the publish number, within its Stream
	end    uint64    // size of all events of its Stream up to this one, see Stream.size
	since  time.Time // Event.Since
	chunk  []byte    // the event as a chunk of an HTTP/1.1 body
	head   int32     // length of the chunk head, which precedes the text of the event

	holders atomic.Int32 // the encoder, and the goroutines that still deliver the frame
	done    func()       // called when the last holder releases it; may be nil
	of      publisher    // nil if nothing counts the frame
	pending int          // size that counts until the last holder releases it, in bytes
}

// publisher is the Stream of a frame. delivered acquires no lock, because its caller may hold one.
type publisher interface{ delivered(pending int) }

// fill sets the bytes of the frame. It uses the memory of buffer, a chunk buffer that holds the
// event.
func (f *frame) fill(buffer []byte) {
	chunk, head := finishChunk(buffer)
	f.chunk, f.head = chunk, int32(head)
}

// bytes returns the text of the event, as a chunk if chunked is set.
func (f *frame) bytes(chunked bool) []byte {
	if chunked {
		return f.chunk
	}
	return f.chunk[f.head : len(f.chunk)-len(chunkEnd)]
}

// len returns the length of the event's text in bytes.
func (f *frame) len() int { return len(f.chunk) - int(f.head) - len(chunkEnd) }

// unsent returns the number of bytes that count toward Config.MaxUnsent.
func (f *frame) unsent() int {
	if f.kind == Free {
		return 0
	}
	return f.len()
}

// cost returns the memory that the frame takes, in bytes.
func (f *frame) cost() int { return len(f.chunk) + frameCost }

// start returns the value of end of the frame before this one.
func (f *frame) start() uint64 { return f.end - uint64(f.cost()) }

// frameCost is the memory that a frame takes besides its chunk, in bytes.
const frameCost = 200

// retain adds a holder.
func (f *frame) retain() { f.holders.Add(1) }

// release removes a holder.
func (f *frame) release() {
	if f.holders.Add(-1) > 0 {
		return
	}
	if f.done != nil {
		f.done()
	}
	if f.of != nil {
		f.of.delivered(f.pending)
	}
}

// ping is sent to each connection once per heartbeat. It is an event and not a comment, because
// browsers do not pass comments to scripts.
var ping = func() *frame {
	e := Event{Name: "ping", Data: []byte("{}")}
	f := new(frame)
	f.fill(e.Append(newChunkBuffer(e.size())))
	return f
}()
