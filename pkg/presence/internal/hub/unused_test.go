package hub

import (
	"math"
	"testing"
	"time"
)

// States of a room may arrive in any order. The state with the highest number wins, even if the
// numbers have wrapped around.
func TestNotesOutOfOrder(t *testing.T) {
	for _, first := range []uint32{0, math.MaxUint32 - 1} {
		u := owners{}
		r := &live{counter: counter{stream: silentStream{}}, holding: holding{noted: first}}
		u.add(r, "alice")
		note := func(n uint32, idle time.Time) { u.note(r, state{changed: true, number: first + n, idle: idle}) }
		note(2, time.Time{}) // the room is in use
		note(1, time.Unix(1, 0))
		if u.take() != nil {
			t.Errorf("first number %d: an old state replaced a newer one", first)
		}
		note(3, time.Unix(2, 0))
		if u.take() != r {
			t.Errorf("first number %d: a new state was ignored", first)
		}
	}
}
