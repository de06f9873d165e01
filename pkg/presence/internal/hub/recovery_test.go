package hub_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/internal/hub"
	"example.com/presence/pkg/presence/internal/stream"
	"example.com/presence/pkg/presence/room"
)

// appendAs appends a message to the log as if another node had sent it.
func appendAs(t *testing.T, bus backplane.Bus, name room.Name, data string) {
	t.Helper()
	if _, _, err := bus.Append(t.Context(), name, "", []byte("1 another 1 0 message\n\"data\":"+data)); err != nil {
		t.Error(err)
	}
}

// If the subscription notices a new log after the log's first messages, the clients receive one
// reset and then those messages. There is only one reset even if the log no longer contains all of
// them.
func TestNewEpochWithMessages(t *testing.T) {
	for _, cleared := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			bus := &epochBus{Bus: memory(), epoch: "00000000aa"}
			n := openNode(t, bus)
			alice := n.join("lobby", "alice", hub.Lease{}, "")
			time.Sleep(time.Second)
			if cleared {
				n.send("lobby", "alice", "0")
				if err := n.clear("lobby"); err != nil {
					t.Fatal(err)
				}
			}
			alice.take()
			bus.mu.Lock()
			bus.lossy = true
			bus.mu.Unlock()
			appendAs(t, bus, "lobby", "1")
			bus.mu.Lock()
			bus.lossy = false
			bus.mu.Unlock()
			bus.change("00000000bb")
			n.send("lobby", "alice", "2")
			if got := alice.take(); got != `reset:{"reason":"history"} message:1 message:2` {
				t.Errorf("got %q", got)
			}
		})
	}
}

// A subscription may call Lost while the room is being opened. No client receives reset, and the
// messages after the position of the room are read from the log.
func TestLostDuringOpening(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := memory()
		bus := &hookedBus{Bus: mem}
		slow := &slowBus{Bus: bus}
		n := openNode(t, slow)
		for range 200 { // more messages than the log keeps
			appendAs(t, mem, "lobby", "0")
		}
		bus.last = func() (uint64, error) {
			bus.last = nil
			mem.Lose(func() {})
			last, err := mem.Last(t.Context(), "lobby")
			mem.Lose(func() { appendAs(t, mem, "lobby", "1") })
			return last, err
		}
		slow.set(time.Second, false)
		alice := n.join("lobby", "alice", hub.Lease{}, "")
		time.Sleep(2 * time.Second)
		if got := alice.take(); strings.Contains(got, "reset") || strings.Count(got, "message:1") != 1 {
			t.Errorf("got %q", got)
		}
	})
}

// A joiner waits at most 2 s for a log that does not respond. Then it receives reset.
func TestJoinWithoutLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := openNode(t, hungBus{memory()})
		n.join("lobby", "alice", hub.Lease{}, "")
		first := n.send("lobby", "alice", "0")
		n.send("lobby", "alice", "1")
		start := time.Now()
		bob := n.join("lobby", "bob", hub.Lease{}, first)
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("the join took %v, want at most 2s", took)
		}
		time.Sleep(time.Second)
		if got := bob.take(); !strings.HasPrefix(got, `reset:{"reason":"history"} sync`) {
			t.Errorf("got %q", got)
		}
	})
}

// hungBus is a Bus whose Read returns only when its context ends, or after a minute.
type hungBus struct{ backplane.Bus }

func (b hungBus) Read(ctx context.Context, _ room.Name, _ uint64) ([]backplane.Entry, bool, error) {
	select {
	case <-ctx.Done():
	case <-time.After(time.Minute):
	}
	return nil, false, errors.Join(backplane.ErrUnavailable, ctx.Err())
}

// If clients resume continuously from a log that takes one second per read, the room keeps the
// recent messages of about one second, not all messages.
func TestMessagesForResumersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &slowBus{Bus: memory()}
		n := openNode(t, slow)
		n.join("lobby", "alice", hub.Lease{}, "")
		before := n.send("lobby", "alice", "0")
		last := n.send("lobby", "alice", "0")
		var resumed sync.WaitGroup
		most := 0
		for i := range 60 {
			slow.set(time.Second, i%2 == 0)
			resumed.Go(func() {
				bob := n.join("lobby", "bob", hub.Lease{}, before)
				bob.mu.Lock()
				if strings.Contains(string(bob.text), "reset") {
					t.Errorf("bob got %q, want no reset", bob.text)
				}
				bob.mu.Unlock()
				bob.Drop(stream.Closed)
			})
			synctest.Wait()
			slow.set(0, false)
			for range 10 {
				time.Sleep(50 * time.Millisecond)
				before, last = last, n.send("lobby", "alice", "1")
				most = max(most, n.Recent("lobby"))
			}
		}
		resumed.Wait()
		time.Sleep(time.Second)
		if most < 20 || most > 60 { // 20 are sent per second, and up to half of the kept ones may be obsolete
			t.Errorf("the room kept %d messages, want 20 to 60", most)
		}
		if n := n.Recent("lobby"); n != 0 {
			t.Errorf("the room keeps %d messages after the last client has resumed, want 0", n)
		}
	})
}

// Kick returns after the user was removed, even if another goroutine applies the ban.
func TestKickWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := &hookedBus{Bus: memory(), row: func(deliver func()) {
			go deliver()
			time.Sleep(time.Millisecond) // let deliver start
		}}
		busy := make(chan struct{}, 1) // while it is full, the room blocks
		n := openNode(t, bus, func(c *hub.Config) {
			c.Count = func(r *room.Room) int {
				busy <- struct{}{}
				<-busy
				return r.Connections()
			}
		})
		n.join("lobby", "alice", hub.Lease{}, "")
		n.join("lobby", "bob", hub.Lease{}, "", func(c *fakeClient) { c.stalls = 10 * time.Second })
		time.Sleep(time.Second)
		busy <- struct{}{}
		kicked := make(chan error, 1)
		go func() { kicked <- n.Kick(t.Context(), "lobby", "bob", time.Minute) }()
		time.Sleep(500 * time.Millisecond)
		select {
		case err := <-kicked:
			t.Errorf("Kick returned before the user was removed: %v", err)
			<-busy
		default:
			<-busy
			if err := <-kicked; err != nil {
				t.Error(err)
			}
		}
	})
}

// If the replays of stalled clients exceed the limit many times over, a single review disconnects
// enough of them to meet the limit.
func TestReplaysFarAboveLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := openNode(t, copyingBus{memory()}, func(c *hub.Config) { c.MaxReplay = 100 << 10 })
		n.LimitReplays(0)
		n.join("lobby", "alice", hub.Lease{}, "")
		first := n.send("lobby", "alice", "0")
		n.send("lobby", "alice", `"`+strings.Repeat("x", 50<<10)+`"`)
		var held []*fakeClient
		for i := range 16 {
			user := fmt.Sprint("bob", i%4)
			held = append(held, n.join("lobby", user, hub.Lease{}, first, func(c *fakeClient) { c.holds = true; c.stalled.Store(true) }))
		}
		time.Sleep(time.Second)
		if got := 16 - countEnded(held); got != 3 {
			t.Errorf("%d replays of 50 KiB continue, want 3 under the limit of twice 100 KiB", got)
		}
	})
}

// copyingBus returns a copy of each entry, like an engine whose log is in another process.
type copyingBus struct{ backplane.Bus }

func (b copyingBus) Read(ctx context.Context, name room.Name, after uint64) ([]backplane.Entry, bool, error) {
	entries, complete, err := b.Bus.Read(ctx, name, after)
	for i := range entries {
		entries[i].Data = append([]byte(nil), entries[i].Data...)
	}
	return entries, complete, err
}
