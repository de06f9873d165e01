package hub_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/internal/hub"
	"example.com/presence/pkg/presence/room"
)

// repairing opens two nodes of a cluster and a client of the second one, and loses message 1 there.
func repairing(t *testing.T) (log *backplane.Memory, a, b *node, bus *clusterBus, bob *fakeClient) {
	log = sharedMemory()
	a, _ = openShared(t, log)
	b, bus = openShared(t, log)
	bob = b.join("lobby", "bob", hub.Lease{}, "")
	b.idle()
	a.send("lobby", "alice", "0")
	bob.take()
	bus.silently(func() { a.send("lobby", "alice", "1") })
	bus.takeReads()
	return log, a, b, bus, bob
}

// If the read of a gap fails, the room tries again, and holds back new messages meanwhile.
func TestRepairTriesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b, bus, bob := repairing(t)
		bus.set(func() { bus.err = errors.New("no leader") })
		bus.interrupt()
		a.send("lobby", "alice", "2")
		time.Sleep(3700 * time.Millisecond)
		if got := bob.take(); got != "" {
			t.Errorf("while the log fails: got %q, want no event", got)
		}
		if reads := bus.takeReads(); reads != 4 { // after 0, 0.25, 0.75 and 1.75 s
			t.Errorf("got %d reads in 3.7 s, want 4", reads)
		}
		bus.set(func() { bus.err = nil })
		time.Sleep(50 * time.Millisecond)
		if got := bob.take(); got != "message:1 message:2" {
			t.Errorf("after 3.75 s: got %q, want both messages", got)
		}
		a.send("lobby", "alice", "3")
		if got := bob.take(); got != "message:3" {
			t.Errorf("after the repair: got %q", got)
		}
		b.idle()
	})
}

// A read that takes longer than the opening of a room is not given up.
func TestRepairOverSlowNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, _, bus, bob := repairing(t)
		bus.set(func() { bus.delay = 3200 * time.Millisecond })
		bus.interrupt()
		a.send("lobby", "alice", "2")
		time.Sleep(3300 * time.Millisecond)
		if got := bob.take(); got != "message:1 message:2" {
			t.Errorf("after 3.3 s: got %q, want both messages", got)
		}
		if reads := bus.takeReads(); reads != 1 {
			t.Errorf("got %d reads, want 1", reads)
		}
	})
}

// After an interruption, many rooms read their gaps, 48 at a time. The time for which a room waits
// for its turn does not count: it tries again after its first failure.
func TestRepairWaitsForTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := sharedMemory()
		many := func(c *hub.Config) { c.MaxRooms = 500 }
		a, _ := openShared(t, log, many)
		b, bus := openShared(t, log, many)
		clients := map[string]*fakeClient{}
		for i := range 400 {
			name := fmt.Sprint("room-", i)
			clients[name] = b.join(name, fmt.Sprint("user-", i), hub.Lease{}, "")
		}
		b.idle()
		for name, c := range clients {
			a.send(name, "alice-"+name, "0")
			c.take()
			bus.silently(func() { a.send(name, "alice-"+name, "1") })
		}
		bus.set(func() { bus.delay = time.Second })
		bus.interrupt()
		time.Sleep(6500 * time.Millisecond)
		bus.set(func() { bus.err = errors.New("no leader") })
		time.Sleep(time.Second)
		bus.set(func() { bus.err = nil })
		time.Sleep(30 * time.Second)
		for name, c := range clients {
			if got := c.messages(); got != "message:1" {
				t.Errorf("%s: got %q, want the message", name, got)
			}
		}
	})
}

// If the reads fail for 6 s while the engine is connected, every client receives reset and the
// messages that were held back.
func TestRepairGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, _, bus, bob := repairing(t)
		bus.set(func() { bus.err = errors.New("no leader") })
		bus.interrupt()
		a.send("lobby", "alice", "2")
		time.Sleep(5700 * time.Millisecond)
		if got := bob.take(); got != "" {
			t.Errorf("after 5.7 s: got %q, want no event", got)
		}
		time.Sleep(2300 * time.Millisecond)
		if got := bob.take(); got != resetText+" message:2" {
			t.Errorf("after 8 s: got %q, want reset and message 2", got)
		}
	})
}

// While the engine is not connected, the room waits without end. It does not call the engine. When
// the subscription is interrupted again, the room reads at once.
func TestRepairWaitsForConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b, bus, bob := repairing(t)
		bus.set(func() { bus.off = true })
		bus.interrupt()
		time.Sleep(50 * time.Second)
		a.send("lobby", "alice", "2")
		dave := b.join("lobby", "dave", hub.Lease{}, "")
		if got := dave.take(); !strings.HasPrefix(got, "sync") {
			t.Errorf("new client: got %q, want sync first", got)
		}
		if got, reads := bob.messages(), bus.takeReads(); got != "" || reads != 0 {
			t.Errorf("while not connected: got %q and %d reads, want neither", got, reads)
		}
		bus.set(func() { bus.off = false })
		a.send("lobby", "alice", "3")
		bus.interrupt()
		if got := bob.messages(); got != messages(1, 3) {
			t.Errorf("when connected: got %q", got)
		}
	})
}

// If more messages than Config.RingMessages are held back, every client receives reset and these
// messages.
func TestRepairHoldsTooMuch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b, bus, bob := repairing(t)
		bus.set(func() { bus.err = errors.New("no leader") })
		bus.interrupt()
		for i := range 100 {
			a.send("lobby", "alice", fmt.Sprint(i+2))
		}
		if got := bob.take(); got != "" {
			t.Errorf("100 messages held back: got %q, want no event", got)
		}
		a.send("lobby", "alice", "102")
		if got := bob.take(); got != resetText+" "+messages(2, 102) {
			t.Errorf("101 messages held back: got %q, want reset and the messages", got)
		}
		bus.set(func() { bus.err = nil })
		b.idle()
	})
}

// A result that ends before the held messages is too old: entries between the two may be missing.
func TestRepairWithOldResult(t *testing.T) {
	for _, again := range []bool{false, true} {
		t.Run(fmt.Sprintf("interrupted again %v", again), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, a, _, bus, bob := repairing(t)
				bus.stop("lobby")
				bus.silently(func() { a.send("lobby", "alice", "2") })
				bus.set(func() { bus.delay = 50 * time.Millisecond })
				bus.interrupt()
				a.send("lobby", "alice", "3")
				if again {
					bus.interrupt()
				}
				time.Sleep(200 * time.Millisecond)
				bus.set(func() { bus.stale = false })
				time.Sleep(time.Second)
				if got := bob.take(); got != messages(1, 3) {
					t.Errorf("got %q, want all messages", got)
				}
			})
		})
	}
}

// A result that is not complete is checked a second time, because the log may be older than the
// room.
func TestRepairWithOldLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b, bus, bob := repairing(t)
		bus.interrupt()
		b.idle()
		bus.stop("lobby")
		a.send("lobby", "alice", "2")
		bus.interrupt()
		time.Sleep(200 * time.Millisecond)
		bus.set(func() { bus.stale = false })
		time.Sleep(time.Second)
		if got := bob.take(); got != messages(1, 2) {
			t.Errorf("got %q, want both messages and no reset", got)
		}
	})
}

// If the log has lost the announced messages, the clients receive one reset, and the room does not
// read again.
func TestAnnouncedMessagesRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b, bus, bob := repairing(t)
		var id string
		bus.silently(func() { id = a.send("lobby", "alice", "2") })
		if err := a.clear("lobby"); err != nil {
			t.Fatal(err)
		}
		b.announce(id)
		time.Sleep(time.Hour)
		if got, reads := bob.take(), bus.takeReads(); got != resetText || reads != 2 {
			t.Errorf("got %q and %d reads, want one reset and 2 reads", got, reads)
		}
		if got := b.join("lobby", "carol", hub.Lease{}, id).take(); strings.Contains(got, "reset") {
			t.Errorf("client with the last id: got %q, want no reset", got)
		}
	})
}

// A log that was recreated may have lost its first messages. The ring does not claim to have them.
func TestRingOfRecreatedLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, a, b, bus, bob := repairing(t)
		bus.set(func() { bus.loses = true })
		log.Recreate()
		ids := a.sendMany(150) // the log keeps 100
		bus.set(func() { bus.loses = false })
		bus.interrupt()
		b.idle()
		if got := bob.messages(); !strings.HasPrefix(got, resetText) || !strings.HasSuffix(got, messages(51, 150)) {
			t.Errorf("got %q, want reset and the kept messages", got)
		}
		b.resumes(ids[9], resetText)
		b.resumes(ids[99], messages(101, 150))
	})
}

// A room that is opened while the node is cut off admits clients at once. At the first contact,
// they receive reset, and then every later message.
func TestRoomOpenedWithoutEngine(t *testing.T) {
	for _, never := range []bool{false, true} {
		t.Run(fmt.Sprintf("never connected %v", never), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := sharedMemory()
				a, _ := openShared(t, log)
				epochs := &epochBus{Bus: log, epoch: log.Status().Epoch}
				if never {
					epochs.epoch = ""
				}
				b, bus := openShared(t, epochs)
				a.join("lobby", "alice", hub.Lease{}, "")
				id := a.send("lobby", "alice", "1")
				bus.set(func() { bus.off = true })
				start := time.Now()
				bob := b.join("lobby", "bob", hub.Lease{}, id)
				if took := time.Since(start); took > 0 {
					t.Errorf("join while cut off took %v", took)
				}
				before := bob.take()
				a.send("lobby", "alice", "2")
				time.Sleep(time.Minute)
				bus.set(func() { bus.off = false })
				epochs.change(log.Status().Epoch)
				synctest.Wait()
				id = a.send("lobby", "alice", "3")
				// A frame of the other node may begin a flush interval before the join: bob then is
				// admitted at its end. The part of that node arrives as a change, or in a pull that
				// replaces all members.
				want := regexp.MustCompile("^" + regexp.QuoteMeta(resetText) + "( sync user count:1)? (sync|join) user count:2 " + regexp.QuoteMeta(resetText) + " message:3$")
				if got := before + " " + bob.take(); !want.MatchString(got) {
					t.Errorf("got %q, want %s", got, want)
				}
				b.resumes(id, "")
				b.idle()
			})
		})
	}
}

// If the log does not have all messages of a gap, the reset has the position before those that
// follow. A client that resumes with it has lost nothing more.
func TestPositionOfReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := backplane.NewMemory(backplane.MemoryConfig{Messages: 3, Age: time.Minute, Bytes: 1 << 20, Shared: true})
		a, _ := openShared(t, log)
		b, bus := openShared(t, log)
		a.join("lobby", "alice", hub.Lease{}, "")
		bob := b.join("lobby", "bob", hub.Lease{}, "")
		time.Sleep(5 * time.Second)
		bob.take()
		var ids []string
		bus.silently(func() {
			for i := range 5 {
				ids = append(ids, a.send("lobby", "alice", fmt.Sprint(i)))
			}
		})
		bus.interrupt()
		time.Sleep(5 * time.Second)
		bob.mu.Lock()
		text := string(bob.text)
		bob.mu.Unlock()
		if want := "id: " + ids[1] + "\ndata: {\"reason\":\"history\"}\nevent: reset\n"; !strings.HasPrefix(text, want) {
			t.Errorf("got %q, want %q first", text, want)
		}
		if got := bob.take(); got != resetText+" message:2 message:3 message:4" {
			t.Errorf("got %q, want reset and the messages that the log has", got)
		}
		b.resumes(ids[1], messages(2, 4))
	})
}

// A position that is older than the messages that arrive does not count: messages between the two
// may be missing.
func TestRoomOpenedWithOldPosition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := sharedMemory()
		a, _ := openShared(t, log)
		a.join("lobby", "alice", hub.Lease{}, "")
		id := a.send("lobby", "alice", "1")
		b, bus := openShared(t, log)
		bus.set(func() { bus.err = errors.New("no leader") })
		bob := b.join("lobby", "bob", hub.Lease{}, "")
		time.Sleep(time.Second)
		bob.take()
		bus.stop("lobby")
		bus.silently(func() { a.send("lobby", "alice", "2") })
		a.send("lobby", "alice", "3")
		bus.set(func() { bus.err = nil })
		time.Sleep(2 * time.Second)
		bus.set(func() { bus.stale = false })
		if got := bob.take(); got != resetText+" message:3" {
			t.Errorf("got %q, want reset and message 3", got)
		}
		b.resumes(id, messages(2, 3))
	})
}

// A message may arrive while the room is opened. If the position that the room reads afterwards is
// older, the room stays at the message.
func TestRoomOpenedAtMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := sharedMemory()
		a, _ := openShared(t, log)
		b, bus := openShared(t, log)
		time.Sleep(2 * time.Second)
		a.send("lobby", "alice", "0")
		bus.stop("lobby")
		bus.set(func() { bus.err, bus.delay = errors.New("no leader"), 100*time.Millisecond })
		time.AfterFunc(50*time.Millisecond, func() { a.send("lobby", "alice", "1") })
		time.AfterFunc(1500*time.Millisecond, func() { bus.set(func() { bus.err = nil }) })
		bob := b.join("lobby", "bob", hub.Lease{}, "")
		time.Sleep(2 * time.Second)
		id := room.Position{Epoch: log.Status().Epoch, Seq: a.lastOf("lobby")}.String()
		bob.mu.Lock()
		text := string(bob.text)
		bob.mu.Unlock()
		if want := "id: " + id + "\ndata: {\"reason\":\"history\"}\nevent: reset\n"; !strings.Contains(text, want) {
			t.Errorf("got %q, want it to contain %q", text, want)
		}
		if got := bob.take(); got != "sync user count:1 "+resetText {
			t.Errorf("got %q, want one reset and no message", got)
		}
	})
}

// If the log still fails at the first contact, the room starts with the messages that arrive.
func TestRoomOpenedWithoutLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := sharedMemory()
		a, _ := openShared(t, log)
		b, bus := openShared(t, log, func(c *hub.Config) { c.RingMessages = 2 })
		bus.set(func() { bus.err = errors.New("no leader") })
		bob := b.join("lobby", "bob", hub.Lease{}, "")
		bus.silently(func() { a.send("lobby", "alice", "1") })
		id := a.lastOf("lobby")
		time.Sleep(30 * time.Second)
		bob.take()
		bus.silently(func() { a.send("lobby", "alice", "2") })
		for i := range 3 {
			a.send("lobby", "alice", fmt.Sprint(i+3))
		}
		if got := bob.take(); got != resetText+" "+messages(3, 5) {
			t.Errorf("got %q, want reset and the messages", got)
		}
		bus.set(func() { bus.err = nil })
		b.resumes(room.Position{Epoch: log.Status().Epoch, Seq: id}.String(), messages(2, 5))
	})
}

// Close ends a repair that waits for the engine.
func TestCloseDuringRepair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, b, bus, _ := repairing(t)
		bus.set(func() { bus.off = true })
		bus.interrupt()
		time.Sleep(time.Minute)
		start := time.Now()
		b.Close(context.Background())
		if took := time.Since(start); took > time.Second {
			t.Errorf("Close took %v", took)
		}
	})
}

// A node may announce a position that the log has not reached, while the log has removed messages
// that a room lacks. The room gets the messages that the log still has, and every later one.
func TestUnknownPositionAfterRemoval(t *testing.T) {
	for _, test := range []struct {
		name  string
		clear bool
		lasts error // returned by the first calls of Last
		want  string
	}{
		{"part of the gap", false, nil, resetText + " " + messages(11, 110)},
		{"the whole gap", true, nil, resetText},
		{"the whole gap, Last fails", true, errors.New("no leader"), resetText},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := sharedMemory()
				a, _ := openShared(t, log)
				fails := 0
				b, bus := openShared(t, &hookedBus{Bus: log, last: func() (uint64, error) {
					if fails--; fails >= 0 {
						return 0, test.lasts
					}
					return log.Last(t.Context(), "lobby")
				}})
				bob := b.join("lobby", "bob", hub.Lease{}, "")
				b.idle()
				bob.take()
				bus.takeReads()
				bus.silently(func() { a.sendMany(110) }) // the log keeps 100
				if test.lasts != nil {
					fails = 3
				}
				if test.clear {
					if err := a.clear("lobby"); err != nil {
						t.Fatal(err)
					}
				}
				p := room.Position{Epoch: log.Status().Epoch, Seq: math.MaxUint64}
				for range 20 {
					b.announce(p.String())
					time.Sleep(time.Minute)
				}
				if got, reads := bob.messages(), bus.takeReads(); got != test.want || reads > 22 {
					t.Errorf("got %q and %d reads, want %q and at most 22 reads", got, reads, test.want)
				}
				id := a.send("lobby", "alice", "111")
				if got := bob.messages(); got != messages(111, 111) {
					t.Errorf("later message: got %q", got)
				}
				b.resumes(id, "")
			})
		})
	}
}

// A node that has contact asks the log again while it opens a room. Its first clients receive no
// reset if the log answers within 1 s.
func TestRoomOpenedAtSlowLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := sharedMemory()
		a, _ := openShared(t, log)
		b, bus := openShared(t, log)
		time.Sleep(2 * time.Second)
		id := a.send("lobby", "alice", "0")
		bus.set(func() { bus.err = errors.New("no leader") })
		time.AfterFunc(700*time.Millisecond, func() { bus.set(func() { bus.err = nil }) })
		bob := b.join("lobby", "bob", hub.Lease{}, "")
		time.Sleep(time.Second)
		if got := bob.take(); got != "sync user count:1" || bob.view.position != id {
			t.Errorf("got %q with the id %s, want no reset and %s", got, bob.view.position, id)
		}
	})
}
