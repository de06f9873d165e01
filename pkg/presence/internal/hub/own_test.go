package hub

import (
	"fmt"
	"testing"
	"time"

	"example.com/presence/pkg/presence/room"
)

// The totals of an evicted room are repeated 1, 2 and up to 4 s after its last change, and its
// messages are announced twice.
func TestEvictedFrames(t *testing.T) {
	var e evicted
	o := ownPart{number: 7, changedAt: frameTime, repeats: 1}
	o.addAck(room.Position{Epoch: "e", Seq: 3}, frameTime.Add(600*time.Millisecond))
	e.add("lobby", o, room.Position{Epoch: "e", Seq: 4})
	got := []string{}
	for next := frameTime.Add(600 * time.Millisecond); !next.IsZero(); {
		now := next
		var frames []partFrame
		if frames, next = e.frames("lobby", node4f, 100, now); len(frames) != 1 {
			t.Fatalf("got %d frames, want 1", len(frames))
		}
		f := frames[0]
		if f.Number != 7 || f.Users != 0 || f.Connections != 0 || f.Position != "e-4" || f.From != node4f {
			t.Fatalf("got frame %+v", f)
		}
		got = append(got, fmt.Sprint(now.Sub(frameTime).Round(200*time.Millisecond), f.Acked))
	}
	if want := "[600ms [3] 1s [] 1.6s [3] 2s [] 3.8s []]"; fmt.Sprint(got) != want {
		t.Errorf("got frames at %v, want %v", got, want)
	}
	if frames, _ := e.frames("lobby", node4f, 100, frameTime.Add(time.Hour)); len(frames) > 0 || len(e.parts) > 0 || e.order.Len() > 0 {
		t.Errorf("after them: got %d frames, %d parts; want none", len(frames), len(e.parts))
	}
}

// If a publication is blocked, the next frames are due later by that time.
func TestDelayedFrames(t *testing.T) {
	var e evicted
	o := ownPart{number: 7, changedAt: frameTime}
	o.addAck(room.Position{Epoch: "e", Seq: 3}, frameTime)
	e.add("lobby", o, room.Position{Epoch: "e", Seq: 4})
	_, before := e.frames("lobby", node4f, 100, frameTime)
	e.delay("lobby", 3*time.Second)
	e.delay("den", time.Second) // not evicted
	frames, after := e.frames("lobby", node4f, 100, before)
	if want := before.Add(3 * time.Second); len(frames) != 1 || len(frames[0].Acked) > 0 || !after.Equal(want) {
		t.Errorf("repeat: got %d frames, next at %v; want one without an announcement, next at %v", len(frames), after, want)
	}
	for now := after; !now.IsZero(); {
		frames, after = e.frames("lobby", node4f, 100, now)
		if len(frames[0].Acked) > 0 {
			if want := frameTime.Add(announceTime + 3*time.Second); !now.Equal(want) {
				t.Errorf("second announcement at %v, want %v", now, want)
			}
			return
		}
		now = after
	}
	t.Error("no second announcement")
}

// The announcements of an evicted room may need several frames. A part that is in use again after
// the eviction does not change the one that is kept.
func TestEvictedAnnouncements(t *testing.T) {
	var e evicted
	o := ownPart{number: 7}
	for seq := range maxAcks + 1 {
		o.addAck(room.Position{Epoch: "e", Seq: uint64(seq + 1)}, frameTime)
	}
	e.add("lobby", o, room.Position{Epoch: "e", Seq: maxAcks})
	o.takeAcks(frameTime, 0)
	frames, _ := e.frames("lobby", node4f, 2*maxAcks, frameTime)
	acked := 0
	for _, f := range frames {
		acked += len(f.Acked)
	}
	if len(frames) != maxAcks/2/maxAcked+1 || acked != maxAcks/2+1 || frames[0].AckedFrom != 1 {
		t.Errorf("got %d frames with %d positions, from %d; want 9, 2049, 1", len(frames), acked, frames[0].AckedFrom)
	}
}

// The number of evicted rooms is bounded. A settled part is not added, and a part is taken once.
func TestEvictedLimit(t *testing.T) {
	var e evicted
	for i := range maxEvicted + 10 {
		e.add(room.Name(fmt.Sprint(i)), ownPart{number: uint64(i), changedAt: frameTime}, room.Position{})
		e.add("settled", ownPart{changedAt: frameTime, repeats: len(repeatTimes)}, room.Position{})
	}
	if len(e.parts) != maxEvicted || e.order.Len() != maxEvicted {
		t.Errorf("got %d parts, %d in order; want %d", len(e.parts), e.order.Len(), maxEvicted)
	}
	for name, want := range map[room.Name]uint64{"9": 0, "10": 10, "1009": 1009, "settled": 0} {
		if got := e.take(name); got.number != want {
			t.Errorf("part of %s: got number %d, want %d", name, got.number, want)
		}
		if got := e.take(name); got.number != 0 {
			t.Errorf("part of %s: taken twice", name)
		}
	}
}
