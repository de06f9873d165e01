package presence_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"example.com/presence/pkg/presence"
	"example.com/presence/pkg/presence/backplane"
)

// A room that has been empty for the age of the history is dropped with it, and
// gives no id twice.
func TestRoomIsDropped(t *testing.T) {
	inBubble(t, presence.Config{Linger: -1, HistoryAge: time.Minute}, func(t *testing.T, b *bubble) {
		alice := testUser("alice")
		first := b.post("/messages?room=a", `{"data":1}`, alice)
		time.Sleep(59 * time.Second)
		if got := names(b.stream("/events?room=a", strings.TrimSuffix(first, "1")+"0", alice).take()); got != " message sync user count:1" {
			t.Errorf("after 59 s in an empty room: got %q", got)
		}
		b.post("/messages?room=b", `{"data":1}`, alice)
		second := b.post("/messages?room=b", `{"data":2}`, alice)
		time.Sleep(2 * time.Minute)
		third := b.post("/messages?room=b", `{"data":3}`, alice)
		if first == third || second == third {
			t.Errorf("two messages have id %s", third)
		}
		for id, want := range map[string]string{first: ` reset:{"reason":"history"}`, second: " message", third: ""} {
			c := b.stream("/events?room=b", id, alice)
			time.Sleep(time.Second)
			if got := names(c.take()); !strings.HasPrefix(got, want+" sync") {
				t.Errorf("with id %s: got %q, want %q first", id, got, want)
			}
			c.close()
		}
		if got := names(b.stream("/events?room=a", first, alice).take()); !strings.HasPrefix(got, " sync") {
			t.Errorf("the room that somebody was in: got %q", got)
		}
	})
}

// What is said in an empty room keeps it.
func TestMessageKeepsRoom(t *testing.T) {
	inBubble(t, presence.Config{HistoryAge: time.Minute}, func(t *testing.T, b *bubble) {
		alice := testUser("alice")
		first := b.post("/messages", `{"data":1}`, alice)
		time.Sleep(50 * time.Second)
		b.post("/messages", `{"data":2}`, alice)
		time.Sleep(50 * time.Second)
		if got := names(b.stream("/events", first, alice).take()); got != " message sync user count:1" {
			t.Errorf("got %q", got)
		}
	})
}

// A message is in the history for its age and no longer, whoever is there.
func TestHistoryAge(t *testing.T) { // promise 3
	inBubble(t, presence.Config{HistoryAge: time.Minute}, func(t *testing.T, b *bubble) {
		alice := testUser("alice")
		stay := b.stream("/events", "", alice)
		start := stay.take()[1].id
		b.post("/messages", `{"data":1}`, alice)
		time.Sleep(time.Minute - time.Millisecond)
		if got := names(b.stream("/events", start, alice).take()); !strings.HasPrefix(got, " message sync") {
			t.Errorf("a moment before it is a minute old: got %q", got)
		}
		time.Sleep(time.Millisecond)
		if got := names(b.stream("/events", start, alice).take()); !strings.HasPrefix(got, ` reset:{"reason":"history"}`) {
			t.Errorf("when it is a minute old: got %q", got)
		}
	})
}

// A message that is sent again within two minutes is the same one.
func TestRetriedMessage(t *testing.T) { // promise 3
	inBubble(t, presence.Config{}, func(t *testing.T, b *bubble) {
		alice, bob := testUser("alice"), testUser("bob")
		c := b.stream("/events", "", alice)
		c.take()
		const body = `{"data":1,"id":"mine"}`
		first := b.post("/messages", body, alice)
		time.Sleep(2*time.Minute - 1)
		for range 100 { // more than a room has slots for what is on its way
			if again := b.post("/messages", body, alice); again != first {
				t.Fatalf("sent again it has id %s, not %s", again, first)
			}
		}
		if got := names(c.take()); strings.Count(got, "message") != 1 {
			t.Errorf("the room heard %q", got)
		}
		if other := b.post("/messages", body, bob); other == first {
			t.Error("another user's message is taken for it")
		}
		other := b.stream("/events?room=other", "", bob)
		b.post("/messages?room=other", body, alice)
		if got := names(other.take()); !strings.HasSuffix(got, "message") {
			t.Errorf("another room heard %q", got)
		}
		time.Sleep(time.Nanosecond)
		if again := b.post("/messages", body, alice); again == first {
			t.Error("after two minutes it is still known")
		}
	})
}

// The updates of a flush interval become one: the last.
func TestStateIsCoalesced(t *testing.T) {
	inBubble(t, presence.Config{}, func(t *testing.T, b *bubble) {
		alice := testUser("alice")
		if answer := b.ask("PUT", "/state", `{"n":0}`, alice); answer.Code != http.StatusConflict {
			t.Errorf("of one who is not there: got %d", answer.Code)
		}
		c := b.stream("/events", "", testUser("watcher"))
		tab := b.stream("/events", "", alice)
		time.Sleep(time.Second)
		c.take()
		for n := range 1000 {
			if answer := b.ask("PUT", "/state", fmt.Sprintf(`{"n": %d}`, n), alice); answer.Code != http.StatusNoContent {
				t.Fatalf("got %d %s", answer.Code, answer.Body)
			}
		}
		time.Sleep(time.Second)
		got := c.take()
		if len(got) != 2 || got[0].data != `{"id":"alice","info":{"n":0}}` || got[1].name != "update" || got[1].data != `{"id":"alice","info":{"n":999}}` || got[1].id == "" {
			t.Errorf("the room heard %+v, want the first and the last", got)
		}
		// It holds until the user has left.
		tab.close()
		time.Sleep(4 * time.Second)
		tab = b.stream("/events", "", alice)
		if got := tab.take()[1].data; !strings.Contains(got, `"info":{"n":999}`) {
			t.Errorf("after a reload: got %s", got)
		}
		tab.close()
		time.Sleep(6 * time.Second)
		tab = b.stream("/events", "", alice)
		if got := tab.take()[1].data; strings.Contains(got, `999`) {
			t.Errorf("after it had left: got %s", got)
		}
	})
}

// Who is removed is out at once, is refused for that time, and no longer.
func TestBan(t *testing.T) {
	admin := presence.User{ID: "admin", Admin: true}
	inBubble(t, presence.Config{Linger: time.Minute}, func(t *testing.T, b *bubble) {
		alice := presence.User{ID: "a/l ice", Join: []string{"*"}, Send: []string{"*"}}
		watcher := b.stream("/events?room=r", "", testUser("watcher"))
		one, two := b.stream("/events?room=r", "", alice), b.stream("/events?room=r", "", alice)
		elsewhere := b.stream("/events", "", alice)
		time.Sleep(time.Second)
		for _, c := range []*clientStream{watcher, one, two, elsewhere} {
			c.take()
		}
		if answer := b.ask("DELETE", "/members/a%2Fl%20ice?room=r&for=10s", "", admin); answer.Code != http.StatusNoContent {
			t.Fatalf("got %d %s", answer.Code, answer.Body)
		}
		for _, c := range []*clientStream{one, two} {
			if got := names(c.take()); got != `goodbye:{"reason":"removed"}` || !c.ended() {
				t.Errorf("who was removed hears %q, ended %v", got, c.ended())
			}
		}
		if got := watcher.take(); len(got) != 2 || got[0].name != "leave" || !strings.HasSuffix(got[0].data, `"connections":1,"users":1,"reason":"removed"}`) || got[1].data != "1" {
			t.Errorf("the others hear %+v", got)
		}
		if got := names(elsewhere.take()); got != "" || elsewhere.ended() {
			t.Errorf("in another room it hears %q", got)
		}
		for range 2 {
			if answer := b.ask("DELETE", "/members/a%2Fl%20ice?room=r", "", admin); answer.Code != http.StatusNotFound {
				t.Errorf("removed again: got %d", answer.Code)
			}
			for _, path := range []string{"GET /events?room=r", "POST /messages?room=r", "PUT /state?room=r", "GET /presence?room=r"} {
				method, path, _ := strings.Cut(path, " ")
				body := ""
				if method[0] == 'P' {
					body = `{"data":1}`
				}
				if answer := b.ask(method, path, body, alice); answer.Code != http.StatusForbidden || !strings.Contains(answer.Body.String(), "removed") {
					t.Errorf("%s: got %d %s, want 403", path, answer.Code, answer.Body)
				}
			}
			time.Sleep(10*time.Second - 2)
		}
		time.Sleep(4 * time.Nanosecond)
		if c := b.stream("/events?room=r", "", alice); c.status != http.StatusOK || !strings.Contains(names(c.take()), "sync") {
			t.Errorf("after the time it is answered with %d", c.status)
		}
	})
}

// slowBody is read when it is let go.
type slowBody struct {
	io.Reader
	release chan struct{}
}

func (b slowBody) Read(p []byte) (int, error) { <-b.release; return b.Reader.Read(p) }

// Who is removed while the body of its message is on its way says nothing.
func TestBanWhileSending(t *testing.T) {
	inBubble(t, presence.Config{}, func(t *testing.T, b *bubble) {
		alice := testUser("alice")
		watcher := b.stream("/events", "", testUser("watcher"))
		b.stream("/events", "", alice)
		r := b.request(t.Context(), "POST", "/messages", `{"data":1}`, alice)
		body := slowBody{r.Body, make(chan struct{})}
		r.Body = io.NopCloser(body)
		answer, done := httptest.NewRecorder(), make(chan struct{})
		go func() {
			defer close(done)
			b.ServeHTTP(answer, r)
		}()
		synctest.Wait()
		if err := b.Kick(t.Context(), "lobby", "alice", time.Minute); err != nil {
			t.Fatal(err)
		}
		close(body.release)
		<-done
		if answer.Code != http.StatusForbidden {
			t.Errorf("got %d %s", answer.Code, answer.Body)
		}
		b.post("/messages", `{"data":2}`, testUser("bob")) // no slot was lost
		time.Sleep(time.Second)
		if got := names(watcher.take()); strings.Count(got, "message") != 1 {
			t.Errorf("the room hears %q", got)
		}
	})
}

// A user may be removed while it lingers, too.
func TestBanInGracePeriod(t *testing.T) {
	inBubble(t, presence.Config{Linger: time.Minute}, func(t *testing.T, b *bubble) {
		watcher := b.stream("/events", "", testUser("watcher"))
		b.stream("/events", "", testUser("alice")).close()
		time.Sleep(time.Second)
		watcher.take()
		if err := b.Kick(t.Context(), "lobby", "alice", 24*time.Hour); err != nil {
			t.Fatal(err)
		}
		if got := watcher.take(); len(got) != 1 || got[0].name != "leave" || !strings.Contains(got[0].data, `"removed"`) {
			t.Errorf("the others hear %+v", got)
		}
	})
}

func TestExpiring(t *testing.T) { // promise 7
	inBubble(t, presence.Config{}, func(t *testing.T, b *bubble) {
		until := func(user string, d time.Duration) *clientStream {
			u := testUser(user)
			u.Expires = time.Now().Add(d)
			return b.stream("/events", "", u)
		}
		long, short, never := until("long", 40*time.Second), until("short", 10*time.Second+1), b.stream("/events", "", testUser("never"))
		time.Sleep(time.Second) // the flush interval, at whose end short and never have their sync
		if got := names(short.take()); got != ` sync user count:3 expiring:{"in":10}` {
			t.Errorf("less than 30 s before the end: got %q", got)
		}
		long.take()
		never.take()
		time.Sleep(9*time.Second - 1)
		if got := names(long.take()); got != "" {
			t.Errorf("more than 30 s before its end: got %q", got)
		}
		time.Sleep(time.Nanosecond)
		if got := names(long.take()); got != `expiring:{"in":30}` {
			t.Errorf("30 s before its end: got %q", got)
		}
		if got := names(short.take()); got != "" || short.ended() {
			t.Errorf("before its end: got %q", got)
		}
		time.Sleep(time.Nanosecond)
		if got := names(short.take()); got != `goodbye:{"reason":"expired"}` || !short.ended() {
			t.Errorf("at its end: got %q", got)
		}
		time.Sleep(30 * time.Second)
		if got := names(long.take()); !strings.HasSuffix(got, `goodbye:{"reason":"expired"}`) || !long.ended() {
			t.Errorf("at its end: got %q", got)
		}
		time.Sleep(24 * time.Hour)
		if got := names(never.take()); strings.Contains(got, "expir") || never.ended() {
			t.Errorf("of a token without an end: got %.99q", got)
		}
	})
}

// Who was warned and renewed its token is warned again.
func TestExpiringTwice(t *testing.T) { // promise 7
	inBubble(t, presence.Config{}, func(t *testing.T, b *bubble) {
		alice := testUser("alice")
		alice.Expires = time.Now().Add(40 * time.Second)
		c := b.stream("/events", "", alice)
		for range 3 {
			c.take()
			time.Sleep(10 * time.Second)
			if got := names(c.take()); !strings.Contains(got, `expiring:{"in":30}`) {
				t.Fatalf("got %q", got)
			}
			time.Sleep(20 * time.Second)
			alice.Expires = time.Now().Add(40 * time.Second)
			if answer := b.ask("POST", "/session", `{"token":"t"}`, alice); answer.Code != http.StatusNoContent {
				t.Fatalf("got %d %s", answer.Code, answer.Body)
			}
		}
		if c.ended() {
			t.Error("it has ended")
		}
	})
}

// Who renews its token over and over, each time for a moment, hears of another
// end only when that is in another second; the stream ends with the last one.
func TestExpiringOncePerSecond(t *testing.T) { // promise 7
	inBubble(t, presence.Config{Heartbeat: time.Minute}, func(t *testing.T, b *bubble) {
		time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second)))
		alice := testUser("alice")
		alice.Expires = time.Now().Add(20 * time.Second)
		c := b.stream("/events", "", alice)
		if got := names(c.take()); got != ` sync user count:1 expiring:{"in":20}` {
			t.Fatalf("got %q", got)
		}
		for range 2999 {
			alice.Expires = alice.Expires.Add(time.Millisecond)
			if answer := b.ask("POST", "/session", `{"token":"t"}`, alice); answer.Code != http.StatusNoContent {
				t.Fatalf("got %d %s", answer.Code, answer.Body)
			}
		}
		if got := names(c.take()); got != `expiring:{"in":21} expiring:{"in":22}` {
			t.Errorf("after 3 s more in steps of a millisecond: got %q", got)
		}
		time.Sleep(time.Until(alice.Expires) - time.Millisecond)
		if got := names(c.take()); got != "" || c.ended() {
			t.Errorf("before the end: got %q", got)
		}
		time.Sleep(time.Millisecond)
		if got := names(c.take()); got != `goodbye:{"reason":"expired"}` || !c.ended() {
			t.Errorf("at the end: got %q", got)
		}
	})
}

// A limit that is reached is logged once a minute, not once a refusal.
func TestLimitsAreLoggedOncePerMinute(t *testing.T) {
	var log bytes.Buffer
	c := presence.Config{MaxConnections: 2, MaxConnectionsPerUser: 1, MaxRooms: 1, MessageRate: 1, MessageBurst: 1, Logger: slog.New(slog.NewTextHandler(&log, nil))}
	inBubble(t, c, func(t *testing.T, b *bubble) {
		b.stream("/events", "", testUser("alice"))
		for half := range 6 { // of a minute
			for range 100 {
				if got := names(b.stream("/events", "", testUser("alice")).take()); got != ` goodbye:{"reason":"full"}` {
					t.Fatalf("a second stream of one user: got %q", got)
				}
				if got := names(b.stream("/events?room=other", "", testUser("bob")).take()); got != ` goodbye:{"reason":"full"}` {
					t.Fatalf("a second room: got %q", got)
				}
				b.ask("POST", "/messages", `{"data":1}`, testUser("alice"))
			}
			bob := b.stream("/events", "", testUser("bob"))
			for range 100 {
				if got := names(b.stream("/events", "", testUser("carol")).take()); got != ` goodbye:{"reason":"full"}` {
					t.Fatalf("a third stream of two: got %q", got)
				}
			}
			bob.close()
			for _, line := range []string{"as many streams are open", "the user has as many streams", "as many rooms", "faster than it may"} {
				if n := strings.Count(log.String(), line); n != half/2+1 {
					t.Errorf("after %d half minutes %q is logged %d times", half, line, n)
				}
			}
			time.Sleep(30 * time.Second)
		}
	})
}

// What strangers bring about is logged once a minute, too: a host's
// authenticator that fails, and a table that is full.
func TestRefusalsAreLoggedOncePerMinute(t *testing.T) {
	var log bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		server, err := presence.New(presence.Portable(presence.Config{
			Authenticator: authenticator(func(*http.Request) (presence.User, error) { return presence.User{}, errors.New("no session") }),
			Logger:        slog.New(slog.NewTextHandler(&log, nil)),
		}))
		if err != nil {
			t.Fatal(err)
		}
		defer server.Shutdown(t.Context())
		for range 100 {
			answer := httptest.NewRecorder()
			server.ServeHTTP(answer, httptest.NewRequest("GET", "/presence", nil))
			if answer.Code != http.StatusUnauthorized || strings.Contains(answer.Body.String(), "no session") {
				t.Fatalf("got %d %s", answer.Code, answer.Body)
			}
		}
	})
	if n := strings.Count(log.String(), "no session"); n != 1 {
		t.Errorf("it is logged %d times", n)
	}
	log.Reset()
	synctest.Test(t, func(t *testing.T) {
		memory := backplane.NewMemory(backplane.MemoryConfig{Messages: 100, Age: time.Minute, Bytes: 1 << 20, MaxKeys: 1})
		if _, _, err := memory.Append(t.Context(), "other", "key", []byte("x")); err != nil {
			t.Fatal(err)
		}
		b := newBubble(t, presence.Config{Backplane: memory, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		for range 100 {
			answer := b.ask("POST", "/messages", `{"data":1,"id":"mine"}`, testUser("alice"))
			if answer.Code != http.StatusServiceUnavailable || answer.Header().Get("Retry-After") == "" {
				t.Fatalf("got %d %s", answer.Code, answer.Body)
			}
		}
		b.post("/messages", `{"data":1}`, testUser("alice"))
	})
	if n := strings.Count(log.String(), "ids of their own"); n != 1 {
		t.Errorf("the table of ids is full: logged %d times in %s", n, log.String())
	}
}

// What has run out is forgotten, though nobody asks for it.
func TestExpiredDataIsFreed(t *testing.T) {
	inBubble(t, presence.Config{HistoryAge: 2 * time.Minute, MessageRate: 1}, func(t *testing.T, b *bubble) {
		b.stream("/events", "", testUser("alice"))
		b.post("/messages", `{"data":1,"id":"mine"}`, testUser("alice"))
		if err := b.Kick(t.Context(), "lobby", "alice", time.Minute); err != nil {
			t.Fatal(err)
		}
		b.stream("/events", "", testUser("bob")) // so that the room stays
		if got := b.Remembered(); slices.Contains(got[:], 0) {
			t.Errorf("at first got %v", got)
		}
		time.Sleep(3*time.Minute + time.Second)
		if got := b.Remembered(); got != [4]int{} {
			t.Errorf("in the end got %v", got)
		}
	})
}

// A user that sends too fast waits as long as it is told, and nobody else does.
func TestMessageRate(t *testing.T) {
	inBubble(t, presence.Config{MessageRate: 0.5, MessageBurst: 3}, func(t *testing.T, b *bubble) {
		alice := testUser("alice")
		for range 3 {
			b.post("/messages", `{"data":1}`, alice)
		}
		for range 3 {
			time.Sleep(300 * time.Millisecond)
			answer := b.ask("POST", "/messages?room=other", `{"data":1}`, alice)
			if answer.Code != http.StatusTooManyRequests || answer.Header().Get("Retry-After") != "2" {
				t.Fatalf("got %d, Retry-After %q", answer.Code, answer.Header().Get("Retry-After"))
			}
			b.post("/messages", `{"data":1}`, testUser("bob"))
			time.Sleep(2 * time.Second)
			b.post("/messages", `{"data":1}`, alice)
		}
		admin := testUser("admin")
		admin.Admin = true
		for range 100 {
			b.post("/messages", `{"data":1}`, admin)
		}
	})
}

// held is a line that the server finds out about only when it is let go: its
// request is between the door and its place.
type held struct {
	*clientStream
	release chan struct{}
}

func (c held) SetWriteDeadline(t time.Time) error {
	if t.IsZero() { // the answer becomes a stream
		<-c.release
	}
	return nil
}

// A user that is removed, or signs out, or renews its token, while a stream of
// its own is on its way in: it holds for that stream too.
func TestActionsDuringJoin(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(*bubble, presence.User)
		want string
	}{
		"removed": {func(b *bubble, u presence.User) {
			if err := b.Kick(b.t.Context(), "lobby", u.ID, time.Minute); err != nil {
				b.t.Fatal(err)
			}
		}, ` goodbye:{"reason":"removed"}`},
		"signed out": {func(b *bubble, u presence.User) { b.ask("DELETE", "/session", "", u) }, ` goodbye:{"reason":"signed out"}`},
		"renewed": {func(b *bubble, u presence.User) {
			u.Expires = time.Now().Add(time.Hour)
			b.ask("POST", "/session", `{"token":"t"}`, u)
		}, ` sync user count:1`},
		"nothing": {func(*bubble, presence.User) {}, ` sync user count:1 goodbye:{"reason":"expired"}`},
	} {
		inBubble(t, presence.Config{}, func(t *testing.T, b *bubble) {
			alice := testUser("alice")
			alice.Session, alice.Expires = "cookie", time.Now().Add(20*time.Second)
			if name == "removed" {
				b.stream("/events", "", alice) // or there is nobody to remove
			}
			h := held{&clientStream{header: http.Header{}}, make(chan struct{})}
			r := b.request(t.Context(), "GET", "/events", "", alice)
			r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/2.0", 2, 0
			go b.ServeHTTP(h, r) // ends with the stream
			time.Sleep(time.Second)
			c.do(b, alice)
			close(h.release)
			time.Sleep(time.Minute)
			var heard []event
			for _, e := range h.take() {
				if e.name != "ping" && e.name != "expiring" {
					heard = append(heard, e)
				}
			}
			if got := names(heard); got != c.want {
				t.Errorf("%s: got %q, want %q", name, got, c.want)
			}
		})
	}
}

// A stream that has ended is forgotten, though its room and its token go on,
// whether it had its sync or not.
func TestEndedStreamIsFreed(t *testing.T) {
	inBubble(t, presence.Config{Coalesce: 750 * time.Millisecond, Linger: -1}, func(t *testing.T, b *bubble) {
		alice := testUser("alice")
		alice.Expires = time.Now().Add(time.Hour)
		b.stream("/events", "", testUser("watcher"))
		visit := func(stay time.Duration) weak.Pointer[clientStream] {
			c := b.stream("/events", "", alice)
			time.Sleep(stay)
			if synced := strings.Contains(names(c.take()), "sync"); synced != (stay > 0) {
				t.Errorf("after %v it has its sync: %v", stay, synced)
			}
			c.close()
			return weak.Make(c)
		}
		const visits = 20 // of each kind
		var ended []weak.Pointer[clientStream]
		for range visits {
			ended = append(ended, visit(0), visit(10*time.Second))
		}
		for range 3 { // what is in a pool outlives one
			runtime.GC()
		}
		held := map[bool]int{} // by whether they had their sync
		for i, c := range ended {
			if c.Value() != nil {
				held[i%2 == 1]++
			}
		}
		// The runtime keeps stopped timers for a while, up to a quarter of all.
		if held[true] > visits/2 || held[false] > visits/2 {
			t.Errorf("of %d streams each that had their sync, or not, are held: %v", visits, held)
		}
	})
}

// Who waits for its sync when the server is shut down gets it before its
// goodbye.
func TestPromise8SyncBeforeGoodbye(t *testing.T) {
	inBubble(t, presence.Config{Coalesce: 750 * time.Millisecond}, func(t *testing.T, b *bubble) {
		b.stream("/events", "", testUser("alice"))
		c := b.stream("/events", "", testUser("bob"))
		b.post("/messages", `{"data":1}`, testUser("alice"))
		if got := names(c.take()); got != "" { // the block of retry has no name
			t.Fatalf("within the flush interval it receives %q", got)
		}
		if err := b.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := names(c.take()); got != `sync user count:2 message goodbye:{"reason":"draining"}` {
			t.Errorf("it hears %q", got)
		}
	})
}
