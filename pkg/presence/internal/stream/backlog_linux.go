package stream

// backlog holds the bytes that a socket has not accepted, in the order of the fields: partial,
// private, queue, final.
type backlog struct {
	partial []byte   // rest of a piece that the socket accepted in part
	private [][]byte // private events; if chunked, this package owns the last piece
	queue   queue    // shared events
	final   []byte   // a goodbye, and the end of the body
	sent    []func() // called when all private events are written

	chunked        bool
	partialPrivate bool // partial is of a private event
	full           bool // the socket is full
}

const (
	// A write has at most maxPieces pieces. It ends with the piece that reaches maxWrite bytes in
	// total.
	maxPieces = 64
	maxWrite  = 64 << 10
	// maxCopy is the size up to which events are copied, which costs less than a piece of a write.
	maxCopy = 1 << 10
)

// pieces appends the pieces of the next write.
func (b *backlog) pieces(to [][]byte) (pieces [][]byte, size int) {
	add := func(p []byte) bool {
		if len(p) > 0 {
			to, size = append(to, p), size+len(p)
		}
		return len(to) < maxPieces && size < maxWrite
	}
	if !add(b.partial) {
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
	add(b.final)
	return to, size
}

// advance removes the n bytes that the socket accepted. The rest of a piece becomes partial, so
// that a newer count does not replace a count that is sent in part.
func (b *backlog) advance(n int) {
	for n > 0 {
		if len(b.partial) == 0 {
			b.next()
		}
		k := min(n, len(b.partial))
		b.partial, n = b.partial[k:], n-k
	}
}

// next moves the next piece to partial.
func (b *backlog) next() {
	b.partialPrivate = len(b.private) > 0
	if b.partialPrivate {
		b.partial, b.private[0] = b.private[0], nil
		b.private = b.private[1:]
	} else if f := b.queue.pop(); f != nil {
		b.partial = f.bytes(b.chunked)
	} else {
		b.partial, b.final = b.final, nil
	}
}

// isPrivate reports whether the next byte is of a private event.
func (b *backlog) isPrivate() bool {
	return b.partialPrivate && len(b.partial) > 0 || len(b.private) > 0
}

// load returns the state of the backlog, for the pace.
func (b *backlog) load() load { return load{b.queue.unsent, b.isPrivate()} }

// callSent calls the functions of SendThen.
func (b *backlog) callSent() {
	for _, sent := range b.sent {
		sent()
	}
	b.sent = nil
}

// addPrivate adds private events, as one chunk.
func (b *backlog) addPrivate(events [][]byte) {
	if !b.chunked {
		b.private = append(b.private, events...)
		return
	}
	size := 0
	for _, e := range events {
		size += len(e)
	}
	switch {
	case size == 0: // an empty chunk would end the body
	case size > maxCopy:
		b.private = appendChunkPieces(b.private, size, events...)
	default: // into the last piece if it has space
		last := len(b.private) - 1
		if last < 0 || cap(b.private[last])-len(b.private[last]) < size+maxChunkFrame {
			b.private = append(b.private, make([]byte, 0, size+maxChunkFrame))
			last++
		}
		b.private[last] = appendChunk(b.private[last], size, events...)
	}
}

// addGoodbye adds a goodbye and the end of the body.
func (b *backlog) addGoodbye(why End) {
	b.final = Goodbye(why).Append(nil)
	if b.chunked {
		b.final = append(appendChunk(nil, len(b.final), b.final), lastChunk...)
	}
}

// addRest adds the rest of the frames, of which the socket accepted the first n bytes.
func (b *backlog) addRest(frames []*frame, n int) {
	for _, f := range frames {
		switch bytes := f.bytes(b.chunked); {
		case n >= len(bytes):
			n -= len(bytes)
		case n > 0:
			b.partial, n = bytes[n:], 0
		default:
			b.queue.push(f)
		}
	}
}
