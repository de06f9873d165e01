package stream

import "time"

// maxBatch is the maximum size, in bytes, of the events that a fan-out delivers to each socket in
// one write. A larger event is written alone.
const maxBatch = 64 << 10

// batch holds the events that one fan-out delivers to the connections of a share.
type batch struct {
	frames []*frame
	size   int       // size of the events, in bytes
	timed  bool      // contains an event of kind Every or Latest
	latest bool      // contains an event of kind Latest
	since  time.Time // oldest Event.Since of that event and those that it replaced; zero: none
	joined [2][]byte // text of two or more events: [0] plain, [1] as chunks
}

// fill moves the next frames of the queue into the batch.
func (b *batch) fill(q *queue) {
	clear(b.frames)
	b.frames = b.frames[:0]
	b.timed, b.latest, b.since = false, false, time.Time{}
	b.size = 0
	for f := range q.all() {
		if b.size+f.len() > maxBatch && len(b.frames) > 0 {
			break
		}
		b.size += f.len()
		b.frames = append(b.frames, f)
		b.timed = b.timed || f.kind == Every || f.kind == Latest
		b.latest = b.latest || f.kind == Latest
	}
	for range b.frames {
		q.pop()
	}
	for i := range b.joined {
		b.joined[i] = b.joined[i][:0]
		if cap(b.joined[i]) > 2*maxBatch {
			b.joined[i] = nil
		}
	}
}

// bytes returns the text of the events, as chunks if chunked is set.
func (b *batch) bytes(chunked bool) []byte {
	if len(b.frames) == 1 {
		return b.frames[0].bytes(chunked)
	}
	i := 0
	if chunked {
		i = 1
	}
	if len(b.joined[i]) == 0 {
		for _, f := range b.frames {
			b.joined[i] = append(b.joined[i], f.bytes(chunked)...)
		}
	}
	return b.joined[i]
}
