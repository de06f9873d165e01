package stream

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// The queue behaves like a plain slice in which a newer Latest replaces an older one.
func TestQueueAgainstReference(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	var q queue
	var plain []*frame
	for step := range 100_000 {
		if busy := step/1000%2 == 0; rnd.IntN(3) > 0 == busy {
			f := &frame{kind: Kind(rnd.IntN(4))}
			f.fill(append(newChunkBuffer(9), make([]byte, rnd.IntN(9))...))
			var want *frame
			if i := slices.IndexFunc(plain, func(f *frame) bool { return f.kind == Latest }); f.kind == Latest && i >= 0 {
				want = plain[i]
				plain = slices.Delete(plain, i, i+1)
			}
			plain = append(plain, f)
			if out := q.push(f); out != want {
				t.Fatalf("step %d: push returned %p, want %p", step, out, want)
			}
		} else {
			var want *frame
			if len(plain) > 0 {
				want, plain = plain[0], plain[1:]
			}
			if f := q.pop(); f != want {
				t.Fatalf("step %d: pop returned %p, want %p", step, f, want)
			}
		}
		unsent := 0
		for _, f := range plain {
			if f.kind != Free {
				unsent += len(f.bytes(false))
			}
		}
		if q.unsent != unsent {
			t.Fatalf("step %d: %d bytes unsent, want %d", step, q.unsent, unsent)
		}
		if spare := len(q.frames) - len(plain); spare > 2*len(plain)+200 {
			t.Fatalf("step %d: the queue of %d frames has space for %d, want at most %d", step, len(plain), len(q.frames), 3*len(plain)+200)
		}
	}
}
