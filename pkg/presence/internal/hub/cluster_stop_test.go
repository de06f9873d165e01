package hub_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/internal/hub"
	"example.com/presence/pkg/presence/room"
)

// publishBus calls a function before each publication.
type publishBus struct {
	backplane.Bus

	mu     sync.Mutex // guards the fields below
	before func(ctx context.Context, topic room.Name)
	err    error // of all publications
}

func (b *publishBus) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = err
}

func (b *publishBus) set(f func(ctx context.Context, topic room.Name)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.before = f
}

func (b *publishBus) Publish(ctx context.Context, topic room.Name, data []byte) error {
	b.mu.Lock()
	f, err := b.before, b.err
	b.mu.Unlock()
	if f != nil {
		f(ctx, topic)
	}
	if err != nil {
		return err
	}
	return b.Bus.Publish(ctx, topic, data)
}

// The repeats of a frame count from the end of its publication. So they are not used up while the
// engine blocks.
func TestRepeatsAfterBlockedPublication(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := sharedMemory()
		bus, deaf := &publishBus{Bus: log}, &lossyBus{Bus: log}
		a, b := openNode(t, bus), openNode(t, deaf)
		time.Sleep(2 * time.Second)
		bob := b.join("lobby", "bob", hub.Lease{}, "")
		time.Sleep(time.Minute)
		deaf.change(func() { deaf.deaf = true })
		var once sync.Once
		bus.set(func(_ context.Context, topic room.Name) {
			if topic == "lobby" {
				once.Do(func() { time.Sleep(2500 * time.Millisecond) })
			}
		})
		a.join("lobby", "alice", hub.Lease{}, "")
		time.Sleep(2550 * time.Millisecond)
		deaf.change(func() { deaf.deaf = false })
		bob.take()
		time.Sleep(500 * time.Millisecond)
		bob.expect("join user count:2")
	})
}

// announcedAfter sends message 1 to the lobby of a node on the bus, calls f, and returns after
// which times the message is announced within 5 s.
func announcedAfter(t *testing.T, bus *publishBus, f func(a *node), change ...func(*hub.Config)) []time.Duration {
	t.Helper()
	a, _ := openShared(t, bus, append([]func(*hub.Config){withoutGrace(1)}, change...)...)
	time.Sleep(2 * time.Second)
	var mu sync.Mutex // guards after
	var after []time.Duration
	start := time.Now()
	cancel, err := bus.Bus.Subscribe("lobby", backplane.Handler{Message: func(frame []byte) {
		if text := string(frame); strings.Contains(text, `"acked":[1]`) || strings.Contains(text, `"acked":[1,`) {
			mu.Lock()
			defer mu.Unlock()
			after = append(after, time.Since(start))
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer cancel()
	a.send("lobby", "alice", "1")
	f(a)
	time.Sleep(time.Until(start.Add(5 * time.Second)))
	mu.Lock()
	defer mu.Unlock()
	return after
}

// Two announcements of a message are published 1 s apart, even if publications block or fail, or
// the room is evicted meanwhile.
func TestAnnouncementsOfSlowPublications(t *testing.T) {
	evict := func(a *node) {
		time.Sleep(500 * time.Millisecond)
		if a.join("den", "carol", hub.Lease{}, ""); a.RoomOf("lobby") != nil {
			t.Error("the lobby was not evicted")
		}
	}
	for _, test := range []struct {
		name string
		slow time.Duration // of each publication
		once time.Duration // of the first publication
		fail bool          // until 1.4 s after the message
		do   func(a *node)
		want string
	}{
		{"slow, and messages follow", 60 * time.Millisecond, 0, false, func(a *node) {
			for range 30 {
				a.send("lobby", "alice", "2")
				time.Sleep(50 * time.Millisecond)
			}
		}, "[60ms 1.1"},
		{"blocked", 0, 1900 * time.Millisecond, false, func(*node) {}, "[1.9s 2.9s]"},
		{"blocked during an eviction", 0, 1900 * time.Millisecond, false, evict, "[1.9s 2.9s]"},
		{"failing", 0, 0, true, func(*node) {}, "[2s 3s]"},
		{"failing during an eviction", 0, 0, true, evict, "[2s 3s]"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				bus := &publishBus{Bus: sharedMemory()}
				var once sync.Once
				bus.set(func(_ context.Context, topic room.Name) {
					if topic == "lobby" {
						time.Sleep(test.slow)
						once.Do(func() { time.Sleep(test.once) })
					}
				})
				if test.fail {
					time.AfterFunc(1900*time.Millisecond, func() { bus.fail(errors.New("no server")) }) // before the message is sent
					time.AfterFunc(3400*time.Millisecond, func() { bus.fail(nil) })
				}
				got := announcedAfter(t, bus, test.do)
				if !strings.HasPrefix(fmt.Sprint(got), test.want) {
					t.Errorf("announced after %v, want %s", got, test.want)
				}
			})
		})
	}
}

// A node that shuts down announces all its messages twice. It waits for those in flight.
func TestAnnouncementsAtShutdown(t *testing.T) {
	for _, test := range []struct {
		name    string
		late    time.Duration // of the answer of the log
		evicted bool
	}{{"log that answers", 0, false}, {"log that answers late", 700 * time.Millisecond, false}, {"evicted room", 0, true}} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := sharedMemory()
				a, sender := openShared(t, log, withoutGrace(1))
				b, bus := openShared(t, log)
				time.Sleep(2 * time.Second)
				bob := b.join("lobby", "bob", hub.Lease{}, "")
				time.Sleep(time.Minute)
				bob.take()
				var announced atomic.Int32
				cancel, err := log.Subscribe("lobby", backplane.Handler{Message: func(frame []byte) {
					if strings.Contains(string(frame), `"acked":[`) {
						announced.Add(1)
					}
				}})
				if err != nil {
					t.Fatal(err)
				}
				defer cancel()
				sender.answerLate(test.late)
				bus.silently(func() { go a.send("lobby", "alice", "1") })
				if test.evicted {
					if a.join("den", "carol", hub.Lease{}, ""); a.RoomOf("lobby") != nil {
						t.Fatal("the lobby was not evicted")
					}
				}
				if err := a.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				if got := announced.Load(); got != 2 {
					t.Errorf("announced %d times, want 2", got)
				}
				time.Sleep(time.Second)
				bob.expect("message:1")
			})
		})
	}
}

// A node that shuts down also announces the messages of evicted rooms if many other rooms wait, and
// if the first publication of the shutdown fails.
func TestManyAnnouncementsAtShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := &publishBus{Bus: sharedMemory()}
		got := announcedAfter(t, bus, func(a *node) {
			synctest.Wait()
			for i := range 1001 {
				a.send(fmt.Sprint("room-", i), "alice", "1")
			}
			if a.RoomOf("lobby") != nil {
				t.Error("the lobby was not evicted")
			}
			synctest.Wait()
			bus.fail(errors.New("no server"))
			bus.set(func(context.Context, room.Name) { bus.fail(nil) }) // the call that sets it has failed
			if err := a.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}, func(c *hub.Config) { c.MaxRooms = 1001 })
		if len(got) != 2 {
			t.Errorf("announced after %v, want twice", got)
		}
	})
}

// A message that has not arrived when its node shuts down releases its slot: openNode checks it.
func TestShutdownWithoutEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, bus := openShared(t, sharedMemory())
		a.join("lobby", "alice", hub.Lease{}, "")
		bus.set(func() { bus.holds, bus.err = true, errors.New("no leader") })
		a.send("lobby", "alice", "1")
		start := time.Now()
		if err := a.Close(t.Context()); err != nil || time.Since(start) != 2*time.Second {
			t.Errorf("got %v after %v, want success after 2 s", err, time.Since(start))
		}
	})
}

// stopRig is a node whose process can be stopped, and another node, on one simulated engine.
type stopRig struct {
	*node
	other *node
	bus   *publishBus
	sim   *simBus
	clock *simClock
}

func inStopRig(t *testing.T, f func(r *stopRig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		rnd := rand.New(rand.NewPCG(1, 2))
		e := newSimEngine(rnd, nil)
		defer e.close()
		r := &stopRig{clock: newSimClock(rnd, 0)}
		r.sim = e.handle("A", r.clock)
		r.bus = &publishBus{Bus: r.sim}
		r.node = newNode(t, r.bus, func(c *hub.Config) { c.Clock, c.MaxRooms = r.clock, 100 })
		defer r.end()
		clock := newSimClock(rnd, 0)
		r.other = newNode(t, e.handle("B", clock), func(c *hub.Config) { c.Clock = clock })
		defer r.other.end()
		time.Sleep(2 * time.Second)
		f(r)
	})
}

// stop stops the process for a time.
func (r *stopRig) stop(d time.Duration) {
	r.clock.freeze()
	r.sim.freeze()
	time.Sleep(d)
	r.clock.thaw()
	r.sim.thaw()
}

// A process that was stopped counts no live node as dead, and is not cut off, even if it was
// stopped while it published a frame.
func TestStopDuringPublication(t *testing.T) {
	for _, topic := range []room.Name{backplane.Nodes, "lobby"} {
		for _, d := range []time.Duration{1700 * time.Millisecond, 2900 * time.Millisecond, 4500 * time.Millisecond, 20 * time.Second} {
			t.Run(fmt.Sprint(topic, d), func(t *testing.T) {
				inStopRig(t, func(r *stopRig) {
					bob := r.join("lobby", "bob", hub.Lease{}, "")
					r.other.join("lobby", "alice", hub.Lease{}, "")
					time.Sleep(1200 * time.Millisecond)
					bob.take()
					var stopped atomic.Bool
					r.bus.set(func(_ context.Context, to room.Name) {
						if to == topic && stopped.CompareAndSwap(false, true) {
							r.stop(d)
						}
					})
					time.Sleep(d + 5*time.Second)
					if !stopped.Load() {
						t.Fatalf("no publication to %q in %v", topic, d)
					}
					bob.expect("")
					if s := r.Stats(); s.Peers != 1 || s.CutOff {
						t.Errorf("got %d peers, cut off %v; want 1, false", s.Peers, s.CutOff)
					}
				})
			})
		}
	}
}

// A node whose publications block still finds in time that a peer has died and that it is cut off,
// and counts no peer as dead whose frames arrive.
func TestBlockedPublications(t *testing.T) {
	inStopRig(t, func(r *stopRig) {
		bob := r.join("lobby", "bob", hub.Lease{}, "")
		r.other.join("lobby", "alice", hub.Lease{}, "")
		time.Sleep(time.Second)
		bob.take()
		r.bus.set(func(ctx context.Context, _ room.Name) { <-ctx.Done() })
		for i := range 30 { // each has a frame, which blocks for 2 s
			r.join(fmt.Sprint("room-", i), "bob", hub.Lease{}, "")
		}
		start := time.Now()
		time.Sleep(10 * time.Second)
		bob.expect("")
		if s := r.Stats(); s.Peers != 1 || !s.CutOff {
			t.Errorf("while the peer lives: got %d peers, cut off %v; want 1, true", s.Peers, s.CutOff)
		}
		r.sim.cut()
		time.Sleep(3900 * time.Millisecond)
		bob.expect("")
		time.Sleep(1200 * time.Millisecond)
		bob.expect("leave user count:1")
		if d := time.Since(start); d > 30*time.Second {
			t.Fatalf("the publications have ended after %v", d)
		}
		r.sim.mend()
		r.bus.set(nil)
		time.Sleep(5 * time.Second)
		bob.expect("join user count:2")
	})
}
