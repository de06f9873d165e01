package hub

import (
	"fmt"
	"testing"
	"time"

	"example.com/presence/pkg/presence/room"
)

// A part is repeated 0.5, 1, 2 and 4 s after its last change, and then every 30 s while it has a
// user. Each repeat is up to 10 % early, so that rooms and nodes repeat at different times.
func TestRepeats(t *testing.T) {
	want := []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second,
		30 * time.Second, 60 * time.Second, 90 * time.Second, 120 * time.Second}
	if _, ok := newExchange(0).nextRepeat("lobby", node4f, false); ok {
		t.Error("a room without a frame repeats it")
	}
	early := map[time.Duration]bool{}
	for i := range 50 {
		name := room.Name(fmt.Sprint("room-", i))
		for _, empty := range []bool{false, true} {
			x := newExchange(0)
			x.changedAt = frameTime
			for n, nominal := range want {
				due, ok := x.nextRepeat(name, node4f, empty)
				if last := empty && n > len(repeatTimes); ok == last {
					t.Fatalf("repeat %d of a part, empty %v: got %v, want %v", n, empty, ok, !last)
				}
				if after := due.Sub(frameTime); ok && (after > nominal || after < nominal*9/10) {
					t.Errorf("repeat %d: got %v, want %v to %v", n, after, nominal*9/10, nominal)
				} else if ok && n == 4 {
					early[after] = true
				}
				if quiet := x.isQuiet(); quiet != (n > len(repeatTimes)) {
					t.Errorf("before repeat %d: got quiet %v", n, quiet)
				}
				x.repeats++
			}
		}
	}
	if len(early) < 20 {
		t.Errorf("50 rooms repeat at %d different times, want at least 20", len(early))
	}
	a, b := newExchange(0), newExchange(0)
	a.changedAt, b.changedAt = frameTime, frameTime
	dueA, _ := a.nextRepeat("lobby", node00, false)
	if dueB, _ := b.nextRepeat("lobby", nodeff, false); dueA.Equal(dueB) {
		t.Errorf("two nodes repeat at %v", dueA)
	}
}

// A room that has published no change is quiet, unless a position must be announced.
func TestQuietRoom(t *testing.T) {
	x := newExchange(7)
	if !x.isQuiet() || x.number != 7 {
		t.Errorf("new room: got quiet %v, number %d; want true, 7", x.isQuiet(), x.number)
	}
	if x.addAck(room.Position{Epoch: "e", Seq: 1}, frameTime); x.isQuiet() {
		t.Error("a room whose position must be announced is quiet")
	}
}
