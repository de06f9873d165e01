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

// takenAcks records the announcements of the messages of one node.
type takenAcks struct {
	t     *testing.T
	x     *exchange
	times map[uint64][]time.Time
}

func (a *takenAcks) take(now time.Time) (from uint64) {
	positions, from, next := a.x.takeAcks(now, many)
	for _, p := range positions {
		a.times[p] = append(a.times[p], now)
	}
	if next.IsZero() != (len(a.x.acks) == 0 && a.x.unlisted == nil) || !next.IsZero() && !next.After(now) {
		a.t.Errorf("at %v: next announcement at %v, %d wait", now, next, len(a.x.acks))
	}
	return from
}

// many is the number of messages after which a message of takenAcks is announced again.
const many = 500

// At any rate, each message is announced twice: at once, and again after 1 s or after many further
// messages. Few messages wait.
func TestAnnouncementsAtAnyRate(t *testing.T) {
	for _, rate := range []int{1, 300, 600, 1000, 10_000} { // messages per second
		a := takenAcks{t, newExchange(0), map[uint64][]time.Time{}}
		const batches = 60
		var sent uint64
		for batch := range batches {
			now := frameTime.Add(time.Duration(batch) * batchTime)
			for want := uint64((batch + 1) * rate / 20); batch < batches/2 && sent < want; sent++ {
				a.x.addAck(room.Position{Epoch: "e", Seq: sent + 1}, now)
			}
			if from := a.take(now); from != 0 || len(a.x.acks) > many+rate/20 {
				t.Errorf("%d per second: got %d messages that wait, compared from %d; want at most %d, 0", rate, len(a.x.acks), from, many+rate/20)
			}
		}
		for p := uint64(1); p <= sent; p++ {
			at := a.times[p]
			if len(at) != 2 || at[1].Sub(at[0]) < batchTime || at[1].Sub(at[0]) > announceTime {
				t.Fatalf("%d per second: message %d announced at %v, want twice within %v", rate, p, at, announceTime)
			}
		}
		if !a.x.isQuiet() || sent == 0 {
			t.Errorf("%d per second: not quiet after the second announcements of %d messages", rate, sent)
		}
	}
}

// If no frame is published while messages are accepted, a bounded number of them waits. The lowest
// position of the others is announced instead, twice as well.
func TestAnnouncementsWithoutFrames(t *testing.T) {
	a := takenAcks{t, newExchange(0), map[uint64][]time.Time{}}
	const sent = 10*maxAcks + 1
	for p := uint64(2); p <= sent; p++ {
		if a.x.addAck(room.Position{Epoch: "e", Seq: p ^ 1}, frameTime); len(a.x.acks) > maxAcks { // 3, 2, 5, 4, …
			t.Fatalf("%d messages wait, want at most %d", len(a.x.acks), maxAcks)
		}
	}
	for n, after := range []time.Duration{0, announceTime} {
		from := a.take(frameTime.Add(after))
		if from != 2 {
			t.Errorf("announcement %d: compared from %d, want 2, the lowest position that is not listed", n, from)
		}
	}
	if n := len(a.times[sent]); n != 2 {
		t.Errorf("the newest message was announced %d times, want 2", n)
	}
	if from := a.take(frameTime.Add(time.Hour)); from != 0 || !a.x.isQuiet() {
		t.Errorf("after both announcements: got %d, quiet %v", from, a.x.isQuiet())
	}
}
