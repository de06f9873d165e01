package stream

import "sync/atomic"

// frame is an encoded event on its way to the connections of its Stream. Its bytes are made once
// for all connections and never changed.
type frame struct {
	kind   Kind
	number uint64 // the publish number, within its Stream
	chunk  []byte // the event as a chunk of an HTTP/1.1 body
	head   int32  // length of the chunk's head; the event alone is behind it

	holders atomic.Int32 // the encoder, and the goroutines that have yet to deliver it
	done    func()       // called when no holder is left; may be nil
}

// fill sets the frame's bytes: the event that was appended to a chunk buffer.
func (f *frame) fill(buffer []byte) {
	chunk, head := finishChunk(buffer)
	f.chunk, f.head = chunk, int32(head)
}

// bytes returns the event, as a chunk or alone.
func (f *frame) bytes(chunked bool) []byte {
	if chunked {
		return f.chunk
	}
	return f.chunk[f.head : len(f.chunk)-len(chunkEnd)]
}

// len returns the length of the event in bytes.
func (f *frame) len() int { return len(f.chunk) - int(f.head) - len(chunkEnd) }

// unsent returns the bytes that the frame adds to those limited by Config.MaxUnsent.
func (f *frame) unsent() int {
	if f.kind == Free {
		return 0
	}
	return f.len()
}

// retain adds a holder.
func (f *frame) retain() { f.holders.Add(1) }

// release removes a holder.
func (f *frame) release() {
	if f.holders.Add(-1) == 0 && f.done != nil {
		f.done()
	}
}

// ping is sent to each connection every heartbeat. It is an event, as browsers do not show comments
// to scripts.
var ping = func() *frame {
	e := Event{Name: "ping", Data: []byte("{}")}
	f := new(frame)
	f.fill(e.Append(newChunkBuffer(e.size())))
	return f
}()
