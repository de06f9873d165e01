package hub

import (
	"math"
	"testing"
	"time"
)

// Of the states of a room the newest counts, in whatever order they are noted; their numbers wrap.
func TestNotesOutOfOrder(t *testing.T) {
	for _, first := range []uint32{0, math.MaxUint32 - 1} {
		var u unused
		r := &live{noted: first}
		note := func(n uint32, idle time.Time) { u.note(r, state{changed: true, number: first + n, idle: idle}) }
		note(2, time.Time{}) // in use
		note(1, time.Unix(1, 0))
		if u.first() != nil {
			t.Errorf("from %d: an old state overwrites a newer one", first)
		}
		note(3, time.Unix(2, 0))
		if u.first() != r {
			t.Errorf("from %d: a new state is ignored", first)
		}
	}
}
