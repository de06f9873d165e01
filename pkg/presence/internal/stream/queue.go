package stream

import "iter"

// queue holds the shared frames of a backlog in their order.
type queue struct {
	frames []*frame // valid from head; nil entries are replaced Latest frames
	head   int
	latest int // index of the Latest frame in frames, plus one; 0: none
	unsent int // bytes that count toward Config.MaxUnsent
}

func (q *queue) len() int { return len(q.frames) - q.head }

// push appends the frame. If the frame is a Latest, push also removes and returns the Latest that
// the queue already holds. It does not overwrite the old Latest in place, because the position in
// the id of the new Latest would be ahead of the messages behind it.
func (q *queue) push(f *frame) (replaced *frame) {
	// Remove the unused entries before head. Otherwise, a queue that is never empty would grow
	// without limit.
	if q.head > 64 && q.head > len(q.frames)/2 {
		n := copy(q.frames, q.frames[q.head:])
		clear(q.frames[n:])
		q.frames = q.frames[:n]
		q.latest = max(0, q.latest-q.head)
		q.head = 0
	}
	q.frames = append(q.frames, f)
	q.unsent += f.unsent()
	if f.kind == Latest {
		if q.latest > 0 {
			replaced = q.frames[q.latest-1]
			q.unsent -= replaced.unsent()
			q.frames[q.latest-1] = nil
		}
		q.latest = len(q.frames)
	}
	return replaced
}

// pop removes and returns the first frame. It returns nil if the queue is empty.
func (q *queue) pop() *frame {
	for q.head < len(q.frames) {
		f := q.frames[q.head]
		q.frames[q.head] = nil
		q.head++
		if q.head == q.latest {
			q.latest = 0
		}
		if f != nil {
			q.unsent -= f.unsent()
			return f
		}
	}
	*q = queue{frames: q.frames[:0]}
	if cap(q.frames) > 16 {
		q.frames = nil
	}
	return nil
}

// first returns the first frame, or nil if the queue is empty.
func (q *queue) first() *frame {
	for f := range q.all() {
		return f
	}
	return nil
}

// all iterates over the frames in order, without removing them.
func (q *queue) all() iter.Seq[*frame] {
	return func(yield func(*frame) bool) {
		for _, f := range q.frames[q.head:] {
			if f != nil && !yield(f) {
				return
			}
		}
	}
}
