package stream

// backlog is what a socket has not taken yet, in this order.
type backlog struct {
	cut     []byte   // the rest of what the socket has begun to take
	private [][]byte // events for this client alone; in chunks the last piece is never a caller's
	queue   queue    // shared events
	last    []byte   // a goodbye, and the end of the body
	taken   []func() // called when nothing of cut and private is for this client alone

	chunked bool
	alone   bool // cut is for this client alone
	full    bool // the socket takes nothing just now
}

// maxPieces is how many pieces go out in one write.
const maxPieces = 64

// pieces appends what goes next, in order: up to maxPieces, or as many as make
// 64 KiB.
func (b *backlog) pieces(to [][]byte) (pieces [][]byte, size int) {
	const most = 64 << 10
	add := func(p []byte) bool {
		if len(p) > 0 {
			to, size = append(to, p), size+len(p)
		}
		return len(to) < maxPieces && size < most
	}
	if !add(b.cut) {
		return to, size
	}
	for _, p := range b.private {
		if !add(p) {
			return to, size
		}
	}
	for f := range b.queue.all() {
		if !add(f.bytes(b.chunked)) {
			return to, size
		}
	}
	add(b.last)
	return to, size
}

// advance takes away n bytes that the socket took. What it took the beginning
// of stays as cut, so that no count can be taken out of the queue that has
// begun to go.
func (b *backlog) advance(n int) {
	for n > 0 {
		if len(b.cut) == 0 {
			b.next()
		}
		k := min(n, len(b.cut))
		b.cut, n = b.cut[k:], n-k
	}
}

func (b *backlog) next() {
	b.alone = len(b.private) > 0
	if b.alone {
		b.cut, b.private[0] = b.private[0], nil
		b.private = b.private[1:]
	} else if f := b.queue.pop(); f != nil {
		b.cut = f.bytes(b.chunked)
	} else {
		b.cut, b.last = b.last, nil
	}
}

// isAlone reports whether what goes next is for this client alone.
func (b *backlog) isAlone() bool { return b.alone && len(b.cut) > 0 || len(b.private) > 0 }

// release says that what was told has gone, or will not.
func (b *backlog) release() {
	for _, taken := range b.taken {
		taken()
	}
	b.taken = nil
}

// tell adds events for this client alone: one chunk of them.
func (b *backlog) tell(events [][]byte) {
	if !b.chunked {
		b.private = append(b.private, events...)
		return
	}
	size := 0
	for _, e := range events {
		size += len(e)
	}
	if size == 0 {
		return // it would be the end of the body
	}
	if size <= maxCopy { // in one piece, behind the last one if there is space
		at := len(b.private) - 1
		if at < 0 || cap(b.private[at])-len(b.private[at]) < size+maxFraming {
			b.private = append(b.private, make([]byte, 0, size+maxFraming))
			at++
		}
		chunk := appendChunkHead(b.private[at], size)
		for _, e := range events {
			chunk = append(chunk, e...)
		}
		b.private[at] = append(chunk, chunkEnd...)
		return
	}
	b.private = append(append(append(b.private, appendChunkHead(nil, size)), events...), []byte(chunkEnd))
}

const (
	// maxCopy is how many bytes of events are copied, which costs less than a piece of a write.
	maxCopy = 1 << 10
	// maxFraming is an upper bound of the bytes that a chunk adds.
	maxFraming = 16
)

// goodbye is the end of the body.
func (b *backlog) goodbye(why End) {
	event := Goodbye(why).Append(nil)
	if !b.chunked {
		b.last = event
		return
	}
	b.last = append(append(append(appendChunkHead(nil, len(event)), event...), chunkEnd...), chunkLast...)
}

// load returns the figures by which [pace] judges the client.
func (b *backlog) load() load { return load{b.queue.unsent, b.isAlone()} }

// rest adds what is left of frames when the socket took n bytes of them.
func (b *backlog) rest(frames []*frame, n int) {
	for _, f := range frames {
		switch bytes := f.bytes(b.chunked); {
		case n >= len(bytes):
			n -= len(bytes)
		case n > 0:
			b.cut, n = bytes[n:], 0
		default:
			b.queue.push(f)
		}
	}
}
