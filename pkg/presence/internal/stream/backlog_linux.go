package stream

// backlog holds the bytes that a socket has not accepted yet. They are written in the order of the
// fields: partial, private, queue, final.
type backlog struct {
	partial []byte   // rest of a piece that was written in part
	private [][]byte // private events; if chunked, this package owns the last piece
	queue   queue    // shared events
	final   []byte   // the goodbye and the end of the body
	sent    []func() // called when all private events are written

	debt debt // the part of the pace of the connection about the backlog

	begun          uint64 // start of the frame that partial belongs to; 0: of none
	chunked        bool
	partialPrivate bool // partial belongs to a private event
	full           bool // the socket is full
}

const (
	// A write has at most maxPieces pieces. It ends earlier, after the piece with which it reaches
	// maxWrite bytes in total.
	maxPieces = 64
	maxWrite  = 64 << 10
	// maxCopy is the maximum size of events that are copied into an existing piece, because the
	// copy costs less than another piece in a write.
	maxCopy = 1 << 10
)

// pieces appends the pieces of the next write to the slice. It returns the slice and the total size
// of the pieces.
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
// that a newer count does not replace a count that is already sent in part.
func (b *backlog) advance(n int) {
	for n > 0 {
		if len(b.partial) == 0 {
			b.next()
		}
		k := min(n, len(b.partial))
		b.partial, n = b.partial[k:], n-k
	}
}

// next moves the next piece into partial.
func (b *backlog) next() {
	b.partialPrivate, b.begun = len(b.private) > 0, 0
	if b.partialPrivate {
		b.partial, b.private[0] = b.private[0], nil
		b.private = b.private[1:]
	} else if f := b.queue.pop(); f != nil {
		b.partial, b.begun = f.bytes(b.chunked), f.start()
	} else {
		b.partial, b.final = b.final, nil
	}
}

// oldest returns the start of the oldest shared frame that the backlog holds, or 0 if it holds
// none.
func (b *backlog) oldest() uint64 {
	if b.begun > 0 && len(b.partial) > 0 {
		return b.begun
	}
	if f := b.queue.first(); f != nil {
		return f.start()
	}
	return 0
}

// isPrivate reports whether the next byte belongs to a private event.
func (b *backlog) isPrivate() bool {
	return b.partialPrivate && len(b.partial) > 0 || len(b.private) > 0
}

// load returns the state of the backlog. pace uses it to set the deadline.
func (b *backlog) load() load { return load{b.queue.unsent, b.isPrivate()} }

// callSent calls the functions that were passed to [Conn.SendThen].
func (b *backlog) callSent() {
	for _, sent := range b.sent {
		sent()
	}
	b.sent = nil
}

// addPrivate adds private events. If the body is chunked, they become one chunk.
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
	default: // copy the events into the last piece if it has space
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

// addRest adds the frames without their first n bytes, which the socket has accepted.
func (b *backlog) addRest(frames []*frame, n int) {
	for _, f := range frames {
		switch bytes := f.bytes(b.chunked); {
		case n >= len(bytes):
			n -= len(bytes)
		case n > 0:
			b.partial, b.begun, n = bytes[n:], f.start(), 0
		default:
			b.queue.push(f)
		}
	}
}
