package stream

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// The backlog returns the same bytes as a reference that follows three rules:
//
//   - Private events precede shared events.
//   - A newer Latest replaces an older one, unless the older one is already written in part.
//   - Each write continues at the byte where the last write stopped.
func TestBacklogAgainstReference(t *testing.T) {
	type item struct {
		text   string
		latest bool
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	for round := range 60 {
		chunked := round%2 == 0
		framed := func(text string) string {
			if chunked {
				return fmt.Sprintf("%x\r\n%s\r\n", len(text), text)
			}
			return text
		}
		b := &backlog{chunked: chunked}
		var begun string // rest of a piece that was taken in part
		var private []string
		var shared []item
		take := func(n int) (taken string) {
			for n > 0 {
				if begun == "" && len(private) > 0 {
					begun, private = private[0], private[1:]
				} else if begun == "" {
					begun, shared = shared[0].text, shared[1:]
				}
				k := min(n, len(begun))
				taken, begun, n = taken+begun[:k], begun[k:], n-k
			}
			return taken
		}
		step := func(most int) (done bool) {
			pieces, size := b.pieces(nil)
			if size == 0 {
				return true
			}
			n := rnd.IntN(min(size, most)) + 1
			b.advance(n)
			got := bytes.Join(pieces, nil)
			if want := take(n); len(got) != size || string(got[:n]) != want {
				t.Fatalf("round %d: the socket accepted %q, want %q", round, got[:n], want)
			}
			return false
		}
		for i := range 300 {
			text := fmt.Sprint(i, bytes.Repeat([]byte("x"), rnd.IntN(60)))
			switch rnd.IntN(4) {
			case 0:
				half := rnd.IntN(len(text))
				b.addPrivate([][]byte{[]byte(text[:half]), []byte(text[half:])})
				if chunked { // the pieces of a chunk, each of which may be written in part
					private = append(private, fmt.Sprintf("%x\r\n", len(text)), text[:half], text[half:], "\r\n")
				} else {
					private = append(private, text[:half], text[half:])
				}
				private = slices.DeleteFunc(private, func(s string) bool { return s == "" })
			case 1:
				f := &frame{kind: Kind(rnd.IntN(4))}
				f.fill(append(newChunkBuffer(len(text)), text...))
				if f.kind == Latest {
					shared = slices.DeleteFunc(shared, func(i item) bool { return i.latest })
				}
				b.queue.push(f)
				shared = append(shared, item{framed(text), f.kind == Latest})
			default:
				step(100)
			}
		}
		b.addGoodbye("over")
		shared = append(shared, item{text: framed("data: {\"reason\":\"over\"}\nevent: goodbye\n\n")})
		if chunked {
			shared[len(shared)-1].text += "0\r\n\r\n"
		}
		for !step(1 << 20) {
		}
		if len(private)+len(shared) > 0 || begun != "" {
			t.Fatalf("round %d: %d private and %d shared events are left, and %q, want none", round, len(private), len(shared), begun)
		}
	}
}
