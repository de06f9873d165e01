package hub

import (
	"slices"
	"testing"
	"time"

	"example.com/presence/pkg/presence/room"
)

func peerTime(d time.Duration) time.Time { return frameTime.Add(d) }

// A lease ends 5 s after the last frame, by the clock of the receiver.
func TestLeaseEnds(t *testing.T) {
	p := newPeers("self", peerTime(0))
	if found, ok := p.renew("b", peerTime(0)); !found || !ok {
		t.Errorf("first frame: got found %v, ok %v; want true, true", found, ok)
	}
	if found, ok := p.renew("b", peerTime(time.Second)); found || !ok {
		t.Errorf("second frame: got found %v, ok %v; want false, true", found, ok)
	}
	p.renew("a", peerTime(time.Second))
	for _, node := range []room.NodeID{"self", ""} {
		if found, ok := p.renew(node, peerTime(time.Second)); found || ok {
			t.Errorf("frame of %q: got found %v, ok %v; want false, false", node, found, ok)
		}
	}
	if got := p.live(); !slices.Equal(got, []room.NodeID{"a", "b"}) || !p.isLive("a") || p.isLive("self") {
		t.Errorf("got peers %q, want a and b", got)
	}
	p.renewSelf(peerTime(6 * time.Second))
	if ended, cut := p.end(peerTime(6*time.Second - 1)); len(ended) > 0 || cut {
		t.Errorf("just before 5 s have passed: got %v, cut off %v; want none, false", ended, cut)
	}
	ended, cut := p.end(peerTime(6 * time.Second))
	if want := []lease{{"a", peerTime(time.Second)}, {"b", peerTime(time.Second)}}; !slices.Equal(ended, want) || cut {
		t.Errorf("got %v, cut off %v; want %v, false", ended, cut, want)
	}
	if ended, _ = p.end(peerTime(time.Hour)); len(ended) > 0 || len(p.live()) > 0 {
		t.Errorf("second call: got %v and peers %v, want none", ended, p.live())
	}
	if found, ok := p.renew("a", peerTime(time.Hour)); !found || !ok {
		t.Errorf("frame of a dead node: got found %v, ok %v; want true, true", found, ok)
	}
}

// The late frames of a node that has shut down are ignored for a minute.
func TestFramesOfNodeThatHasLeft(t *testing.T) {
	p := newPeers("self", peerTime(0))
	p.renew("a", peerTime(0))
	if !p.leave("a", peerTime(time.Second)) || p.leave("a", peerTime(time.Second)) || p.leave("never seen", peerTime(time.Second)) {
		t.Error("leave: want true for a live node alone")
	}
	for _, d := range []time.Duration{time.Second, time.Second + leftTime} {
		p.end(peerTime(d))
		if found, ok := p.renew("a", peerTime(d)); found || ok || p.isLive("a") {
			t.Errorf("frame after %v: got found %v, ok %v; want false, false", d, found, ok)
		}
	}
	p.end(peerTime(time.Second + leftTime + 1))
	if len(p.left) > 0 {
		t.Errorf("got %d nodes that have left, want none after %v", len(p.left), leftTime)
	}
}

// A node is cut off when it has received no own heartbeat for 3 s. It knows its peers once it has
// had contact for longer than the time between two heartbeats.
func TestCutOff(t *testing.T) {
	p := newPeers("self", peerTime(0))
	steps := []struct {
		at                time.Duration
		own               bool // a heartbeat of this node arrives
		back, cut         bool // results of renewSelf and end
		settled, isCutOff bool
	}{
		{at: settleTime - 1},
		{at: settleTime, settled: true},
		{at: 2 * time.Second, own: true, settled: true},
		{at: 5*time.Second - 1, settled: true},
		{at: 5 * time.Second, cut: true, isCutOff: true},
		{at: 6 * time.Second, isCutOff: true},
		{at: 9 * time.Second, own: true, back: true},
		{at: 10 * time.Second, own: true},
		{at: 9*time.Second + settleTime, settled: true},
	}
	for _, step := range steps {
		now := peerTime(step.at)
		if step.own {
			if back := p.renewSelf(now); back != step.back {
				t.Errorf("at %v: renewSelf returned %v, want %v", step.at, back, step.back)
			}
		}
		if _, cut := p.end(now); cut != step.cut || p.isCut() != step.isCutOff || p.settled(now) != step.settled {
			t.Errorf("at %v: got cut %v, cut off %v, settled %v; want %v, %v, %v",
				step.at, cut, p.isCut(), p.settled(now), step.cut, step.isCutOff, step.settled)
		}
	}
}

// After this process was stopped, each lease lasts at least one more second, as the frames of the
// peers wait to be read. A lease that ends later keeps its end.
func TestRefresh(t *testing.T) {
	p := newPeers("self", peerTime(0))
	p.renew("a", peerTime(0))
	p.renew("b", peerTime(9500*time.Millisecond))
	p.refresh(peerTime(10 * time.Second))
	if ended, cut := p.end(peerTime(11*time.Second - 1)); len(ended) > 0 || cut {
		t.Errorf("in the fresh second: got %v, cut off %v; want none, false", ended, cut)
	}
	ended, cut := p.end(peerTime(11 * time.Second))
	if len(ended) != 1 || ended[0].node != "a" || !cut {
		t.Errorf("after it: got %v, cut off %v; want the lease of a, true", ended, cut)
	}
	if ended, _ := p.end(peerTime(14500*time.Millisecond - 1)); len(ended) > 0 {
		t.Errorf("got %v, want no end of the lease of b", ended)
	}
	if ended, _ := p.end(peerTime(14500 * time.Millisecond)); len(ended) != 1 {
		t.Errorf("got %v, want the end of the lease of b", ended)
	}
}

// A heartbeat is due each second, or soon if a peer must answer. Four heartbeats ask a greeted
// node to repeat its parts.
func TestHeartbeats(t *testing.T) {
	p := newPeers("self", peerTime(0))
	expect := func(at time.Duration, want string) {
		t.Helper()
		got := "none"
		if b, due := p.beat(peerTime(at)); due {
			got = string(encodeFrame(b))
		}
		if got != want {
			t.Errorf("at %v: got %s, want %s", at, got, want)
		}
	}
	expect(0, `{"v":1,"from":"self","n":1,"hello":["*"]}`)
	expect(999*time.Millisecond, "none")
	expect(time.Second, `{"v":1,"from":"self","n":2,"hello":["*"]}`)
	expect(2*time.Second, `{"v":1,"from":"self","n":3,"hello":["*"]}`)
	expect(3*time.Second, `{"v":1,"from":"self","n":4,"hello":["*"]}`)
	expect(4*time.Second, `{"v":1,"from":"self","n":5}`)
	p.greet("b")
	expect(4*time.Second+batchTime-1, "none")
	expect(4*time.Second+batchTime, `{"v":1,"from":"self","n":6,"hello":["b"]}`)
	p.greet("a")
	p.witness(6)
	p.stamp()
	expect(4*time.Second+2*batchTime, `{"v":1,"from":"self","clock":7,"n":7,"hello":["a","b"]}`)
	p.hurry()
	expect(4*time.Second+3*batchTime, `{"v":1,"from":"self","clock":7,"n":8,"hello":["a","b"]}`)
	expect(4*time.Second+4*batchTime, "none")
	p.greet(allNodes)
	expect(5*time.Second, `{"v":1,"from":"self","clock":7,"n":9,"hello":["*"]}`)
}

// A round trip is that of the heartbeat itself, also after many were lost while the Lamport counter
// stayed the same.
func TestRoundTrip(t *testing.T) {
	p := newPeers("self", peerTime(0))
	var last heartbeat
	for i := range 3 * maxSentBeats {
		last, _ = p.beat(peerTime(time.Duration(i) * time.Second))
	}
	at := peerTime(3 * maxSentBeats * time.Second)
	for i, number := range []uint64{0, last.Number - maxSentBeats, last.Number + 1, last.Number - 2, last.Number, last.Number} {
		want, known := map[int]time.Duration{3: 3 * time.Second, 4: time.Second}[i]
		if took, ok := p.roundTrip(number, at); took != want || ok != known {
			t.Errorf("heartbeat %d of %d: got %v, %v; want %v, %v", number, last.Number, took, ok, want, known)
		}
	}
}

// After beat was called, the next heartbeat is due later, so that the caller never spins.
func TestBeatDue(t *testing.T) {
	p := newPeers("self", peerTime(0))
	for _, step := range []struct {
		at, next time.Duration
		hurry    bool
	}{
		{at: 0, next: time.Second},
		{at: time.Second, next: 2 * time.Second},
		{at: 1010 * time.Millisecond, hurry: true, next: time.Second + batchTime},
		{at: time.Second + batchTime, next: 2*time.Second + batchTime},
	} {
		if step.hurry {
			p.hurry()
		}
		p.beat(peerTime(step.at))
		if got := p.beatDue().Sub(frameTime); got != step.next {
			t.Errorf("at %v: next heartbeat due at %v, want %v", step.at, got, step.next)
		}
	}
}

// After a check, the next one is due later. It is due when the first of these times has come: the
// end of checkTime, the end of a lease, or the time at which the node is cut off.
func TestCheckDue(t *testing.T) {
	p := newPeers("self", peerTime(0))
	steps := []struct {
		at         time.Duration
		do         func(now time.Time)
		late, next time.Duration
	}{
		{at: 0, next: checkTime},
		{at: 2700 * time.Millisecond, late: 2200 * time.Millisecond, next: 3 * time.Second}, // cut off at 3 s
		{at: 3 * time.Second, next: 3*time.Second + checkTime},
		{at: 3500 * time.Millisecond, do: func(now time.Time) { p.renewSelf(now); p.renew("a", now.Add(-4700*time.Millisecond)) },
			next: 3800 * time.Millisecond},
		{at: 3800 * time.Millisecond, next: 3800*time.Millisecond + checkTime},
		{at: 9 * time.Second, do: func(now time.Time) { p.refresh(now) }, late: 4700 * time.Millisecond, next: 9*time.Second + checkTime},
		{at: 12 * time.Second, next: 12*time.Second + checkTime}, // late again
	}
	for _, step := range steps {
		now := peerTime(step.at)
		if got := p.checked(now); got != step.late {
			t.Errorf("at %v: got a delay of %v, want %v", step.at, got, step.late)
		}
		if step.do != nil {
			step.do(now)
		}
		p.end(now)
		if got := p.checkDue(now).Sub(frameTime); got != step.next {
			t.Errorf("at %v: next check due at %v, want %v", step.at, got, step.next)
		}
	}
}

// Each stamp is higher than all versions that the node has seen.
func TestStamp(t *testing.T) {
	p := newPeers("self", peerTime(0))
	last := room.Version{}
	for _, seen := range []uint64{0, 0, 5, 3, 0, maxCounter + 1, 7} {
		p.witness(seen)
		next := p.stamp()
		if next.Compare(last) <= 0 || seen <= maxCounter && next.Counter <= seen || next.Node != "self" || p.counter() != next.Counter {
			t.Errorf("after %d: got %v after %v", seen, next, last)
		}
		last = next
	}
	if want := (room.Version{Counter: 10, Node: "self"}); last != want {
		t.Errorf("got %v at last, want %v", last, want)
	}
}

// A counter raises that of a node by at most 1<<40, so one wrong counter leaves enough. No stamp is
// higher than the limit of the other nodes.
func TestWitness(t *testing.T) {
	p := newPeers("self", peerTime(0))
	for _, step := range []struct {
		seen, want uint64
		reached    bool
	}{
		{7, 7, true}, {3, 7, true}, {maxCounter + 1, 7, false}, {maxRaise + 7, maxRaise + 7, true},
		{maxCounter, 2*maxRaise + 7, false}, {3*maxRaise + 8, 3*maxRaise + 7, false}, {3*maxRaise + 8, 3*maxRaise + 8, true},
	} {
		if reached := p.witness(step.seen); reached != step.reached || p.counter() != step.want {
			t.Errorf("after %d: got counter %d, reached %v; want %d, %v", step.seen, p.counter(), reached, step.want, step.reached)
		}
	}
	for range maxCounter/maxRaise + 1 {
		p.witness(maxCounter)
	}
	if reached, next := p.witness(maxCounter), p.stamp().Counter; reached || next != maxCounter {
		t.Errorf("at the end: got stamp %d, reached %v; want %d, false", next, reached, uint64(maxCounter))
	}
}
