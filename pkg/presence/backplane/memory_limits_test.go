package backplane_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/room"
)

// appendFrom appends n entries of a size to a room. The size contains the 200 bytes of an entry.
func appendFrom(t *testing.T, m *backplane.Memory, name room.Name, sender room.UserID, n, size int) {
	t.Helper()
	for range n {
		if _, _, err := m.AppendFrom(t.Context(), name, sender, "", make([]byte, size-200)); err != nil {
			t.Fatal(err)
		}
	}
}

// wantEntries checks that the log of a room has n entries, and whether they are all entries of the
// room.
func wantEntries(t *testing.T, m *backplane.Memory, name room.Name, n int, wantComplete bool) {
	t.Helper()
	entries, complete, err := m.Read(t.Context(), name, 0)
	if len(entries) != n || complete != wantComplete || err != nil {
		t.Errorf("%s: got %d entries, complete %v, error %v, want %d, %v, nil", name, len(entries), complete, err, n, wantComplete)
	}
}

// The byte limit applies to all rooms together. Each entry counts 200 bytes more than its data, and
// each sender of a room counts 200 bytes and its user id.
func TestBytes(t *testing.T) {
	full := 0
	m := open(t, backplane.MemoryConfig{Bytes: 3405, Full: func() { full++ }})
	appendFrom(t, m, "a", "", 1, 1000)
	appendFrom(t, m, "b", "alice", 1, 1000)
	appendFrom(t, m, "a", "", 1, 1000)
	if got := m.Stats().Bytes; got != 3405 || full != 0 {
		t.Errorf("got %d bytes, full %d times, want 3405 and 0", got, full)
	}
	wantEntries(t, m, "a", 2, true)
	appendFrom(t, m, "b", "alice", 1, 900)
	wantEntries(t, m, "a", 1, false)
	wantEntries(t, m, "b", 2, true)
	appendFrom(t, m, "c", "", 1, 5000) // larger than the limit
	wantEntries(t, m, "a", 1, false)
	wantEntries(t, m, "b", 2, true)
	wantEntries(t, m, "c", 0, false)
	if got := m.Stats().Evictions; got != 2 || full != 2 {
		t.Errorf("got %d evictions, full %d times, want 2 and 2", got, full)
	}
}

// A sender that uses the most bytes loses its own entries: other rooms keep theirs.
func TestLargestSender(t *testing.T) {
	m := open(t, backplane.MemoryConfig{Bytes: 64 << 20, Messages: 1000})
	appendFrom(t, m, "lobby", "bob", 50, 300)
	appendFrom(t, m, "news", "", 50, 300)
	for range 540 {
		appendFrom(t, m, "a", "mallory", 1, 65_000)
		appendFrom(t, m, "b", "mallory", 1, 65_000)
	}
	wantEntries(t, m, "lobby", 50, true)
	wantEntries(t, m, "news", 50, true)
	if got := m.Stats(); got.Bytes > 64<<20 || got.Bytes < 63<<20 {
		t.Errorf("got %d bytes, want nearly %d", got.Bytes, 64<<20)
	}
}

// The bytes of a sender count over all rooms. So a sender with many small rooms loses entries, and
// a sender with one larger room does not.
func TestLargestSenderOfManyRooms(t *testing.T) {
	m := open(t, backplane.MemoryConfig{Bytes: 1 << 20})
	appendFrom(t, m, "lobby", "bob", 100, 3000)
	for i := range 1000 {
		appendFrom(t, m, room.Name(fmt.Sprint("room-", i%100)), "mallory", 1, 3000)
	}
	wantEntries(t, m, "lobby", 100, true)
}

// If all entries have the same sender, the largest room loses its entries.
func TestLargestRoom(t *testing.T) {
	m := open(t, backplane.MemoryConfig{Bytes: 1 << 20, Messages: 1000})
	for i := range 100 {
		appendFrom(t, m, room.Name(fmt.Sprint("small-", i)), "guest", 10, 300)
	}
	appendFrom(t, m, "large", "guest", 1000, 5000)
	for i := range 100 {
		appendFrom(t, m, room.Name(fmt.Sprint("small-", i)), "guest", 1, 300)
		wantEntries(t, m, room.Name(fmt.Sprint("small-", i)), 11, true)
	}
	if entries, _, _ := m.Read(t.Context(), "large", 0); len(entries) < 100 || entries[len(entries)-1].Position != 1000 {
		t.Errorf("the large room has %d entries, want at least 100, and the newest one", len(entries))
	}
}

// A log has no holes. So the sender that uses the most bytes can cost another sender entries in the
// same room, but only there.
func TestLargestSenderInRoom(t *testing.T) {
	m := open(t, backplane.MemoryConfig{Bytes: 20_000})
	appendFrom(t, m, "a", "bob", 3, 300)
	appendFrom(t, m, "b", "bob", 3, 300)
	appendFrom(t, m, "a", "mallory", 4, 5000)
	wantEntries(t, m, "b", 3, true)
	entries, _, _ := m.Read(t.Context(), "a", 0)
	if len(entries) != 3 || entries[0].Position != 5 {
		t.Errorf("a: got %d entries, want those at 5 to 7", len(entries))
	}
}

// A sender with very many rooms loses only entries of the largest of them. After all entries have
// expired, no account is left.
func TestManyRooms(t *testing.T) {
	const rooms = 100_000
	clock := newClock()
	m := open(t, backplane.MemoryConfig{Bytes: rooms * 600, Now: clock.Now, AfterFunc: clock.AfterFunc})
	appendFrom(t, m, "lobby", "bob", 1, 300)
	for i := range rooms {
		appendFrom(t, m, room.Name(fmt.Sprint("room-", i)), "mallory", 1, 300)
	}
	evictions := m.Stats().Evictions
	appendFrom(t, m, "large", "mallory", 1000, 100_000)
	if got := m.Stats().Evictions - evictions; got < 100 || got > 1000 {
		t.Errorf("got %d evictions, want at most those of the large room", got)
	}
	wantEntries(t, m, "lobby", 1, true)
	for i := range rooms {
		wantEntries(t, m, room.Name(fmt.Sprint("room-", i)), 1, true)
	}
	clock.advance(10 * time.Minute)
	if got := m.Shares(); len(got) != 0 || m.Stats().Bytes != 0 {
		t.Errorf("got %d shares, %d bytes after all entries have expired, want none", len(got), m.Stats().Bytes)
	}
}

func TestNoMessagesKept(t *testing.T) {
	m := backplane.NewMemory(backplane.MemoryConfig{})
	defer m.Close()
	var got []uint64
	cancel := subscribe(t, m, "a", backplane.Handler{Entry: func(e backplane.Entry) { got = append(got, e.Position) }})
	defer cancel()
	add(t, m, "a", "", "x")
	add(t, m, "a", "", "y")
	if want := []uint64{1, 2}; !slices.Equal(got, want) {
		t.Errorf("delivered %d, want %d", got, want)
	}
	if got := read(t, m, "a", 1); got != "…" {
		t.Errorf("after 1: got %q, want %q", got, "…")
	}
	if got := read(t, m, "a", 2); got != "" {
		t.Errorf("after 2: got %q, want none", got)
	}
}

// The bus remembers a key for two minutes, and only for its room. The key outlives its entry and
// the log of its room.
func TestKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, backplane.MemoryConfig{Messages: 1, MaxKeys: 3})
		cancel := subscribe(t, m, "a", backplane.Handler{})
		for _, c := range []struct {
			room      room.Name
			key       string
			after     time.Duration
			position  uint64
			duplicate bool
		}{
			{"a", "1", 0, 1, false},
			{"a", "", 0, 2, false}, // evicts the entry of key "1"
			{"a", "1", 0, 1, true},
			{"b", "1", 0, 1, false},
			{"a", "2", 0, 3, false},
			{"a", "1", 2*time.Minute - 1, 1, true},
			{"a", "1", 1, 4, false},
			{"a", "1", 0, 4, true},
		} {
			time.Sleep(c.after)
			position, duplicate, err := m.Append(t.Context(), c.room, c.key, nil)
			if position != c.position || duplicate != c.duplicate || err != nil {
				t.Errorf("%+v: got %d, %v, %v, want %d, %v, nil", c, position, duplicate, err, c.position, c.duplicate)
			}
		}
		cancel() // drops the log
		if position, duplicate, err := m.Append(t.Context(), "a", "1", nil); position != 4 || !duplicate || err != nil {
			t.Errorf("key after the log was dropped: got %d, %v, %v, want 4, true, nil", position, duplicate, err)
		}
		for _, key := range []string{"2", "3"} {
			if _, _, err := m.Append(t.Context(), "c", key, nil); err != nil {
				t.Errorf("key %s at a limit of 3: %v", key, err)
			}
		}
		if _, _, err := m.Append(t.Context(), "c", "4", nil); !errors.Is(err, backplane.ErrKeysFull) {
			t.Errorf("fourth key at a limit of 3: got %v, want ErrKeysFull", err)
		}
		if position := add(t, m, "c", "", ""); position != 7 {
			t.Errorf("position after a rejected message: got %d, want 7", position)
		}
		time.Sleep(2 * time.Minute)
		if _, _, err := m.Append(t.Context(), "c", "4", nil); err != nil {
			t.Errorf("append after the keys have expired: %v", err)
		}
	})
}

// A new log starts after the highest position of all dropped logs.
func TestDroppedLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, backplane.MemoryConfig{Age: time.Minute})
		cancel := subscribe(t, m, "a", backplane.Handler{})
		second := subscribe(t, m, "a", backplane.Handler{})
		for range 5 {
			add(t, m, "a", "", "x")
		}
		add(t, m, "b", "", "x") // without a subscription
		cancel()
		if got := read(t, m, "a", 4); got != "5:x" {
			t.Errorf("with one subscription left: got %q, want %q", got, "5:x")
		}
		second()
		for after, want := range map[uint64]string{0: "…", 4: "…", 5: "", 6: "…"} {
			if got := read(t, m, "a", after); got != want {
				t.Errorf("a was dropped, after %d: got %q, want %q", after, got, want)
			}
		}
		if position := add(t, m, "a", "", "y"); position != 6 {
			t.Errorf("next position of a: got %d, want 6", position)
		}
		if position := add(t, m, "b", "", "y"); position != 2 {
			t.Errorf("next position of b: got %d, want 2", position)
		}
		time.Sleep(time.Minute)
		if position := add(t, m, "b", "", "z"); position != 7 {
			t.Errorf("next position of b after its entries expired: got %d, want 7", position)
		}
	})
}

// The timer removes every expired item within a minute. It runs only while the bus contains
// something that can expire.
func TestTimer(t *testing.T) {
	for name, do := range map[string]func(m *backplane.Memory) time.Duration{
		"entry": func(m *backplane.Memory) time.Duration { add(t, m, "a", "", "x"); return 5 * time.Minute },
		"key": func(m *backplane.Memory) time.Duration {
			add(t, m, "a", "k", "x")
			if err := m.Clear(t.Context(), "a"); err != nil {
				t.Fatal(err)
			}
			return backplane.KeyAge
		},
		"row": func(m *backplane.Memory) time.Duration {
			if err := m.Put(t.Context(), "k", nil, time.Hour); err != nil {
				t.Fatal(err)
			}
			return time.Hour
		},
	} {
		c := newClock()
		m := open(t, backplane.MemoryConfig{Now: c.Now, AfterFunc: c.AfterFunc})
		if len(c.timers) != 0 {
			t.Errorf("%s: a timer runs before the item exists", name)
		}
		age := do(m)
		c.advance(age - 1)
		if len(c.timers) != 1 {
			t.Errorf("%s: %d timers run, want 1", name, len(c.timers))
		}
		c.advance(time.Minute + 1)
		if len(c.timers) != 0 {
			t.Errorf("%s: the timer still runs", name)
		}
		do(m)
		if m.Close(); len(c.timers) != 0 {
			t.Errorf("%s: the timer runs after Close", name)
		}
	}
}

// If the backlog of a subscription is full, Append waits until its ctx ends, and Publish drops the
// message and causes one call of Lost.
func TestBacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, backplane.MemoryConfig{Messages: 5000})
		release := make(chan struct{})
		var entries, lost int
		var messages []string
		cancel := subscribe(t, m, "a", backplane.Handler{
			Entry:   func(backplane.Entry) { <-release; entries++ },
			Message: func(data []byte) { messages = append(messages, string(data)) },
			Lost:    func() { lost++ },
		})
		defer cancel()
		go m.Append(t.Context(), "a", "", nil) // delivers until release is closed
		synctest.Wait()
		for range 1024 {
			add(t, m, "a", "", "")
		}
		ctx, stop := context.WithTimeoutCause(t.Context(), time.Second, errors.New("busy"))
		defer stop()
		if _, _, err := m.Append(ctx, "a", "", nil); err == nil || err.Error() != "busy" {
			t.Errorf("Append at the limit: got %v, want the cause of ctx", err)
		}
		for range 3 {
			if err := m.Publish(t.Context(), "a", []byte("dropped")); err != nil {
				t.Error(err)
			}
		}
		if last, _ := m.Last(t.Context(), "a"); last != 1025 {
			t.Errorf("the log ends at %d, want 1025", last)
		}
		done := make(chan uint64, 1)
		go func() { done <- add(t, m, "a", "", "") }()
		synctest.Wait()
		select {
		case <-done:
			t.Error("Append returned at the limit")
		default:
		}
		close(release)
		if position := <-done; position != 1026 {
			t.Errorf("got position %d, want 1026", position)
		}
		m.Publish(t.Context(), "a", []byte("m"))
		synctest.Wait()
		if entries != 1026 || lost != 1 || !slices.Equal(messages, []string{"m"}) {
			t.Errorf("got %d entries, %d calls of Lost, messages %q, want 1026, 1, [m]", entries, lost, messages)
		}
	})
}

// Calls of Append and Ask that wait for a full backlog return when the subscription ends.
func TestBacklogEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, backplane.MemoryConfig{Messages: 5000})
		release := make(chan struct{})
		cancel := subscribe(t, m, "a", backplane.Handler{
			Entry: func(backplane.Entry) { <-release },
			Ask:   func([]byte) []byte { return []byte("yes") },
		})
		go m.Append(t.Context(), "a", "", nil) // ends when release is closed
		synctest.Wait()
		asked := make(chan error, 1)
		go func() {
			asked <- m.Ask(t.Context(), "a", nil, func([]byte) bool { t.Error("a subscription answered after it had ended"); return true })
		}()
		synctest.Wait()
		for range 1023 {
			add(t, m, "a", "", "")
		}
		var waits sync.WaitGroup
		waits.Go(func() { add(t, m, "a", "", "") })
		waits.Go(func() { m.Ask(t.Context(), "a", nil, nil) })
		synctest.Wait()
		cancel()
		waits.Wait()
		if err := <-asked; err != nil {
			t.Error(err)
		}
		close(release)
	})
}

// Put and Delete wait while the backlog of a watcher is full.
func TestWatchBacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, backplane.MemoryConfig{})
		release := make(chan struct{})
		rows := 0
		cancel, err := m.Watch(func(backplane.Row) { <-release; rows++ })
		if err != nil {
			t.Fatal(err)
		}
		defer cancel()
		go m.Put(t.Context(), "k", nil, time.Hour) // delivers until release is closed
		synctest.Wait()
		for range 1024 {
			if err := m.Put(t.Context(), "k", nil, time.Hour); err != nil {
				t.Fatal(err)
			}
		}
		ctx, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		for name, err := range map[string]error{
			"Put": m.Put(ctx, "k", nil, time.Hour), "Delete": m.Delete(ctx, "k"),
		} {
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s at the limit: got %v, want DeadlineExceeded", name, err)
			}
		}
		close(release)
		synctest.Wait()
		if rows != 1025 {
			t.Errorf("got %d rows, want 1025", rows)
		}
	})
}

// A subscription receives further entries after its handler has panicked.
func TestPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, backplane.MemoryConfig{})
		var got []uint64
		cancel := subscribe(t, m, "a", backplane.Handler{Entry: func(e backplane.Entry) {
			got = append(got, e.Position)
			switch e.Position {
			case 1:
				var other sync.WaitGroup
				other.Go(func() {
					for range 3 {
						add(t, m, "a", "", "")
					}
				})
				other.Wait()
				panic("first")
			case 3:
				panic("third")
			}
		}})
		defer cancel()
		func() {
			defer func() {
				if r := recover(); r != "third" { // the second panic replaces the first
					t.Errorf("recovered %v, want third", r)
				}
			}()
			m.Append(t.Context(), "a", "", nil)
		}()
		synctest.Wait()
		add(t, m, "a", "", "")
		if want := []uint64{1, 2, 3, 4, 5}; !slices.Equal(got, want) {
			t.Errorf("delivered %d, want %d", got, want)
		}
	})
}

// One caller delivers only a limited number of other callers' items.
func TestTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, backplane.MemoryConfig{})
		returned := make(chan struct{})
		delivered := 0
		cancel := subscribe(t, m, "a", backplane.Handler{Entry: func(backplane.Entry) {
			switch delivered++; delivered {
			case 1:
				var others sync.WaitGroup
				others.Go(func() {
					for range 300 {
						add(t, m, "a", "", "")
					}
				})
				others.Wait()
			case 200:
				<-returned // deadlocks if the first caller delivers this entry
			}
		}})
		defer cancel()
		add(t, m, "a", "", "")
		close(returned)
		synctest.Wait()
		if delivered != 301 {
			t.Errorf("delivered %d entries, want 301", delivered)
		}
	})
}

// Every subscription receives the entries of concurrent callers in log order and without loss.
func TestOrder(t *testing.T) {
	m := open(t, backplane.MemoryConfig{Messages: 10_000})
	const callers, each = 8, 500
	var got [3][]uint64
	for i := range got {
		subscribe(t, m, "a", backplane.Handler{Entry: func(e backplane.Entry) {
			got[i] = append(got[i], e.Position) // the race detector reports overlapping calls
			runtime.Gosched()
		}})
	}
	var wait sync.WaitGroup
	for range callers {
		wait.Go(func() {
			for range each {
				m.Append(t.Context(), "a", "", nil)
			}
		})
	}
	wait.Wait()
	m.Close() // no handler runs after Close
	for i := range got {
		for j, p := range got[i] {
			if p != uint64(j+1) {
				t.Fatalf("subscription %d: position %d follows %d", i, p, j)
			}
		}
		if len(got[i]) < callers*each-2048 { // Close may discard the backlog
			t.Errorf("subscription %d: got %d entries, want at least %d", i, len(got[i]), callers*each-2048)
		}
	}
}

// cancel does not wait for a running call, and no call begins after cancel.
func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, backplane.MemoryConfig{})
		var owner sync.Mutex
		calls, seen := 0, make(chan struct{})
		cancel := subscribe(t, m, "a", backplane.Handler{Entry: func(backplane.Entry) {
			close(seen) // would panic in a second call
			owner.Lock()
			defer owner.Unlock()
			calls++
		}})
		owner.Lock()
		go m.Append(t.Context(), "a", "", nil) // ends when owner is unlocked
		<-seen
		add(t, m, "a", "", "")
		cancel()
		cancel()
		owner.Unlock()
		synctest.Wait()
		if calls != 1 {
			t.Errorf("got %d calls, want 1: the one that had begun", calls)
		}
		var second func()
		second = subscribe(t, m, "a", backplane.Handler{Entry: func(backplane.Entry) { calls++; second() }})
		add(t, m, "a", "", "")
		add(t, m, "a", "", "")
		if calls != 2 {
			t.Errorf("got %d calls, want 2: one more before the handler cancels", calls)
		}
	})
}

// If a handler cancels another subscription, that subscription does not receive the same entry,
// even though its delivery was already assigned to the caller of Append.
func TestCancelFromOther(t *testing.T) {
	m := open(t, backplane.MemoryConfig{})
	var second func()
	subscribe(t, m, "a", backplane.Handler{Entry: func(backplane.Entry) { second() }})
	second = subscribe(t, m, "a", backplane.Handler{
		Entry: func(backplane.Entry) { t.Error("called after cancel has returned") },
	})
	add(t, m, "a", "", "")
}

// If a row is put while Watch delivers the existing rows, the watcher receives it after them.
func TestWatchWhilePut(t *testing.T) {
	m := open(t, backplane.MemoryConfig{})
	var got []string
	put := func(key string) {
		if err := m.Put(t.Context(), key, nil, time.Minute); err != nil {
			t.Error(err)
		}
	}
	put("a")
	cancel, err := m.Watch(func(r backplane.Row) {
		if r.Key == "a" {
			var other sync.WaitGroup
			other.Go(func() { put("b") })
			other.Wait()
		}
		got = append(got, r.Key)
	})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if want := []string{"a", "b"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A timer that was replaced does nothing, even if it has already fired. If the current timer is
// late, Put still removes the expired row.
func TestLateTimer(t *testing.T) {
	now := newClock()
	var timers []func()
	m := open(t, backplane.MemoryConfig{MaxRows: 1, Now: now.Now, AfterFunc: func(_ time.Duration, f func()) func() bool {
		timers = append(timers, f)
		return func() bool { return false } // f has begun
	}})
	put := func(key string, ttl time.Duration) {
		t.Helper()
		if err := m.Put(t.Context(), key, nil, ttl); err != nil {
			t.Error(err)
		}
	}
	put("a", time.Hour)
	put("a", time.Minute)
	if len(timers) != 2 {
		t.Fatalf("%d timers were set, want 2", len(timers))
	}
	if timers[0](); len(timers) != 2 {
		t.Error("the replaced timer set another timer")
	}
	now.now = now.now.Add(time.Minute)
	put("b", time.Hour) // fits within the limit of one row, because a has expired
}

// Close waits for running calls, and no call begins after it.
func TestCloseWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, backplane.MemoryConfig{})
		ended := 0
		subscribe(t, m, "a", backplane.Handler{Message: func([]byte) {
			time.Sleep(time.Second)
			ended++
		}})
		go m.Publish(t.Context(), "a", nil) // ends after a second
		synctest.Wait()
		m.Publish(t.Context(), "a", nil)
		if m.Close(); ended != 1 {
			t.Errorf("%d calls have ended, want 1: the one that had begun", ended)
		}
	})
}

// An idle subscription uses little memory, because a server may have 100,000 idle rooms.
func TestSubscriptionSize(t *testing.T) {
	const rooms, limit = 100_000, 240
	m := open(t, backplane.MemoryConfig{})
	names := make([]room.Name, rooms)
	for i := range names {
		names[i] = room.Name(fmt.Sprint("room-", i))
	}
	cancels := make([]func(), rooms)
	h := backplane.Handler{Entry: func(backplane.Entry) {}}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i, name := range names {
		cancels[i] = subscribe(t, m, name, h)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	size := int(after.HeapAlloc-before.HeapAlloc) / rooms
	t.Logf("%d bytes per subscription", size)
	if size > limit {
		t.Errorf("idle subscription uses %d bytes, want at most %d", size, limit)
	}
	for _, cancel := range cancels {
		cancel()
	}
}

func BenchmarkAppend(b *testing.B) {
	data := make([]byte, 100)
	for _, key := range []bool{false, true} {
		b.Run(fmt.Sprint("key=", key), func(b *testing.B) {
			m := backplane.NewMemory(backplane.MemoryConfig{Messages: 1000, Age: 5 * time.Minute, Bytes: 64 << 20})
			defer m.Close()
			delivered := 0
			m.Subscribe("a", backplane.Handler{Entry: func(backplane.Entry) { delivered++ }})
			b.ReportAllocs()
			for i := range b.N {
				k := ""
				if key {
					k = fmt.Sprint(i)
				}
				if _, _, err := m.Append(b.Context(), "a", k, data); err != nil && !errors.Is(err, backplane.ErrKeysFull) {
					b.Fatal(err)
				}
			}
			if delivered == 0 {
				b.Error("got no delivery")
			}
		})
	}
}
