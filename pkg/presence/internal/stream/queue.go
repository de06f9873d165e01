package stream

import "iter"

// queue is the shared frames that wait for one connection, in order.
type queue struct {
	frames []*frame // from head on; nil where a Latest was taken out
	head   int
	latest int // one more than where the Latest stands in frames; 0 if none waits
	unsent int // bytes of those that count
}

func (q *queue) len() int { return len(q.frames) - q.head }

// push appends the frame. A Latest that waits makes room for a later one, and
// is returned: it is never overwritten in its place, as its id would then be
// ahead of the messages behind it.
func (q *queue) push(f *frame) (out *frame) {
	if q.head > 64 && q.head > len(q.frames)/2 { // never empty, it would grow for ever
		n := copy(q.frames, q.frames[q.head:])
		clear(q.frames[n:])
		q.frames = q.frames[:n]
		q.latest = max(0, q.latest-q.head)
		q.head = 0
	}
	q.frames = append(q.frames, f)
	q.unsent += f.counts()
	if f.kind == Latest {
		if q.latest > 0 {
			out = q.frames[q.latest-1]
			q.unsent -= out.counts()
			q.frames[q.latest-1] = nil
		}
		q.latest = len(q.frames)
	}
	return out
}

// pop takes the first frame; nil if none waits.
func (q *queue) pop() *frame {
	for q.head < len(q.frames) {
		f := q.frames[q.head]
		q.frames[q.head] = nil
		q.head++
		if q.head == q.latest {
			q.latest = 0
		}
		if f != nil {
			q.unsent -= f.counts()
			return f
		}
	}
	*q = queue{frames: q.frames[:0]}
	if cap(q.frames) > 16 {
		q.frames = nil
	}
	return nil
}

// all returns the frames in order, and leaves them where they are.
func (q *queue) all() iter.Seq[*frame] {
	return func(yield func(*frame) bool) {
		for _, f := range q.frames[q.head:] {
			if f != nil && !yield(f) {
				return
			}
		}
	}
}
