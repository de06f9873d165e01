package hub

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence/room"
)

// sentLog records the calls of an outbox's send function, for example "a@50ms".
type sentLog struct {
	mu    sync.Mutex // guards the fields below
	start time.Time
	calls []string
	busy  bool
	block map[room.Name]time.Duration // how long send blocks for a topic
}

// newLogged returns an outbox that runs on the time of the bubble, and the log of its calls.
func newLogged(t *testing.T) (*outbox, *sentLog) {
	l := &sentLog{start: time.Now(), block: map[room.Name]time.Duration{}}
	o := newOutbox(system{}, func(topic room.Name) { l.send(t, topic) })
	t.Cleanup(o.close)
	return o, l
}

func (l *sentLog) send(t *testing.T, topic room.Name) {
	l.mu.Lock()
	if l.busy {
		t.Errorf("send of %s while another send runs", topic)
	}
	l.busy = true
	l.calls = append(l.calls, fmt.Sprint(topic, "@", time.Since(l.start)))
	block := l.block[topic]
	l.mu.Unlock()
	time.Sleep(block)
	l.mu.Lock()
	l.busy = false
	l.mu.Unlock()
}

// expect compares the calls since the last call of expect.
func (l *sentLog) expect(t *testing.T, want string) {
	t.Helper()
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	if got := strings.Join(l.calls, " "); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	l.calls = nil
}

func (o *outbox) sizes() (topics, queue int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.topics), len(o.queue)
}

// The outbox sends each topic once, at the earliest time for which it was added.
func TestOutboxOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, log := newLogged(t)
		at := func(ms int) time.Time { return log.start.Add(time.Duration(ms) * time.Millisecond) }
		o.add("c", at(30))
		o.add("a", at(10))
		o.add("b", at(20))
		o.add("b", at(25)) // later: no effect
		o.add("d", at(40))
		o.add("d", at(15)) // earlier: moves it
		o.add("e", time.Time{})
		time.Sleep(time.Second)
		log.expect(t, "a@10ms d@15ms b@20ms c@30ms")
		o.add("past", at(0))
		log.expect(t, "past@1s")
		o.add("a", at(1010))
		o.add("a", at(1005))
		time.Sleep(7 * time.Millisecond)
		o.add("a", at(1010)) // a new time, after the topic was sent
		time.Sleep(time.Second)
		log.expect(t, "a@1.005s a@1.01s")
		if topics, queue := o.sizes(); topics != 0 || queue != 0 {
			t.Errorf("got %d topics, %d items, want none", topics, queue)
		}
	})
}

// However often topics are added and moved, each is sent once, at its earliest time.
func TestOutboxMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		rnd := rand.New(rand.NewPCG(seed, 0))
		o, log := newLogged(t)
		want := map[int][]string{} // topics by the time in ms
		for i := range 200 {
			topic, first := fmt.Sprint("t", i), 1000
			for range 1 + rnd.IntN(5) {
				ms := rnd.IntN(1000)
				o.add(room.Name(topic), log.start.Add(time.Duration(ms)*time.Millisecond))
				first = min(first, ms)
			}
			want[first] = append(want[first], topic)
		}
		for ms := range 1000 {
			synctest.Wait()
			log.mu.Lock()
			got := []string{}
			for _, call := range log.calls {
				topic, _, _ := strings.Cut(call, "@")
				got = append(got, topic)
			}
			log.calls = nil
			log.mu.Unlock()
			slices.Sort(got)
			if slices.Sort(want[ms]); !slices.Equal(got, want[ms]) {
				t.Fatalf("at %d ms: got %q, want %q", ms, got, want[ms])
			}
			time.Sleep(time.Millisecond)
		}
	})
}

// A send that blocks delays the other topics. None is lost, and the memory is bounded by the number
// of topics, no matter how often each is added.
func TestOutboxBlocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, log := newLogged(t)
		log.block["slow"] = time.Second
		now := log.start
		o.add("slow", now)
		synctest.Wait()
		for i := range 10_000 {
			o.add("late", now.Add(time.Hour-time.Duration(i)*time.Millisecond))
			o.add("a", now.Add(time.Minute-time.Duration(i)*time.Millisecond))
			o.add("b", now.Add(10*time.Millisecond))
		}
		if topics, queue := o.sizes(); topics != 3 || queue != 3 {
			t.Errorf("got %d topics with %d items in the queue, want 3 topics with 3 items", topics, queue)
		}
		o.add("a", now)
		o.add("slow", now.Add(2500*time.Millisecond)) // while it is sent
		time.Sleep(time.Minute)
		log.expect(t, "slow@0s a@1s b@1s slow@2.5s")
		time.Sleep(time.Hour)
		log.expect(t, "late@"+(time.Hour-9999*time.Millisecond).String())
	})
}

// send may add topics, also its own.
func TestOutboxAddsItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o *outbox
		calls := []time.Duration{}
		start := time.Now()
		o = newOutbox(system{}, func(topic room.Name) {
			calls = append(calls, time.Since(start))
			if len(calls) < 4 {
				o.add(topic, time.Now().Add(time.Second))
			}
		})
		defer o.close()
		o.add("a", start)
		time.Sleep(time.Minute)
		synctest.Wait()
		if want := []time.Duration{0, time.Second, 2 * time.Second, 3 * time.Second}; !slices.Equal(calls, want) {
			t.Errorf("got %v, want %v", calls, want)
		}
	})
}

// close waits for the running send. Then nothing is sent any more.
func TestOutboxClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, log := newLogged(t)
		log.block["slow"] = time.Second
		o.add("slow", log.start)
		o.add("next", log.start)
		o.add("later", log.start.Add(time.Minute))
		time.Sleep(100 * time.Millisecond)
		o.close()
		if d := time.Since(log.start); d != time.Second {
			t.Errorf("close returned after %v, want 1s, when the send has returned", d)
		}
		if o.add("after", log.start); o.topics["after"] != nil {
			t.Error("a closed outbox keeps a topic")
		}
		time.Sleep(time.Hour)
		log.expect(t, "slow@0s")
		o.close() // again

		o, log = newLogged(t)
		o.add("later", log.start.Add(time.Minute))
		o.close()
		time.Sleep(time.Hour)
		log.expect(t, "")
	})
}
