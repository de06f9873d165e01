package hub_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/internal/hub"
	"example.com/presence/pkg/presence/room"
)

// history returns a page of the history of the lobby: the data of its messages, its end, and the
// position of the next page.
func (n *node) history(user room.UserID, before string, limit int) (data, last, next string, err error) {
	n.t.Helper()
	end, _ := room.ParsePosition(before)
	page, err := n.History(n.t.Context(), hub.HistoryRequest{Room: "lobby", User: user, Before: end, Limit: limit, Size: 1 << 20})
	if err != nil {
		return "", "", "", err
	}
	all, err := page.Messages("lobby")
	if err != nil {
		return "", "", "", err
	}
	var texts []string
	for _, m := range all {
		texts = append(texts, string(m.Data))
	}
	if p, ok := page.Next(); ok {
		next = p.String()
	}
	return strings.Join(texts, " "), page.Last.String(), next, nil
}

// expectHistory compares a page with the wanted one.
func (n *node) expectHistory(before string, limit int, data, last, next string) {
	n.t.Helper()
	if gotData, gotLast, gotNext, err := n.history("alice", before, limit); gotData != data || gotLast != last || gotNext != next || err != nil {
		n.t.Errorf("history before %q: got %q, last %q, next %q, %v; want %q, %q, %q", before, gotData, gotLast, gotNext, err, data, last, next)
	}
}

// A page of a room on this node is taken from the ring if the ring has more messages than the page.
// Any other page is read from the log.
func TestHistoryFromRing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := sharedMemory()
		defer log.Close()
		n, bus := openShared(t, log)
		other, _ := openShared(t, log)
		time.Sleep(2 * time.Second)
		var ids []string
		for i := range 5 {
			ids = append(ids, other.send("lobby", "alice", fmt.Sprint(i)))
		}
		n.join("lobby", "bob", hub.Lease{}, "")
		for i := 5; i < 10; i++ {
			ids = append(ids, other.send("lobby", "alice", fmt.Sprint(i)))
		}
		time.Sleep(5 * time.Second)
		bus.takeReads()
		n.expectHistory("", 3, "7 8 9", ids[9], ids[7])
		n.expectHistory(ids[9], 2, "7 8", ids[9], ids[7])
		if reads := bus.takeReads(); reads > 0 {
			t.Errorf("got %d reads of the log, want none", reads)
		}
		n.expectHistory("", 20, "0 1 2 3 4 5 6 7 8 9", ids[9], "")
		n.expectHistory(ids[5], 3, "2 3 4", ids[9], ids[2])
		n.expectHistory(ids[2], 3, "0 1", ids[9], "")
		if reads := bus.takeReads(); reads == 0 {
			t.Error("got no read of the log for messages that the ring lacks")
		}
		// A room that is behind does not answer from its ring.
		bus.silently(func() { ids = append(ids, other.send("lobby", "alice", "10")) })
		n.Announce("lobby", position(t, ids[10]))
		n.expectHistory("", 3, "8 9 10", ids[10], ids[8])
	})
}

func position(t *testing.T, id string) room.Position {
	t.Helper()
	p, ok := room.ParsePosition(id)
	if !ok {
		t.Fatalf("got the position %q", id)
	}
	return p
}

// In a log with gaps between the positions, a page has the messages before it, however far they are
// apart.
func TestHistoryWithGaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := openNode(t, &sparseBus{memory()})
		var ids, want []string
		for i := range 100 {
			ids, want = append(ids, n.send("lobby", "alice", fmt.Sprint(i))), append(want, fmt.Sprint(i))
		}
		n.expectHistory("", 2, "98 99", ids[99], ids[98])
		n.expectHistory("", 100, strings.Join(want, " "), ids[99], "")
		n.expectHistory(ids[50], 3, "47 48 49", ids[99], ids[47])
		n.expectHistory(ids[1], 3, "0", ids[99], "")
		n.expectHistory(ids[0], 3, "", ids[99], "")
	})
}

// After Clear, and after the age of the messages, the history is empty. Its end stays, so a stream
// that resumes from it receives the next message.
func TestHistoryWithoutMessages(t *testing.T) {
	for _, shared := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			log := memory()
			if shared {
				log = sharedMemory()
			}
			defer log.Close()
			n := openNode(t, log, withRings)
			time.Sleep(2 * time.Second)
			n.expectHistory("", 3, "", log.Status().Epoch+"-0", "")
			n.send("lobby", "alice", "1")
			second := n.send("lobby", "alice", "2")
			if err := n.clear("lobby"); err != nil {
				t.Fatal(err)
			}
			n.expectHistory("", 3, "", second, "")
			third := n.send("lobby", "alice", "3")
			n.expectHistory("", 3, "3", third, "")
			n.expectHistory(third, 3, "", third, "")
			time.Sleep(time.Minute)
			n.expectHistory("", 3, "", third, "")
			bob := n.join("lobby", "bob", hub.Lease{}, third)
			n.send("lobby", "alice", "4")
			time.Sleep(time.Second)
			if got := bob.take(); got != "sync user count:1 message:4" {
				t.Errorf("shared %v: got %q", shared, got)
			}
		})
	}
}

// A malformed entry is no message of the history, and does not count towards the limit.
func TestHistoryWithMalformedEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := openNode(t, memory())
		first := n.send("lobby", "alice", "1")
		if _, _, err := n.bus.Append(t.Context(), "lobby", "", []byte("2 of a newer version")); err != nil {
			t.Fatal(err)
		}
		last := n.send("lobby", "alice", "3")
		n.expectHistory("", 2, "1 3", last, "")
		n.expectHistory("", 1, "3", last, last)
		n.expectHistory(last, 1, "1", last, "")
		n.expectHistory(first, 1, "", last, "")
	})
}

// If the log is recreated during a read, the page has the epoch of the new log. A page before a
// position of the old log is empty.
func TestHistoryOfNewEpoch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := &epochBus{Bus: memory(), epoch: "00000000aa"}
		during := func() {}
		hooked := &hookedBus{Bus: bus}
		hooked.read = func() ([]backplane.Entry, bool, error) {
			during()
			return bus.Read(t.Context(), "lobby", 0)
		}
		n := openNode(t, hooked)
		n.send("lobby", "alice", "1")
		old := n.send("lobby", "alice", "2")
		calls := 0
		during = func() {
			if calls++; calls == 1 {
				bus.change("00000000bb")
			}
		}
		n.expectHistory("", 3, "1 2", "00000000bb-2", "")
		n.expectHistory(old, 3, "", "00000000bb-2", "")
	})
}

// A message that the log accepts after its last position was read is on the page, and its end is
// the position of that message: a stream that resumes from there does not deliver it again.
func TestMessageDuringHistoryRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memory()
		bus := &hookedBus{Bus: log}
		n := openNode(t, bus)
		n.send("lobby", "alice", "1")
		var second string
		bus.read = func() ([]backplane.Entry, bool, error) {
			if second == "" {
				second = n.send("lobby", "alice", "2")
			}
			return log.Read(t.Context(), "lobby", 0)
		}
		data, last, next, err := n.history("alice", "", 5)
		if data != "1 2" || last != second || next != "" || err != nil {
			t.Errorf("got %q, last %q, next %q, %v; want both messages, and the end %q", data, last, next, err, second)
		}
	})
}

// If the log is behind its last position, or changes while an empty room is read, the read is
// repeated. A log that cannot be read is an error, and so is one that is slow.
func TestHistoryOfFailingLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := sharedMemory()
		defer log.Close()
		bus := &hookedBus{Bus: log}
		n := openNode(t, bus, withRings)
		time.Sleep(2 * time.Second)
		var ids []string
		for i := range 3 {
			ids = append(ids, n.send("lobby", "alice", fmt.Sprint(i)))
		}
		n.Drop("lobby")
		all, _, err := log.Read(t.Context(), "lobby", 0)
		if err != nil {
			t.Fatal(err)
		}
		results := []int{2, 0, 0, 3}
		bus.read = func() ([]backplane.Entry, bool, error) {
			i := results[0]
			results = results[1:]
			return slices.Clone(all[:i]), false, nil
		}
		n.expectHistory("", 5, "0 1 2", ids[2], "")
		if len(results) > 0 {
			t.Errorf("got %d reads too few", len(results))
		}
		for name, read := range map[string]func() ([]backplane.Entry, bool, error){
			"failing": func() ([]backplane.Entry, bool, error) { return nil, false, errors.New("broken") },
			"behind":  func() ([]backplane.Entry, bool, error) { return slices.Clone(all[:1]), true, nil },
		} {
			bus.read = read
			start := time.Now()
			if _, _, _, err := n.history("alice", "", 5); !errors.Is(err, backplane.ErrUnavailable) || time.Since(start) > 5*time.Second {
				t.Errorf("%s log: got %v after %v, want %v within 5 s", name, err, time.Since(start), backplane.ErrUnavailable)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := n.History(ctx, hub.HistoryRequest{Room: "lobby", Limit: 1, Size: 1}); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want %v", err, context.Canceled)
		}
		bus.read = func() ([]backplane.Entry, bool, error) { return nil, false, backplane.ErrClosed }
		if _, _, _, err := n.history("alice", "", 5); !errors.Is(err, hub.ErrDraining) {
			t.Errorf("got %v, want %v", err, hub.ErrDraining)
		}
		bus.read = nil
	})
}

// A flood of requests of one user, or of a few, reads the log of each once at a time. Other users
// are served meanwhile, and a request that waits for too long fails.
func TestHistoryFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := sharedMemory()
		defer log.Close()
		n, bus := openShared(t, log)
		time.Sleep(2 * time.Second)
		last := n.send("lobby", "alice", "1")
		n.Drop("lobby")
		bus.set(func() { bus.delay = 100 * time.Millisecond }) // of Last and of Read
		var flood sync.WaitGroup
		failures := map[room.UserID]int{}
		var mu sync.Mutex
		for _, user := range []room.UserID{"mallory", "mallet", "eve"} {
			for i := range 100 {
				flood.Go(func() {
					if _, _, _, err := n.history(user, "", 1+i); err != nil {
						if !errors.Is(err, hub.ErrHistoryReads) {
							t.Errorf("got %v, want %v", err, hub.ErrHistoryReads)
						}
						mu.Lock()
						defer mu.Unlock()
						failures[user]++
					}
				})
			}
		}
		synctest.Wait()
		for range 3 {
			start := time.Now()
			if data, end, _, err := n.history("bob", "", 5); data != "1" || end != last || err != nil || time.Since(start) > 250*time.Millisecond {
				t.Errorf("got %q, %v after %v, want the message within 0.25 s", data, err, time.Since(start))
			}
		}
		flood.Wait()
		for user, n := range failures {
			if n < 85 || n > 95 { // 2 s, 0.2 s each
				t.Errorf("%s: %d of 100 requests failed, want about 90", user, n)
			}
		}
		if len(failures) != 3 {
			t.Errorf("got failures of %d users, want 3", len(failures))
		}
	})
}

// At most four users read the log at the same time.
func TestHistoryReadsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := sharedMemory()
		defer log.Close()
		n, bus := openShared(t, log)
		time.Sleep(2 * time.Second)
		n.send("lobby", "alice", "1")
		n.Drop("lobby")
		bus.takeReads()
		bus.set(func() { bus.delay = 100 * time.Millisecond })
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				if data, _, _, err := n.history(room.UserID(fmt.Sprint(i)), "", 1+i); data != "1" || err != nil {
					t.Errorf("got %q, %v, want the message", data, err)
				}
			})
		}
		time.Sleep(150 * time.Millisecond)
		if reads := bus.takeReads(); reads != 4 {
			t.Errorf("got %d reads, want 4", reads)
		}
		all.Wait()
		if reads := bus.takeReads(); reads != 16 {
			t.Errorf("got %d further reads, want 16", reads)
		}
	})
}

// Equal requests that wait share one read: those of one user, and those of many users.
func TestHistoryReadsAreShared(t *testing.T) {
	for _, users := range []int{1, 100} {
		synctest.Test(t, func(t *testing.T) {
			log := sharedMemory()
			defer log.Close()
			n, bus := openShared(t, log)
			time.Sleep(2 * time.Second)
			n.send("lobby", "alice", "1")
			n.Drop("lobby")
			bus.takeReads()
			bus.set(func() { bus.delay = 100 * time.Millisecond })
			var all sync.WaitGroup
			ask := func(i int, want string) {
				all.Go(func() {
					user := room.UserID(fmt.Sprint(i % users))
					if data, _, _, err := n.history(user, "", 5); data != want || err != nil {
						t.Errorf("got %q, %v, want %q", data, err, want)
					}
				})
			}
			for i := range 500 {
				ask(i, "1")
			}
			all.Wait()
			n.send("lobby", "alice", "2")
			for i := range 500 {
				ask(i, "1 2")
			}
			all.Wait()
			if reads, most := bus.takeReads(), min(4*users, 50); reads > most { // two per wave of one user
				t.Errorf("%d users: got %d reads for 1,000 requests, want at most %d", users, reads, most)
			}
		})
	}
}

// A request that comes during a read does not share it, because the read may lack a message.
func TestHistoryIsCurrent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := sharedMemory()
		defer log.Close()
		n, bus := openShared(t, log)
		time.Sleep(2 * time.Second)
		n.send("lobby", "alice", "1")
		n.Drop("lobby")
		bus.set(func() { bus.delay, bus.early = 100*time.Millisecond, true })
		var first sync.WaitGroup
		first.Go(func() {
			if data, _, _, err := n.history("alice", "", 5); data != "1" || err != nil {
				t.Errorf("got %q, %v, want the first message", data, err)
			}
		})
		time.Sleep(150 * time.Millisecond) // Last has returned, and Read has read
		n.send("lobby", "alice", "2")
		for _, user := range []room.UserID{"alice", "bob"} {
			if data, _, _, err := n.history(user, "", 5); data != "1 2" || err != nil {
				t.Errorf("%s: got %q, %v, want both messages", user, data, err)
			}
		}
		first.Wait()
	})
}

// A request that is canceled does not end the read of the requests that share it.
func TestCanceledHistoryRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := sharedMemory()
		defer log.Close()
		n, bus := openShared(t, log)
		time.Sleep(2 * time.Second)
		n.send("lobby", "alice", "1")
		n.Drop("lobby")
		bus.set(func() { bus.delay = 100 * time.Millisecond })
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var all sync.WaitGroup
		for i := range 3 {
			all.Go(func() {
				if i < 2 { // the first reads, the second leads the requests that wait
					time.Sleep(time.Duration(i) * time.Millisecond)
					n.History(ctx, hub.HistoryRequest{Room: "lobby", User: "alice", Limit: 5, Size: 1 << 20})
					return
				}
				time.Sleep(2 * time.Millisecond)
				cancel()
				if data, _, _, err := n.history("alice", "", 5); data != "1" || err != nil {
					t.Errorf("got %q, %v, want the message", data, err)
				}
			})
		}
		all.Wait()
	})
}

// A request that is canceled during its read returns the page all the same, so that its user is
// charged for the read.
func TestCanceledHistoryReadHasPage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := sharedMemory()
		defer log.Close()
		n, bus := openShared(t, log)
		time.Sleep(2 * time.Second)
		n.send("lobby", "alice", "1")
		n.Drop("lobby")
		bus.set(func() { bus.delay = 100 * time.Millisecond }) // of Last and of Read
		for i := range 50 {
			ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
			page, err := n.History(ctx, hub.HistoryRequest{Room: "lobby", User: "alice", Limit: 5, Size: 1 << 20})
			cancel()
			if err != nil || page.Read == 0 {
				t.Fatalf("request %d: got %v, want the page that was read", i, err)
			}
		}
	})
}
