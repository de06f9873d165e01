package hub_test

import (
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
)

// sendMany sends messages with the data 1, 2, … and returns their ids.
func (n *node) sendMany(count int) (ids []string) {
	n.t.Helper()
	for i := range count {
		ids = append(ids, n.send("lobby", "alice", fmt.Sprint(i+1)))
	}
	return ids
}

// messages returns the short form of the messages with the data from … to.
func messages(from, to int) string {
	var words []string
	for i := from; i <= to; i++ {
		words = append(words, fmt.Sprint("message:", i))
	}
	return strings.Join(words, " ")
}

// resumes checks that a client that resumes with this id receives the events in want, and then its
// sync.
func (n *node) resumes(id, want string) {
	n.t.Helper()
	n.join("lobby", "carol", hub.Lease{}, id).received(want)
}

// received checks that the first events of the client are those in want, and then its sync.
func (c *fakeClient) received(want string) {
	c.node.t.Helper()
	time.Sleep(time.Second) // the sync may wait for the flush interval
	if got := c.take(); !strings.HasPrefix(got, strings.TrimSpace(want+" sync")) {
		c.node.t.Errorf("client that resumes: got %q, want %q first", got, want)
	}
	c.Drop(stream.Closed)
}

// resumeAll lets clients resume with these ids, one after the other every 10 ms. It returns when
// all have joined.
func (n *node) resumeAll(ids ...string) []*fakeClient {
	clients := make([]*fakeClient, len(ids))
	var wait sync.WaitGroup
	for i, id := range ids {
		wait.Go(func() { clients[i] = n.join("lobby", "carol", hub.Lease{}, id) })
		time.Sleep(10 * time.Millisecond)
	}
	wait.Wait()
	return clients
}

// A client that resumes receives the messages of the ring, without a read of the log.
func TestResumeFromRing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := sharedMemory()
		a, _ := openShared(t, log)
		b, bus := openShared(t, log, func(c *hub.Config) { c.RingMessages = 5 })
		b.join("lobby", "bob", hub.Lease{}, "")
		b.idle()
		bus.takeReads()
		ids := a.sendMany(9)
		b.resumes(ids[3], messages(5, 9))
		if reads := bus.takeReads(); reads != 0 {
			t.Errorf("position in the ring: got %d reads, want 0", reads)
		}
		b.resumes(ids[2], messages(4, 9))
		if reads := bus.takeReads(); reads != 1 {
			t.Errorf("position before the ring: got %d reads, want 1", reads)
		}
	})
}

// Clients that resume together share the reads of a room. The result is kept for the next client.
func TestOneReadPerRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := sharedMemory()
		a, _ := openShared(t, log)
		a.join("lobby", "alice", hub.Lease{}, "") // keeps the log
		ids := a.sendMany(50)
		b, bus := openShared(t, log)
		b.join("lobby", "bob", hub.Lease{}, "")
		b.idle()
		bus.takeReads()
		bus.set(func() { bus.delay = 100 * time.Millisecond })
		start := time.Now()
		clients := b.resumeAll(ids[19], ids[29], ids[9], ids[4], ids[39])
		if took := time.Since(start); took > 210*time.Millisecond {
			t.Errorf("took %v, want two reads of 100 ms", took)
		}
		bus.mu.Lock()
		if got := fmt.Sprint(bus.reads); got != "[20 5]" {
			t.Errorf("reads after %s, want [20 5]", got)
		}
		bus.mu.Unlock()
		for i, after := range []int{20, 30, 10, 5, 40} {
			clients[i].received(messages(after+1, 50))
		}
		bus.takeReads()
		b.resumes(ids[4], messages(6, 50))
		if reads := bus.takeReads(); reads != 0 {
			t.Errorf("next client: got %d reads, want 0", reads)
		}
	})
}

// Messages that arrive during a shared read reach each client once, in order.
func TestMessagesDuringSharedRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := sharedMemory()
		a, _ := openShared(t, log)
		a.join("lobby", "alice", hub.Lease{}, "")
		ids := a.sendMany(10)
		b, bus := openShared(t, log)
		b.join("lobby", "bob", hub.Lease{}, "")
		b.idle()
		bus.set(func() { bus.delay, bus.early = 100*time.Millisecond, true })
		var first, second *fakeClient
		var wait sync.WaitGroup
		wait.Go(func() { first = b.join("lobby", "carol", hub.Lease{}, ids[7]) })
		time.Sleep(50 * time.Millisecond)
		a.send("lobby", "alice", "11")
		wait.Go(func() { second = b.join("lobby", "dave", hub.Lease{}, ids[8]) })
		synctest.Wait()
		a.send("lobby", "alice", "12")
		wait.Wait()
		a.send("lobby", "alice", "13")
		time.Sleep(time.Second)
		if got := first.messages(); got != messages(9, 13) {
			t.Errorf("first client: got %q", got)
		}
		if got := second.messages(); got != messages(10, 13) {
			t.Errorf("second client: got %q", got)
		}
	})
}

// messages returns the messages and resets since the last call of take.
func (c *fakeClient) messages() string {
	var words []string
	for word := range strings.SplitSeq(c.take(), " ") {
		if strings.HasPrefix(word, "message") || strings.HasPrefix(word, "reset") {
			words = append(words, word)
		}
	}
	return strings.Join(words, " ")
}

// If the log has lost the messages of one client, the others that share the read do not receive
// reset.
func TestSharedReadWithoutOldMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := backplane.NewMemory(backplane.MemoryConfig{Messages: 10, Age: time.Minute, Bytes: 1 << 20, Shared: true})
		a, _ := openShared(t, log)
		a.join("lobby", "alice", hub.Lease{}, "")
		ids := a.sendMany(20)
		b, bus := openShared(t, log)
		b.join("lobby", "bob", hub.Lease{}, "")
		b.idle()
		bus.set(func() { bus.delay = 100 * time.Millisecond })
		clients := b.resumeAll(ids[1], ids[14])
		clients[0].received(resetText)
		clients[1].received(messages(16, 20))
		bus.takeReads()
		b.resumes(ids[10], messages(12, 20))
		b.resumes(ids[2], resetText)
		if reads := bus.takeReads(); reads != 1 {
			t.Errorf("got %d reads, want 1", reads)
		}
	})
}

// A read that is older than the ring is repeated.
func TestSharedReadTooOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := sharedMemory()
		a, _ := openShared(t, log)
		a.join("lobby", "alice", hub.Lease{}, "")
		ids := a.sendMany(3)
		b, bus := openShared(t, log)
		bus.stop("lobby")
		bus.set(func() { bus.stale = false })
		a.send("lobby", "alice", "4")
		b.join("lobby", "bob", hub.Lease{}, "")
		a.send("lobby", "alice", "5")
		b.idle()
		bus.set(func() { bus.stale = true })
		time.AfterFunc(200*time.Millisecond, func() { bus.set(func() { bus.stale = false }) })
		b.resumes(ids[0], messages(2, 5))
	})
}

// If the log is recreated during a shared read, the result is not used.
func TestLogRecreatedDuringSharedRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := sharedMemory()
		a, _ := openShared(t, log)
		a.join("lobby", "alice", hub.Lease{}, "")
		ids := a.sendMany(3)
		b, bus := openShared(t, log, func(c *hub.Config) { c.RingMessages = 2 })
		b.join("lobby", "bob", hub.Lease{}, "")
		b.idle()
		bus.set(func() { bus.delay, bus.early = time.Second, true })
		var carol *fakeClient
		var wait sync.WaitGroup
		wait.Go(func() { carol = b.join("lobby", "carol", hub.Lease{}, ids[0]) })
		time.Sleep(50 * time.Millisecond)
		bus.set(func() { bus.delay = 0 })
		log.Recreate()
		synctest.Wait()
		first := a.send("lobby", "alice", "11")
		for i := range 4 {
			a.send("lobby", "alice", fmt.Sprint(i+12))
		}
		var dave *fakeClient
		wait.Go(func() { dave = b.join("lobby", "dave", hub.Lease{}, first) })
		wait.Wait()
		dave.received(messages(12, 15))
		if got := carol.messages(); got != resetText {
			t.Errorf("client that resumes: got %q, want %q", got, resetText)
		}
		b.idle()
		if from, n := b.RingFrom("lobby"); from != 3 || n != 2 {
			t.Errorf("ring: %d entries after %d, want 2 after 3", n, from)
		}
	})
}

// If the log fails, a client that resumes receives reset: at once if the node is cut off, after 2 s
// otherwise.
func TestSharedReadThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := sharedMemory()
		a, _ := openShared(t, log)
		a.join("lobby", "alice", hub.Lease{}, "")
		ids := a.sendMany(3)
		b, bus := openShared(t, log)
		b.join("lobby", "bob", hub.Lease{}, "")
		b.idle()
		for _, c := range []struct {
			off  bool
			err  error
			want time.Duration
		}{{true, nil, 0}, {false, errors.New("no leader"), 2 * time.Second}} {
			bus.set(func() { bus.off, bus.err = c.off, c.err })
			start := time.Now()
			carol := b.join("lobby", "carol", hub.Lease{}, ids[0])
			if took := time.Since(start); took != c.want {
				t.Errorf("cut off: %v, error %v: took %v, want %v", c.off, c.err, took, c.want)
			}
			carol.received(resetText)
			bus.set(func() { bus.off, bus.err = false, nil })
		}
		bus.set(func() { bus.err = errors.New("no leader") })
		time.AfterFunc(time.Second, func() { bus.set(func() { bus.err = nil }) })
		b.resumes(ids[0], messages(2, 3))
	})
}

// A dropped room frees its ring.
func TestDroppedRoomFreesRing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, _ := openShared(t, sharedMemory(), func(c *hub.Config) { c.RingAge = time.Hour })
		n.sendMany(1)
		n.idle()
		n.sendMany(3)
		if n.RingBytes() == 0 {
			t.Error("ring is empty, want 3 messages")
		}
		time.Sleep(2 * time.Minute)
		if bytes := n.RingBytes(); n.Stats().Rooms != 0 || bytes != 0 {
			t.Errorf("got %d rooms and %d bytes, want 0 and 0", n.Stats().Rooms, bytes)
		}
	})
}
