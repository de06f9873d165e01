package hub

import (
	"fmt"
	"slices"
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

// A publication that is blocked puts off the second announcements that follow it, and no others. If
// it fails, its announcements are made again.
func TestEndOfPublication(t *testing.T) {
	at := func(ms int) time.Time { return frameTime.Add(time.Duration(ms) * time.Millisecond) }
	o := ownPart{changedAt: at(100), epoch: "e"}
	frame := partFrame{Position: "e-9"}
	take := func(ms int, want ...uint64) partFrame {
		t.Helper()
		positions, _, _ := o.takeAcks(at(ms), many)
		if !slices.Equal(positions, want) {
			t.Errorf("at %d ms: got announcements of %v, want %v", ms, positions, want)
		}
		f := frame
		f.Acked = positions
		return f
	}
	end := func(start, now, want int, failed ...partFrame) {
		t.Helper()
		if due := o.endPublication(failed, at(start), at(now)); !due.Equal(at(want)) {
			t.Errorf("end of the publication at %d ms: next announcement after %v, want %d ms", now, due.Sub(frameTime), want)
		}
	}
	o.addAck(room.Position{Epoch: "e", Seq: 1}, at(0))
	take(0, 1)
	end(0, 0, 1000)
	o.addAck(room.Position{Epoch: "e", Seq: 2}, at(100))
	take(100, 2)
	end(100, 400, 1000) // blocked for 300 ms
	if !o.changedAt.Equal(at(400)) {
		t.Errorf("repeats count from %v, want 400 ms", o.changedAt.Sub(frameTime))
	}
	failed := take(1000, 1)
	end(1000, 1100, 1400, failed)
	failed = take(1400, 2)
	end(1400, 1400, 2100, partFrame{Position: "f-9", Acked: []uint64{3}}, failed) // 3 is of another epoch
	take(2100, 1)
	take(2400, 2)
	if !o.isAnnounced() {
		t.Errorf("got %d messages that wait, want none", len(o.acks))
	}

	o = ownPart{epoch: "e", acks: []ack{{position: 4, due: at(0)}}, unlisted: &ack{position: 3, due: at(0)}}
	failed = take(0, 4)
	failed.AckedFrom = 3
	end(0, 0, 1000, failed)
	if positions, from, _ := o.takeAcks(at(1000), many); from != 3 || len(positions) != 1 || !o.acks[0].again {
		t.Errorf("after a failure: got announcements of %v from %d, want 4 from 3, and another", positions, from)
	}
	take(2000, 4)
	if o.unlisted = nil; !o.isAnnounced() {
		t.Error("the last messages are not announced")
	}
	end(2000, 2000, 3000, failed)
	if o.unlisted == nil || o.unlisted.position != 3 {
		t.Error("a range that was announced in vain is not announced again")
	}
}

// The announcements of an evicted room are made again if they fail, even if they were its last.
func TestEvictedFailure(t *testing.T) {
	var e evicted
	o := ownPart{number: 7}
	o.addAck(room.Position{Epoch: "e", Seq: 3}, frameTime)
	e.add("lobby", o, room.Position{Epoch: "e", Seq: 4})
	e.frames("lobby", node4f, 0, frameTime)
	frames, _ := e.frames("lobby", node4f, 0, frameTime)
	if len(e.parts) != 0 {
		t.Fatal("the part was not removed")
	}
	due := e.endPublication("lobby", frames, frameTime, frameTime)
	if want := frameTime.Add(announceTime); !due.Equal(want) {
		t.Errorf("due at %v, want %v", due, want)
	}
	frames, _ = e.frames("lobby", node4f, many, due)
	if len(frames) != 1 || !slices.Equal(frames[0].Acked, []uint64{3}) || frames[0].Number != 7 || frames[0].Position != "e-4" {
		t.Errorf("got frames %+v, want the announcement of 3", frames)
	}
	e.endPublication("lobby", nil, due, due.Add(time.Second))
	if len(e.parts) != 0 || e.order.Len() != 0 {
		t.Errorf("got %d parts, want none", len(e.parts))
	}
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
