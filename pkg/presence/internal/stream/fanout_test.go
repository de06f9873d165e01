package stream

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// fakeReceiver is a connection whose deliver method takes the time delay.
type fakeReceiver struct {
	att   attachment
	delay time.Duration
	ends  bool // the connection ends in the next call of deliver
	got   []uint64
	when  time.Time // time of the last batch
}

func (m *fakeReceiver) attachment() *attachment { return &m.att }

func (m *fakeReceiver) deliver(b *batch) (cost int) {
	time.Sleep(m.delay)
	m.when = time.Now()
	for _, f := range b.frames {
		if f.number > m.att.after {
			m.got = append(m.got, f.number)
		}
	}
	if m.ends {
		m.att.detach()
	}
	return 1
}

// events makes frames with consecutive publish numbers.
type events struct{ published uint64 }

func (e *events) next(k Kind) *frame {
	e.published++
	f := &frame{kind: k, number: e.published}
	f.fill(append(newChunkBuffer(9), "data: 0\n\n"...))
	f.retain()
	return f
}

// Each connection receives the events from its attach to its end, once and in order. Connections
// attach and detach between the slices of fan-outs, and during a slice.
func TestFanOutsAgainstReference(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	synctest.Test(t, func(t *testing.T) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		p := fanOuts{group: 3}
		sh, other := new(share), new(share)
		var e events
		want := map[*fakeReceiver][]uint64{}
		var here, gone []*fakeReceiver
		other.attach(&fakeReceiver{delay: slice}, 0)
		divided := 0
		for range 20_000 {
			switch n := rnd.IntN(100); {
			case n < 30:
				m := &fakeReceiver{delay: time.Duration(rnd.IntN(3)) * slice / 20}
				sh.attach(m, e.published)
				here = append(here, m)
			case n < 58 && len(here) > 0:
				i := rnd.IntN(len(here))
				m := here[i]
				for _, f := range m.att.undelivered() {
					m.got = append(m.got, f.number)
				}
				m.att.detach()
				here, gone = slices.Delete(here, i, i+1), append(gone, m)
			case n < 60 && len(here) > 0 && len(p.active) > 0:
				m := here[rnd.IntN(len(here))]
				if len(m.att.undelivered()) > 0 && sh.now.pending.len() == 0 {
					// The connection ends during the fan-out, and still receives all its events.
					m.ends = true
					here, gone = slices.DeleteFunc(here, func(o *fakeReceiver) bool { return o == m }), append(gone, m)
					for m.att.share != nil {
						p.round()
					}
				}
			case n < 70:
				f := e.next(Every)
				for _, m := range here {
					want[m] = append(want[m], f.number)
				}
				p.queue(sh, f)
				if rnd.IntN(3) == 0 {
					p.queue(other, e.next(Every))
				}
			default:
				p.round()
				if sh.now != nil && sh.now.batch != nil {
					divided++
				}
			}
		}
		p.finish()
		for _, m := range append(gone, here...) {
			if !slices.Equal(m.got, want[m]) {
				t.Fatalf("a connection got %d events that begin with %v, want %d that begin with %v",
					len(m.got), m.got[:min(20, len(m.got))], len(want[m]), want[m][:min(20, len(want[m]))])
			}
		}
		if divided < 100 || len(gone) < 1000 {
			t.Errorf("got %d slices within a fan-out and %d ended connections, want at least 100 and 1000", divided, len(gone))
		}
	})
}

// The time of a count ends when its own batch is delivered, even if other events wait. A count that
// replaces another one has the time of the older cause.
func TestDeliveredTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const each = 10 * time.Microsecond
		var got []time.Duration
		p := fanOuts{group: loopGroup}
		p.tally.delivered = func(d time.Duration) { got = append(got, d) }
		sh := new(share)
		for range 1000 { // several slices
			sh.attach(&fakeReceiver{delay: each}, 0)
		}
		var e events
		count := func(age time.Duration) {
			f := e.next(Latest)
			if age > 0 {
				f.since = time.Now().Add(-age)
			}
			p.queue(sh, f)
		}
		count(20 * time.Millisecond)
		p.round()
		p.queue(sh, e.next(Every))
		p.finish()
		count(30 * time.Millisecond)
		count(5 * time.Millisecond)
		count(0)
		p.finish()
		count(0)
		p.finish()
		if want := []time.Duration{30 * time.Millisecond, 40 * time.Millisecond}; !slices.Equal(got, want) {
			t.Errorf("got the times %v, want %v: the age, and 10 ms for the batch", got, want)
		}
	})
}

// A room of 10 that shares its goroutine with a room of 1,000 waits for at most one slice of the
// large room. Its fan-out time is its own time, multiplied by two because two rooms share the
// goroutine.
func TestSmallRoomNextToLargeRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const each = 10 * time.Microsecond
		p := fanOuts{group: loopGroup}
		var e events
		rooms := map[int]*share{}
		for _, size := range []int{1000, 10} {
			rooms[size] = new(share)
			for range size {
				rooms[size].attach(&fakeReceiver{delay: each}, 0)
			}
		}
		large, small := rooms[1000], rooms[10]
		p.queue(large, e.next(Latest))
		p.round()
		if large.delivered == 0 || large.delivered == 1000 {
			t.Fatalf("after a slice %d connections of the large room have the event, want more than 0, fewer than 1000", large.delivered)
		}
		p.queue(small, e.next(Latest))
		start := time.Now()
		for small.now != nil {
			p.round()
		}
		if waited := small.conns[9].(*fakeReceiver).when.Sub(start); waited > slice+(16+10)*each {
			t.Errorf("the small room's fan-out ended after %v, want at most %v", waited, slice+(16+10)*each)
		}
		if got := time.Duration(small.fanOutTime.Load()); got != 2*10*each {
			t.Errorf("the small room's fan-out time is %v, want %v", got, 2*10*each)
		}
		p.finish()
		if got := time.Duration(large.fanOutTime.Load()); got < 1000*each || got > 1000*each+4*slice {
			t.Errorf("the large room's fan-out time is %v, want about %v", got, 1000*each)
		}
	})
}

// The fan-out time of a large room is at most the time that its events waited, even if small rooms
// next to it have many events.
func TestFanOutTimeNextToSmallRooms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := fanOuts{group: loopGroup}
		var e events
		var rooms []*share
		for i := range 21 {
			sh := new(share)
			for range []int{1000, 10}[min(i, 1)] {
				sh.attach(&fakeReceiver{delay: 5 * time.Microsecond}, 0)
			}
			rooms = append(rooms, sh)
		}
		p.queue(rooms[0], e.next(Latest))
		start := time.Now()
		for rooms[0].now != nil {
			for _, sh := range rooms[1:] {
				p.queue(sh, e.next(Reserved))
			}
			p.round()
		}
		if got, took := time.Duration(rooms[0].fanOutTime.Load()), time.Since(start); got > took || got < 1000*5*time.Microsecond {
			t.Errorf("a fan-out of 5 ms that ended after %v: got the time %v", took, got)
		}
		p.finish()
	})
}

// A group ends with the connection where the batches reach the maximum size of a group, so that
// large events do not make its system call long.
func TestGroupOfLargeEvents(t *testing.T) {
	for size, want := range map[int]int{100: ringGroup, maxBatch / 4: 4, maxBatch/4 + 1: 4, maxBatch/4 - 1: 5, maxBatch: 1, 10 * maxBatch: 1} {
		p := fanOuts{group: ringGroup, bytes: maxBatch}
		sh := new(share)
		for range 2 * ringGroup {
			sh.attach(&fakeReceiver{}, 0)
		}
		sh.now = &fanOut{batch: &batch{size: size}}
		if p.deliver(sh, p.group); sh.delivered != want {
			t.Errorf("events of %d bytes: got a group of %d connections, want %d", size, sh.delivered, want)
		}
	}
}

// A group is larger while the goroutine does nothing but deliver the events of one room.
func TestGroupAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := fanOuts{group: 3, alone: 12}
		sh, other := new(share), new(share)
		for range 20 {
			sh.attach(&fakeReceiver{}, 0)
			other.attach(&fakeReceiver{}, 0)
		}
		var e events
		for i, step := range []struct {
			tasks []task
			want  int // size of a group
		}{
			{[]task{{do: func() {}}}, 3},
			{[]task{{share: sh, frame: e.next(Every)}}, 12},
			{[]task{{share: sh, frame: e.next(Every)}, {share: other, frame: e.next(Every)}}, 3},
			{nil, 12},
			{[]task{{share: sh, frame: e.next(Every)}, {do: func() {}}}, 3},
		} {
			time.Sleep(aloneTime + time.Millisecond)
			p.handle(step.tasks)
			if got := p.limit(time.Now()); got != step.want {
				t.Errorf("step %d: got groups of %d, want %d", i, got, step.want)
			}
			p.finish()
		}
		time.Sleep(aloneTime - time.Millisecond)
		if got := p.limit(time.Now()); got != 3 {
			t.Errorf("soon after another task: got groups of %d, want 3", got)
		}
	})
}

// A slice is as long as the goroutine waited for its turn, within limits. A group that would end
// later waits for the next slice.
func TestSliceGrowsWithTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const each = 10 * time.Microsecond
		for waited, want := range map[time.Duration]time.Duration{
			0: slice, slice / 2: slice, slice * 2: slice * 2, time.Second: maxSlice,
		} {
			p := fanOuts{group: loopGroup}
			var e events
			sh := new(share)
			for range 2000 {
				sh.attach(&fakeReceiver{delay: each}, 0)
			}
			p.queue(sh, e.next(Every))
			p.waited = waited
			start := time.Now()
			p.round()
			if got := time.Since(start); got > want || got <= want-16*each {
				t.Errorf("after a wait of %v: got a slice of %v, want %v, or less by a group", waited, got, want)
			}
		}
	})
}

// The fan-out time is the duration of the last fan-out with a count, or of the fan-out in progress
// if that is longer. It is measured from the first slice to the last, and includes the goroutine's
// other work between them.
func TestFanOutTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const each = 100 * time.Microsecond
		p := fanOuts{group: loopGroup}
		var e events
		sh := new(share)
		for range 20 {
			sh.attach(&fakeReceiver{delay: each}, 0)
		}
		for _, step := range []struct {
			kind Kind
			size int
			rest time.Duration   // pause after each slice
			want []time.Duration // fan-out time after each slice
		}{
			{Latest, 20, 0, []time.Duration{16 * each, 20 * each}},
			{Reserved, 20, time.Second, []time.Duration{20 * each, 20 * each}},
			{Latest, 20, each, []time.Duration{20 * each, 21 * each}},
			{Latest, 4, each, []time.Duration{4 * each}},
		} {
			for len(sh.conns) > step.size {
				sh.conns[0].attachment().detach()
			}
			p.queue(sh, e.next(step.kind))
			var got []time.Duration
			for sh.now != nil {
				p.round()
				got = append(got, time.Duration(sh.fanOutTime.Load()))
				time.Sleep(step.rest)
			}
			if fmt.Sprint(got) != fmt.Sprint(step.want) {
				t.Errorf("kind %d to %d connections: got %v, want %v", step.kind, step.size, got, step.want)
			}
		}
	})
}
