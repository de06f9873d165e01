package stream

// maxBatch is how much goes to each socket in one write, in bytes, unless a
// single event is larger.
const maxBatch = 64 << 10

// batch is what one pass brings to a share's connections.
type batch struct {
	frames []*frame
	size   int       // of the events, in bytes
	counts bool      // one of them is Every or Latest
	joined [2][]byte // their bytes, alone and as chunks, if they are more than one
}

// fill takes the next frames.
func (b *batch) fill(q *queue) {
	clear(b.frames)
	b.frames = b.frames[:0]
	b.counts = false
	b.size = 0
	for f := range q.all() {
		if b.size+f.len() > maxBatch && len(b.frames) > 0 {
			break
		}
		b.size += f.len()
		b.frames = append(b.frames, f)
		b.counts = b.counts || f.kind == Every || f.kind == Latest
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
