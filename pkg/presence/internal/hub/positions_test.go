package hub_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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

const resetText = `reset:{"reason":"history"}`

// announce passes the position with this id to the node, as another node would.
func (n *node) announce(id string) {
	n.t.Helper()
	p, ok := room.ParsePosition(id)
	if !ok {
		n.t.Fatalf("bad id %q", id)
	}
	n.Announce("lobby", p)
}

// idle waits until the checks after the opening of a room are over.
func (n *node) idle() {
	time.Sleep(3 * time.Second)
	synctest.Wait()
}

// A room that lacks an announced position after 250 ms reads the log. It does not send reset.
func TestAnnouncedPosition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := sharedMemory()
		a, _ := openShared(t, log)
		b, bus := openShared(t, log)
		bob := b.join("lobby", "bob", hub.Lease{}, "")
		b.idle()
		bob.take()
		bus.takeReads()

		var id string
		bus.silently(func() { a.send("lobby", "alice", "1"); id = a.send("lobby", "alice", "2") })
		b.announce(id)
		time.Sleep(240 * time.Millisecond)
		if got, reads := bob.take(), bus.takeReads(); got != "" || reads != 0 {
			t.Errorf("before 250 ms: got %q and %d reads, want neither", got, reads)
		}
		time.Sleep(10 * time.Millisecond)
		if got, reads := bob.take(), bus.takeReads(); got != "message:1 message:2" || reads != 1 {
			t.Errorf("after 250 ms: got %q and %d reads, want both messages and 1 read", got, reads)
		}

		bus.set(func() { bus.holds = true })
		b.announce(a.send("lobby", "alice", "3"))
		time.Sleep(200 * time.Millisecond)
		bus.release()
		b.idle()
		if got, reads := bob.take(), bus.takeReads(); got != "message:3" || reads != 0 {
			t.Errorf("entry delivered within 250 ms: got %q and %d reads, want the message and no read", got, reads)
		}
		b.announce("0000000000-9999")
		b.idle()
		if reads := bus.takeReads(); reads != 0 {
			t.Errorf("announcement of another epoch: got %d reads, want 0", reads)
		}
	})
}

// A position that the log does not have is read a few times, and then ignored.
func TestAnnouncedPositionUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, bus := openShared(t, sharedMemory())
		bob := b.join("lobby", "bob", hub.Lease{}, "")
		id := b.send("lobby", "bob", "1")
		b.idle()
		bob.take()
		bus.takeReads()
		epoch, _, _ := strings.Cut(id, "-")
		b.announce(epoch + "-99")
		time.Sleep(time.Hour)
		if got, reads := bob.take(), bus.takeReads(); got != "" || reads != 8 {
			t.Errorf("got %q and %d reads, want no event and 8 reads", got, reads)
		}
		b.send("lobby", "bob", "2")
		if got := bob.take(); got != "message:2" {
			t.Errorf("got %q", got)
		}
	})
}

// If an entry is lost, and later ones are delivered, its announcement shows the loss: every client
// receives reset. The position of an entry that does not exist has no effect.
func TestEntryLostBeforeOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := sharedMemory()
		a, _ := openShared(t, log)
		b, bus := openShared(t, log)
		bob := b.join("lobby", "bob", hub.Lease{}, "")
		b.idle()
		first := a.send("lobby", "alice", "1")
		var lost string
		bus.silently(func() { lost = a.send("lobby", "alice", "2") })
		a.send("lobby", "alice", "3")
		b.announce(lost)
		time.Sleep(240 * time.Millisecond)
		if got := bob.take(); got != "sync user count:1 message:1 message:3" {
			t.Errorf("before 250 ms: got %q", got)
		}
		time.Sleep(20 * time.Millisecond)
		if got := bob.take(); got != resetText {
			t.Errorf("after 250 ms: got %q, want %q", got, resetText)
		}
		b.idle()
		b.announce(lost)
		b.idle()
		if got := bob.take(); got != "" {
			t.Errorf("second announcement: got %q, want no event", got)
		}
		if got := b.join("lobby", "carol", hub.Lease{}, first).take(); !strings.HasPrefix(got, "message:2 message:3 sync") {
			t.Errorf("client that resumes: got %q, want both messages", got)
		}
	})
}

// A position between two entries may be announced. It is compared with the log once.
func TestAnnouncedPositionWithoutEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &sparseBus{Bus: sharedMemory()}
		a, _ := openShared(t, log)
		b, bus := openShared(t, log)
		bob := b.join("lobby", "bob", hub.Lease{}, "")
		b.idle()
		a.send("lobby", "alice", "1")
		id := a.send("lobby", "alice", "2")
		bob.take()
		bus.takeReads()
		p, _ := room.ParsePosition(id)
		for range 3 {
			b.announce(room.Position{Epoch: p.Epoch, Seq: p.Seq - 1}.String())
			b.idle()
		}
		if got, reads := bob.take(), bus.takeReads(); got != "" || reads != 1 {
			t.Errorf("got %q and %d reads, want no event and 1 read", got, reads)
		}
	})
}

// A client may resume with an id that its new node has not reached. The node asks the log, waits
// for the entries, and does not send reset.
func TestIDAheadOfNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := sharedMemory()
		a, _ := openShared(t, log)
		b, bus := openShared(t, log)
		bob := b.join("lobby", "bob", hub.Lease{}, "")
		b.idle()
		bob.take()
		var id string
		bus.silently(func() { a.send("lobby", "alice", "1"); id = a.send("lobby", "alice", "2") })
		carol := b.join("lobby", "carol", hub.Lease{}, id)
		a.send("lobby", "alice", "3")
		if got := bob.take(); !strings.HasPrefix(got, "message:1 message:2") {
			t.Errorf("client of the room: got %q", got)
		}
		b.idle()
		if got := carol.take(); strings.Contains(got, "reset") || strings.Contains(got, "message:2") || strings.Count(got, "message:3") != 1 {
			t.Errorf("client that resumes: got %q, want only message 3", got)
		}

		p, _ := room.ParsePosition(id)
		p.Seq += 10
		start := time.Now()
		if got := b.join("lobby", "dave", hub.Lease{}, p.String()).take(); !strings.HasPrefix(got, resetText) {
			t.Errorf("id that the log does not have: got %q, want reset", got)
		}
		if took := time.Since(start); took > 300*time.Millisecond {
			t.Errorf("reset took %v, want at most 300 ms", took)
		}
		bus.set(func() { bus.off = true })
		if got := b.join("lobby", "erin", hub.Lease{}, p.String()).take(); !strings.HasPrefix(got, resetText) {
			t.Errorf("id ahead of a node that is cut off: got %q, want reset", got)
		}
		bus.set(func() { bus.off, bus.err = false, errors.New("no leader") })
		if got := b.join("lobby", "frank", hub.Lease{}, p.String()).take(); !strings.HasPrefix(got, resetText) {
			t.Errorf("id ahead of a log that fails: got %q, want reset", got)
		}
		bus.set(func() { bus.err = nil })
		if got := b.join("lobby", "grace", hub.Lease{}, "0000000000-1").take(); !strings.HasPrefix(got, resetText) {
			t.Errorf("id of another epoch: got %q, want reset", got)
		}
	})
}

// A log that is read from a copy may not have the client's id at once.
func TestIDAheadOfCopy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := sharedMemory()
		a, _ := openShared(t, log)
		b, bus := openShared(t, log)
		a.send("lobby", "alice", "1")
		b.join("lobby", "bob", hub.Lease{}, "")
		b.idle()
		bus.stop("lobby")
		var id string
		bus.silently(func() { id = a.send("lobby", "alice", "2") })
		time.AfterFunc(200*time.Millisecond, func() { bus.set(func() { bus.stale = false }) })
		carol := b.join("lobby", "carol", hub.Lease{}, id)
		if got := carol.take(); strings.Contains(got, "reset") {
			t.Errorf("got %q, want no reset", got)
		}
	})
}

// An engine may start a subscription late. The room compares itself with the log after its opening.
func TestLateSubscription(t *testing.T) {
	for _, later := range []bool{false, true} {
		t.Run(fmt.Sprintf("later message %v", later), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := sharedMemory()
				a, _ := openShared(t, log)
				deaf := &lossyBus{Bus: log}
				b, bus := openShared(t, deaf)
				time.Sleep(2 * time.Second)
				bob := b.join("lobby", "bob", hub.Lease{}, "")
				deaf.change(func() { deaf.deaf = true }) // so no announcement arrives
				bus.silently(func() { a.send("lobby", "alice", "1") })
				want := "sync user count:1 message:1"
				if later {
					a.send("lobby", "alice", "2")
					want = "sync user count:1 message:2 " + resetText
				}
				time.Sleep(300 * time.Millisecond)
				if got := bob.take(); got != want {
					t.Errorf("got %q, want %q", got, want)
				}
				bus.silently(func() { a.send("lobby", "alice", "3") })
				b.idle()
				if got := bob.take(); got != "message:3" && !later {
					t.Errorf("second check: got %q, want message 3", got)
				}
			})
		})
	}
}

// The checks after the opening of a room are a precaution. If the log fails, no client is sent
// reset, and messages are held back for 2 s at most.
func TestCheckThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, bus := openShared(t, sharedMemory())
		alice := n.join("lobby", "alice", hub.Lease{}, "")
		bus.set(func() { bus.err = errors.New("no leader") })
		n.idle()
		n.send("lobby", "alice", "1")
		if got := alice.take(); got != "sync user count:1 message:1" {
			t.Errorf("got %q", got)
		}
	})
}

// With a bus that only this node uses, a room has no ring and no timers for other nodes.
func TestNoLogCopyWithoutOtherNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := &stoppedClock{}
		n := openNode(t, memory(), withRings, func(c *hub.Config) { c.Clock = clock })
		n.send("lobby", "alice", "1")
		if n.KeepsLog("lobby") || clock.armed() != 1 {
			t.Errorf("got a copy of the log: %v, %d timers; want none, and the timer of the unused room", n.KeepsLog("lobby"), clock.armed())
		}
	})
}

// If a later entry arrives before the announced one, the announced one was lost. The room reads it
// from the log before it publishes the later entry, so that no client receives reset.
func TestEntryOvertakesAnnounced(t *testing.T) {
	for _, repairing := range []bool{false, true} {
		t.Run(fmt.Sprintf("during a repair %v", repairing), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := sharedMemory()
				a, _ := openShared(t, log)
				b, bus := openShared(t, log)
				bob := b.join("lobby", "bob", hub.Lease{}, "")
				b.idle()
				a.send("lobby", "alice", "-1")
				bob.take()
				if repairing {
					bus.set(func() { bus.delay = 100 * time.Millisecond })
					bus.interrupt()
					a.send("lobby", "alice", "0")
					bus.stop("lobby") // the read of the repair ends with message 0
				}
				var id string
				bus.silently(func() { id = a.send("lobby", "alice", "1") })
				b.announce(id)
				a.send("lobby", "alice", "2")
				time.Sleep(150 * time.Millisecond)
				bus.set(func() { bus.stale = false })
				time.Sleep(2 * time.Second)
				if got := bob.take(); strings.TrimPrefix(got, "message:0 ") != "message:1 message:2" {
					t.Errorf("got %q, want both messages and no reset", got)
				}
			})
		})
	}
}

// If an entry is lost on the way to a node, and its first announcement too, the second one shows
// the loss, at a high rate of messages as well.
func TestEntryAndAnnouncementLost(t *testing.T) {
	for _, test := range []struct {
		name     string
		messages int           // sent after the lost one
		every    time.Duration // one message
		hung     time.Duration // how long a frame that is lost occupies the sender
	}{
		{"alone", 1, 100 * time.Millisecond, 0},
		{"600 in a second", 600, time.Second / 600, 0},
		{"3,000 in a second", 3000, time.Second / 3000, 0},
		{"9,000 in a second", 9000, time.Second / 9000, 0},
		{"9,000 without a frame", 9000, time.Second / 9000, time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := backplane.NewMemory(backplane.MemoryConfig{Messages: 10_000, Age: time.Minute, Bytes: 64 << 20, Shared: true})
				large := func(c *hub.Config) { c.RingMessages, c.RingBytes = 10_000, 64<<20 }
				frames := &hookedBus{Bus: log}
				a, _ := openShared(t, frames, large)
				b, bus := openShared(t, log, large)
				bob := b.join("lobby", "bob", hub.Lease{}, "")
				b.idle()
				bob.take()
				frames.silence(true)
				frames.hung = test.hung
				time.AfterFunc(200*time.Millisecond, func() { frames.silence(false) })
				start := time.Now()
				bus.silently(func() { a.send("lobby", "alice", "0") })
				for range test.messages {
					time.Sleep(test.every)
					a.send("lobby", "alice", "1")
				}
				time.Sleep(time.Until(start.Add(1300 * time.Millisecond)))
				synctest.Wait()
				if got := bob.take(); strings.Count(got, "message:1") != test.messages || strings.Count(got, resetText) != 1 {
					t.Errorf("got %d messages and %d resets, want %d and 1", strings.Count(got, "message:1"), strings.Count(got, resetText), test.messages)
				}
			})
		})
	}
}

// A frame has at most 256 positions. Further frames have the others.
func TestFramesOfManyAnnouncements(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, bus := openShared(t, sharedMemory())
		n.join("lobby", "alice", hub.Lease{}, "")
		n.idle()
		var mu sync.Mutex // guards times
		times := map[uint64]int{}
		cancel, err := bus.Bus.Subscribe("lobby", backplane.Handler{Message: func(data []byte) {
			var frame struct{ Acked []uint64 }
			if err := json.Unmarshal(data, &frame); err != nil || len(frame.Acked) > 256 {
				t.Errorf("got a frame with %d positions, %v; want at most 256", len(frame.Acked), err)
			}
			mu.Lock()
			defer mu.Unlock()
			for _, p := range frame.Acked {
				times[p]++
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		defer cancel()
		n.idle()
		ids := n.sendMany(1000)
		n.idle()
		mu.Lock()
		defer mu.Unlock()
		for _, id := range ids {
			if got := times[uint64(seqOf(id))]; got != 2 {
				t.Fatalf("message %s was announced %d times, want 2", id, got)
			}
		}
	})
}

// Clients that move to another node at the same time may all have an id that it has not reached.
// The room asks the log once for all of them. If the log does not have their ids, it asks once
// more, and then sends reset.
func TestManyIDsAheadOfNode(t *testing.T) {
	for _, test := range []struct {
		ahead uint64        // of the log
		every time.Duration // one client
		delay time.Duration // of Last
		calls int
	}{
		{0, 0, 10 * time.Millisecond, 1},
		{0, 0, 0, 1},
		{0, time.Millisecond, 10 * time.Millisecond, 1},
		{50, 0, 10 * time.Millisecond, 3}, // the first may have begun before a client came
		{50, 0, 0, 3},
		{50, time.Millisecond, 0, 7}, // the clients come for 1 s
	} {
		t.Run(fmt.Sprintf("%d ahead, every %v, delay %v", test.ahead, test.every, test.delay), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := sharedMemory()
				b, bus := openShared(t, log)
				b.join("lobby", "bob", hub.Lease{}, "")
				b.idle()
				bus.set(func() { bus.loses, bus.lasts = true, 0 })
				appendAs(t, log, "lobby", "1") // no node announces it
				p := room.Position{Epoch: log.Status().Epoch, Seq: 1}
				bus.set(func() { bus.delay = test.delay })
				var joins sync.WaitGroup
				var clients [1000]*fakeClient
				for i := range clients {
					joins.Go(func() {
						time.Sleep(time.Duration(i) * test.every)
						id := room.Position{Epoch: p.Epoch, Seq: p.Seq + test.ahead}.String()
						clients[i] = b.join("lobby", fmt.Sprint("user-", i), hub.Lease{}, id)
					})
				}
				joins.Wait()
				b.idle()
				resets := 0
				for _, c := range clients {
					resets += strings.Count(c.take(), resetText)
				}
				bus.set(func() {
					if bus.lasts > test.calls || bus.lasts == 0 {
						t.Errorf("got %d calls of Last, want at most %d", bus.lasts, test.calls)
					}
				})
				if want := len(clients) * int(min(test.ahead, 1)); resets != want {
					t.Errorf("%d of %d clients received reset, want %d", resets, len(clients), want)
				}
			})
		})
	}
}

// Another node may announce positions that the log does not have, for as long as the room is idle.
// The reads for them end. A later entry that is lost is found.
func TestUnknownPositionsRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := sharedMemory()
		a, _ := openShared(t, log)
		b, bus := openShared(t, log)
		bob := b.join("lobby", "bob", hub.Lease{}, "")
		p, _ := room.ParsePosition(b.send("lobby", "bob", "1"))
		b.idle()
		bob.take()
		bus.takeReads()
		for range 120 {
			for _, ahead := range []uint64{98, 97, 99} {
				b.announce(room.Position{Epoch: p.Epoch, Seq: p.Seq + ahead}.String())
			}
			time.Sleep(30 * time.Second)
		}
		if got, reads := bob.take(), bus.takeReads(); got != "" || reads != 16 {
			t.Errorf("3 positions announced 120 times: got %q and %d reads, want no event and 16 reads", got, reads)
		}
		a.send("lobby", "alice", "2")
		bus.silently(func() { b.announce(a.send("lobby", "alice", "3")) })
		b.idle()
		if got := bob.take(); got != "message:2 message:3" {
			t.Errorf("lost entry: got %q, want both messages", got)
		}
	})
}

// Positions between the entries of a log may be announced again and again, in any order. The room
// compares itself with the log once. It repeats the comparison a few times if the reads end before
// the announced position.
func TestPositionsWithoutEntryRepeated(t *testing.T) {
	for _, stale := range []bool{false, true} {
		t.Run(fmt.Sprintf("stale reads %v", stale), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := &sparseBus{Bus: sharedMemory()}
				a, _ := openShared(t, log)
				b, bus := openShared(t, log)
				bob := b.join("lobby", "bob", hub.Lease{}, "")
				b.idle()
				p, _ := room.ParsePosition(a.send("lobby", "alice", "1"))
				want := 1
				if stale {
					bus.stop("lobby")
					want = 8
				}
				a.send("lobby", "alice", "2")
				bob.take()
				bus.takeReads()
				for range 100 {
					for _, between := range []uint64{5, 3, 7} {
						b.announce(room.Position{Epoch: p.Epoch, Seq: p.Seq + between}.String())
					}
					b.idle()
				}
				if got, reads := bob.take(), bus.takeReads(); got != "" || reads != want {
					t.Errorf("got %q and %d reads, want no event and %d reads", got, reads, want)
				}
			})
		})
	}
}

// The last position of an empty room may differ between nodes. The reads of the node with the lower
// one end.
func TestLastOfEmptyRoomDiffers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := sharedMemory()
		a, _ := openShared(t, &hookedBus{Bus: log, last: func() (uint64, error) { return 57, nil }})
		b, bus := openShared(t, log)
		a.join("lobby", "alice", hub.Lease{}, "")
		bob := b.join("lobby", "bob", hub.Lease{}, "")
		time.Sleep(10 * time.Minute)
		if reads := bus.takeReads(); reads < 8 || reads > 20 {
			t.Errorf("got %d reads in the first 10 minutes, want 8 to 20", reads)
		}
		time.Sleep(time.Hour)
		if got, reads := bob.take(), bus.takeReads(); strings.Contains(got, "reset") || reads != 0 {
			t.Errorf("got %q and %d reads in an hour, want no reset and no read", got, reads)
		}
	})
}

// The positions that a room remembers are bounded.
func TestPositionsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, _ := openShared(t, sharedMemory())
		n.join("lobby", "alice", hub.Lease{}, "")
		n.idle()
		p, _ := room.ParsePosition(n.send("lobby", "alice", "1"))
		for i := range uint64(10_000) {
			n.announce(room.Position{Epoch: p.Epoch, Seq: p.Seq + 20_000 - i}.String())
			if got := n.Awaited("lobby"); got > 64 {
				t.Fatalf("after %d announcements: %d positions are remembered, want at most 64", i+1, got)
			}
		}
	})
}

// announceFrom passes the start of a range to the node, as another node would.
func (n *node) announceFrom(p room.Position) { n.AnnounceFrom("lobby", p) }

// A range of positions may be announced again and again. The comparisons of an idle room end. When
// an entry has arrived, the next announcement shows which entry was lost before it.
func TestRangesRepeated(t *testing.T) {
	for from, want := range map[uint64]string{1: resetText, 50: resetText, 1 << 60: ""} {
		t.Run(fmt.Sprint("from ", from), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := sharedMemory()
				a, _ := openShared(t, log)
				b, bus := openShared(t, log)
				bob := b.join("lobby", "bob", hub.Lease{}, "")
				b.idle()
				a.sendMany(60)
				b.idle()
				bob.take()
				bus.takeReads()
				p := room.Position{Epoch: log.Status().Epoch, Seq: from}
				for range 600 {
					b.announceFrom(p)
					time.Sleep(100 * time.Millisecond)
				}
				bus.set(func() {
					if last := bus.reads[len(bus.reads)-1]; last != 60 {
						t.Errorf("last read: after %d, want only what is not compared, after 60", last)
					}
				})
				if got, reads := bob.messages(), bus.takeReads(); got != "" || reads != 8 {
					t.Errorf("600 announcements: got %q and %d reads, want no event and 8 reads", got, reads)
				}
				appendAs(t, log, "lobby", "61")
				bus.silently(func() { appendAs(t, log, "lobby", "62") }) // no node announces it
				appendAs(t, log, "lobby", "63")
				bob.take()
				b.announceFrom(p)
				b.idle()
				if got := bob.messages(); got != want {
					t.Errorf("lost entry: got %q, want %q", got, want)
				}
			})
		})
	}
}

// A range that is announced again during its comparison is compared again, because the log may have
// further entries.
func TestRangeDuringComparison(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := sharedMemory()
		a, _ := openShared(t, log)
		b, bus := openShared(t, log)
		bob := b.join("lobby", "bob", hub.Lease{}, "")
		a.sendMany(3)
		b.idle()
		bob.take()
		p := room.Position{Epoch: log.Status().Epoch, Seq: 1}
		bus.set(func() { bus.delay, bus.early = 200*time.Millisecond, true })
		b.announceFrom(p)
		time.Sleep(300 * time.Millisecond) // the read began after 250 ms
		bus.silently(func() { appendAs(t, log, "lobby", "4") })
		b.announceFrom(p)
		b.idle()
		if got := bob.messages(); got != messages(4, 4) {
			t.Errorf("got %q, want message 4", got)
		}
	})
}

// oneLostLast loses one call of Last.
type oneLostLast struct {
	backplane.Bus
	lose atomic.Bool
}

func (b *oneLostLast) Last(ctx context.Context, name room.Name) (uint64, error) {
	if b.lose.CompareAndSwap(true, false) {
		<-ctx.Done()
		return 0, backplane.ErrUnavailable
	}
	return b.Bus.Last(ctx, name)
}

// A call of Last that is lost is repeated. No client that waits for it receives reset.
func TestOneLostLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := sharedMemory()
		lost := &oneLostLast{Bus: log}
		b, bus := openShared(t, lost)
		b.join("lobby", "bob", hub.Lease{}, "")
		b.idle()
		bus.set(func() { bus.loses = true })
		appendAs(t, log, "lobby", "1")
		id := room.Position{Epoch: log.Status().Epoch, Seq: 1}.String()
		lost.lose.Store(true)
		var joins sync.WaitGroup
		var clients [2]*fakeClient
		for i := range clients {
			joins.Go(func() {
				time.Sleep(time.Duration(i) * 20 * time.Millisecond)
				clients[i] = b.join("lobby", fmt.Sprint("user-", i), hub.Lease{}, id)
			})
		}
		start := time.Now()
		joins.Wait()
		if took := time.Since(start); took > 1200*time.Millisecond {
			t.Errorf("the joins took %v, want 0.8 s for the lost call and up to 0.25 s for another one", took)
		}
		b.idle()
		for _, c := range clients {
			if got := c.take(); strings.Contains(got, "reset") {
				t.Errorf("got %q, want no reset", got)
			}
		}
	})
}
