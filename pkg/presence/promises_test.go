package presence_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/presence/pkg/presence"
	"example.com/presence/pkg/presence/auth"
)

// Promises 1 and 2: in a burst of joins, no client receives a count that is lower than its previous
// one. No client receives more counts than its own and one per flush interval, and the last count
// of each client is the true one. 2,000 clients (400 with -short) join as fast as they can.
func TestPromise1And2Storm(t *testing.T) {
	each(t, func(t *testing.T, open opener) {
		clients := sized(400, 2000, 2000)
		h := open(t, presence.Config{})
		tokens := make([]string, clients)
		for i := range tokens {
			tokens[i] = bearer(t, fmt.Sprint("user-", i))
		}
		start := time.Now()
		opened := make(chan *tab, clients)
		var wait sync.WaitGroup
		for worker := range 50 {
			wait.Go(func() {
				for i := worker; i < clients; i += 50 {
					opened <- h.stream("/events", tokens[i])
				}
			})
		}
		wait.Wait()
		close(opened)
		for c := range opened {
			counts, last := 0, 0
			for last < clients {
				n, err := strconv.Atoi(c.next("user count").data)
				if counts++; err != nil || n < last {
					t.Fatalf("got count %d after %d, %v; want no lower count", n, last, err)
				}
				last = n
			}
			if most := int(time.Since(start)/(50*time.Millisecond)) + 3; counts > most || last != clients {
				t.Fatalf("got %d counts up to %d, want at most %d up to %d", counts, last, most, clients)
			}
		}
	})
}

// Promise 3: a client receives each message that is published after its response header. The
// messages arrive in order and after the sync, even if the sync is sent later.
func TestPromise3NothingIsLostBetweenResponseAndSync(t *testing.T) {
	t.Parallel() // it waits for intervals of 200 ms
	rounds := sized(8, 20, 100)
	each(t, func(t *testing.T, open opener) {
		h := open(t, presence.Config{Coalesce: 200 * time.Millisecond})
		alice := bearer(t, "alice")
		for n := range rounds {
			c := h.stream("/events", bearer(t, fmt.Sprint("c", n))) // a new member waits for its sync
			first := h.post("/messages", alice, `{"data":1}`)
			d := h.stream("/events", bearer(t, fmt.Sprint("d", n))) // usually in the same interval
			second := h.post("/messages", alice, `{"data":2}`)
			check := func(c *tab, names, ids []string) {
				for i, name := range names {
					e, err := c.read(patience)
					if err != nil || e.name != name || ids[i] != "…" && e.id != ids[i] {
						t.Fatalf("round %d: event %d: got %+v, %v; want %q with id %s", n, i, e, err, name, ids[i])
					}
				}
			}
			check(c, []string{"", "sync", "user count", "message"}, []string{"", "…", "…", first})
			check(d, []string{"", "sync", "user count", "message"}, []string{"", first, first, second})
		}
	})
}

// Promises 3 and 4: a client that never reads is disconnected, and other clients still receive
// every message.
func TestPromise3And4StoppedClient(t *testing.T) {
	each(t, func(t *testing.T, open opener) {
		const clients = 10
		messages := sized(750, 1500, 1500)                      // 6 MiB or more
		h := open(t, presence.Config{Linger: -1, CostRate: -1}) // the sender costs 90 KB per message
		stopped, err := net.Dial("tcp", strings.TrimPrefix(h.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer stopped.Close()
		stopped.(*net.TCPConn).SetReadBuffer(4 << 10)
		fmt.Fprintf(stopped, "GET /events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", bearer(t, "stopped"))
		healthy := make([]*tab, clients)
		for i := range healthy {
			healthy[i] = h.stream("/events", bearer(t, fmt.Sprint("user-", i)))
		}
		healthy[0].until("user count", "11")
		sender, text := bearer(t, "sender"), strings.Repeat("x", 8<<10)
		go func() {
			for i := range messages {
				h.post("/messages", sender, fmt.Sprintf(`{"event":"n","data":[%d,"%s"]}`, i, text))
			}
		}()
		for _, c := range healthy {
			for i := range messages {
				if e := c.next("n"); !strings.Contains(e.data, fmt.Sprintf(`"data":[%d,`, i)) {
					t.Fatalf("got %.100s, want message %d", e.data, i)
				}
			}
		}
		// The stopped client is no longer counted.
		h.stream("/events", bearer(t, "last")).until("user count", "11")
	})
}

// unsentSnapshots returns the number of unsent snapshots and their bytes.
func unsentSnapshots(h *testServer) (snapshots, bytes int) {
	stats := h.Stats()
	return stats.SnapshotsUnsent, stats.SnapshotBytesUnsent
}

// Promise 9: a user that reads none of its snapshots gets at most half of the budget, and is then
// refused. Another user gets its snapshot, and no client is disconnected.
func TestPromise9StoppedJoiners(t *testing.T) {
	each(t, func(t *testing.T, open opener) {
		const members, joiners = 400, 12
		info, err := json.Marshal(strings.Repeat("x", 1000))
		if err != nil {
			t.Fatal(err)
		}
		config := presence.Config{Linger: 5 * time.Minute}
		fill := func() (h *testServer, watcher *tab, size int) {
			h = open(t, config)
			for i := range members {
				h.stream("/events", mint(t, auth.Claims{Sub: fmt.Sprint("user-", i), Info: info, TTL: time.Hour})).close()
			}
			watcher = h.stream("/events", bearer(t, "watcher"))
			size = len(watcher.next("sync").data)
			watcher.until("user count", "1")
			if size < 1000*members {
				t.Fatalf("got a snapshot of %d bytes, want at least %d", size, 1000*members)
			}
			return h, watcher, size
		}
		_, _, size := fill()
		config = presence.WithMaxSnapshots(config, size*9/2)
		h, watcher, size := fill()
		join := func(user string) (stopped *stoppedJoiner, refused bool) {
			stopped = h.stopped(t, user)
			for begun := ""; !strings.HasSuffix(begun, `"members":[`); { // so that each joiner has its own snapshot
				b, err := stopped.ReadByte()
				if err != nil {
					t.Fatalf("%s: %q, %v", user, begun, err)
				}
				if begun += string(b); strings.HasSuffix(begun, `{"reason":"full"}`) {
					return nil, true
				}
			}
			return stopped, false
		}
		var held []*stoppedJoiner
		for range 10 {
			stopped, refused := join("mallory")
			if refused {
				break
			}
			held = append(held, stopped)
			if states, bytes := unsentSnapshots(h); bytes > size*9/2 {
				t.Fatalf("got %d unsent snapshots of %d bytes, want at most %d bytes", states, bytes, size*9/2)
			}
		}
		if len(held) != 2 {
			t.Errorf("a user that reads nothing got %d snapshots, want 2: half of the space of 4.5", len(held))
		}
		other, refused := join("alice")
		if refused {
			t.Fatal("another user was refused")
		}
		watcher.until("user count", "4")
		for i, stopped := range append(held, other) {
			if n, err := stopped.rest(); err != nil || n < size {
				t.Errorf("joiner %d: got %d bytes, %v; want the complete snapshot of %d bytes", i, n, err, size)
			}
		}
		watcher.until("user count", "1")
		if states, bytes := unsentSnapshots(h); states != 0 || bytes != 0 {
			t.Errorf("at the end: got %d unsent snapshots of %d bytes, want none", states, bytes)
		}
	})
}

// stoppedJoiner is a stream whose client reads only when the test reads.
type stoppedJoiner struct {
	*bufio.Reader
	conn net.Conn
}

// stopped opens a stream of the user in the lobby.
func (h *testServer) stopped(t *testing.T, user string) *stoppedJoiner {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(h.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	fmt.Fprintf(c, "GET /events HTTP/1.0\r\nAuthorization: Bearer %s\r\n\r\n", bearer(t, user))
	return &stoppedJoiner{bufio.NewReaderSize(c, 16), c}
}

// rest reads until the user count, closes the stream, and returns the number of bytes.
func (s *stoppedJoiner) rest() (n int, err error) {
	defer s.conn.Close()
	for {
		line, err := s.ReadString('\n')
		if n += len(line); err != nil || line == "event: user count\n" {
			return n, err
		}
	}
}

// Promise 8: Shutdown ends every stream with goodbye draining after the last message. Afterwards
// the server rejects new streams and messages, and /healthz still returns 200.
func TestPromise8Shutdown(t *testing.T) {
	each(t, func(t *testing.T, open opener) {
		const clients = 500
		h := open(t, presence.Config{})
		alice := bearer(t, "alice")
		streams := make([]*tab, clients)
		for i := range streams {
			streams[i] = h.stream("/events", alice)
		}
		streams[0].until("user count", strconv.Itoa(clients))
		id := h.post("/messages", alice, `{"data":"the last one"}`)

		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		done := make(chan error)
		go func() { done <- h.Shutdown(ctx) }()
		for i, c := range streams {
			events := c.rest()
			last := events[len(events)-1]
			if last.name != "goodbye" || last.data != `{"reason":"draining"}` {
				t.Fatalf("stream %d: got %+v last, want goodbye draining", i, last)
			}
			if before := events[len(events)-2]; before.name != "message" || before.id != id {
				t.Fatalf("stream %d: got %+v before the goodbye, want message %s", i, before, id)
			}
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		// The server still accepts connections: a new client receives a goodbye.
		c := h.stream("/events", alice)
		if e, err := c.read(patience); err != nil || e.retry < "1000" || e.retry > "3000" {
			t.Errorf("new client: got %+v, %v; want a retry of 1 to 3 s", e, err)
		}
		c.expect("goodbye", `{"reason":"draining"}`)
		if events := c.rest(); len(events) != 0 {
			t.Errorf("after the goodbye: got %+v, want no event", events)
		}
		post := h.ask("POST", "/messages", alice, "x", "Content-Type", "text/plain")
		ready := h.ask("GET", "/readyz", "", "")
		for _, r := range []*http.Response{post, ready} {
			if r.StatusCode != http.StatusServiceUnavailable || r.Header.Get("Retry-After") == "" {
				t.Errorf("%s: got %s, Retry-After %q; want 503 with Retry-After", r.Request.URL.Path, r.Status, r.Header.Get("Retry-After"))
			}
		}
		if r := h.ask("GET", "/healthz", "", ""); r.StatusCode != http.StatusOK {
			t.Errorf("/healthz: got %s, want 200", r.Status)
		}
	})
}

// Promises 3 and 8: a shutdown under load ends each stream with a goodbye, after every accepted
// message. New streams and messages keep arriving during the shutdown.
func TestPromise3And8ShutdownUnderLoad(t *testing.T) {
	each(t, func(t *testing.T, open opener) {
		h := open(t, presence.Config{})
		alice := bearer(t, "alice")
		stay := h.stream("/events", alice)
		stay.next("user count")
		var wait sync.WaitGroup
		accepted := make(chan string, 100_000)
		for range 4 {
			wait.Go(func() {
				for {
					id, err := h.Publish(t.Context(), "lobby", "", 1)
					if err != nil {
						return
					}
					accepted <- id
				}
			})
			wait.Go(func() {
				for {
					events := h.stream("/events", alice).rest()
					if last := events[len(events)-1]; last.name != "goodbye" {
						t.Errorf("got %+v last on a stream, want goodbye", last)
					}
					if len(events) == 2 { // it connected while draining
						return
					}
				}
			})
		}
		for range 1000 {
			stay.next("message")
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := h.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		wait.Wait()
		close(accepted)
		got := 1000
		for _, e := range stay.rest() {
			if e.name == "message" {
				got++
			}
		}
		if want := len(accepted); got != want {
			t.Errorf("got %d messages on the stream, want %d", got, want)
		}
	})
}
