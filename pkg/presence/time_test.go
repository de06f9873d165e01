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

// A room that has been empty for HistoryAge is dropped with its history. If it is recreated, it
// assigns no id twice.
func TestRoomIsDropped(t *testing.T) {
	inBubble(t, presence.Config{Linger: -1, HistoryAge: time.Minute}, func(t *testing.T, b *bubble) {
		alice := testUser("alice")
		first := b.post("/messages?room=a", `{"data":1}`, alice)
		time.Sleep(59 * time.Second)
		if got := names(b.stream("/events?room=a", strings.TrimSuffix(first, "1")+"0", alice).take()); got != " message sync user count:1" {
			t.Errorf("empty for 59 s: got %q, want the message", got)
		}
		b.post("/messages?room=b", `{"data":1}`, alice)
		second := b.post("/messages?room=b", `{"data":2}`, alice)
		time.Sleep(2 * time.Minute)
		third := b.post("/messages?room=b", `{"data":3}`, alice)
		if first == third || second == third {
			t.Errorf("got id %s for two messages, want different ids", third)
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
			t.Errorf("room with a client in the meantime: got %q, want sync without reset", got)
		}
	})
}

// A message to an empty room keeps the room for another HistoryAge.
func TestMessageKeepsRoom(t *testing.T) {
	inBubble(t, presence.Config{HistoryAge: time.Minute}, func(t *testing.T, b *bubble) {
		alice := testUser("alice")
		first := b.post("/messages", `{"data":1}`, alice)
		time.Sleep(50 * time.Second)
		b.post("/messages", `{"data":2}`, alice)
		time.Sleep(50 * time.Second)
		if got := names(b.stream("/events", first, alice).take()); got != " message sync user count:1" {
			t.Errorf("got %q, want the second message", got)
		}
	})
}

// Promise 3: a message stays in the history for exactly HistoryAge, with or without clients in the
// room.
func TestHistoryAge(t *testing.T) {
	inBubble(t, presence.Config{HistoryAge: time.Minute}, func(t *testing.T, b *bubble) {
		alice := testUser("alice")
		stay := b.stream("/events", "", alice)
		start := stay.take()[1].id
		b.post("/messages", `{"data":1}`, alice)
		time.Sleep(time.Minute - time.Millisecond)
		if got := names(b.stream("/events", start, alice).take()); !strings.HasPrefix(got, " message sync") {
			t.Errorf("1 ms before it is a minute old: got %q, want the message", got)
		}
		time.Sleep(time.Millisecond)
		if got := names(b.stream("/events", start, alice).take()); !strings.HasPrefix(got, ` reset:{"reason":"history"}`) {
			t.Errorf("when it is a minute old: got %q, want a reset", got)
		}
	})
}

// Promise 3: a message that is sent again with its idempotency key within two minutes is delivered
// once.
func TestRetriedMessage(t *testing.T) {
	inBubble(t, presence.Config{}, func(t *testing.T, b *bubble) {
		alice, bob := testUser("alice"), testUser("bob")
		c := b.stream("/events", "", alice)
		c.take()
		const body = `{"data":1,"id":"mine"}`
		first := b.post("/messages", body, alice)
		time.Sleep(2*time.Minute - 1)
		for range 100 { // more than a room has slots for messages in flight
			if again := b.post("/messages", body, alice); again != first {
				t.Fatalf("sent again: got id %s, want %s", again, first)
			}
		}
		if got := names(c.take()); strings.Count(got, "message") != 1 {
			t.Errorf("got %q, want one message", got)
		}
		if other := b.post("/messages", body, bob); other == first {
			t.Errorf("same id of another user: got %s again, want a new message", other)
		}
		other := b.stream("/events?room=other", "", bob)
		b.post("/messages?room=other", body, alice)
		if got := names(other.take()); !strings.HasSuffix(got, "message") {
			t.Errorf("same id in another room: got %q, want a message", got)
		}
		time.Sleep(time.Nanosecond)
		if again := b.post("/messages", body, alice); again == first {
			t.Errorf("after two minutes: got id %s again, want a new message", again)
		}
	})
}

// The updates of a flush interval are coalesced, so that only the last one is sent. The state is
// kept until the user has left.
func TestStateIsCoalesced(t *testing.T) {
	inBubble(t, presence.Config{}, func(t *testing.T, b *bubble) {
		alice := testUser("alice")
		if answer := b.ask("PUT", "/state", `{"n":0}`, alice); answer.Code != http.StatusConflict {
			t.Errorf("user not in the room: got %d, want 409", answer.Code)
		}
		c := b.stream("/events", "", testUser("watcher"))
		tab := b.stream("/events", "", alice)
		time.Sleep(time.Second)
		c.take()
		for n := range 1000 {
			if answer := b.ask("PUT", "/state", fmt.Sprintf(`{"n": %d}`, n), alice); answer.Code != http.StatusNoContent {
				t.Fatalf("got %d %s, want 204", answer.Code, answer.Body)
			}
		}
		time.Sleep(time.Second)
		got := c.take()
		if len(got) != 2 || got[0].data != `{"id":"alice","info":{"n":0}}` || got[1].name != "update" || got[1].data != `{"id":"alice","info":{"n":999}}` || got[1].id == "" {
			t.Errorf("got %+v, want the first and the last update", got)
		}
		// The state is kept during a reload, and dropped after a leave.
		tab.close()
		time.Sleep(4 * time.Second)
		tab = b.stream("/events", "", alice)
		if got := tab.take()[1].data; !strings.Contains(got, `"info":{"n":999}`) {
			t.Errorf("after a reload: got %s, want the last state", got)
		}
		tab.close()
		time.Sleep(6 * time.Second)
		tab = b.stream("/events", "", alice)
		if got := tab.take()[1].data; strings.Contains(got, `999`) {
			t.Errorf("after a leave: got %s, want no state", got)
		}
	})
}

// A removed user is disconnected immediately, and is rejected until its ban ends.
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
			t.Fatalf("got %d %s, want 204", answer.Code, answer.Body)
		}
		for _, c := range []*clientStream{one, two} {
			if got := names(c.take()); got != `goodbye:{"reason":"removed"}` || !c.ended() {
				t.Errorf("removed user: got %q, ended %v; want goodbye removed and the end", got, c.ended())
			}
		}
		if got := watcher.take(); len(got) != 2 || got[0].name != "leave" || !strings.HasSuffix(got[0].data, `"connections":1,"users":1,"reason":"removed"}`) || got[1].data != "1" {
			t.Errorf("watcher: got %+v, want leave with reason removed", got)
		}
		if got := names(elsewhere.take()); got != "" || elsewhere.ended() {
			t.Errorf("removed user in another room: got %q, ended %v; want no event and an open stream", got, elsewhere.ended())
		}
		for _, left := range []string{"10 s", "1 s"} {
			if answer := b.ask("DELETE", "/members/a%2Fl%20ice?room=r", "", admin); answer.Code != http.StatusNotFound {
				t.Errorf("removed again: got %d, want 404", answer.Code)
			}
			for _, path := range []string{"GET /events?room=r", "POST /messages?room=r", "PUT /state?room=r", "GET /messages?room=r", "GET /presence?room=r"} {
				method, path, _ := strings.Cut(path, " ")
				body := ""
				if method[0] == 'P' {
					body = `{"data":1}`
				}
				if answer := b.ask(method, path, body, alice); answer.Code != http.StatusForbidden || !strings.Contains(answer.Body.String(), `"detail":"you are banned from room \"r\" for another `+left+`"`) {
					t.Errorf("%s: got %d %s, want 403 and %s left", path, answer.Code, answer.Body, left)
				}
			}
			time.Sleep(10*time.Second - 2)
		}
		time.Sleep(4 * time.Nanosecond)
		if c := b.stream("/events?room=r", "", alice); c.status != http.StatusOK || !strings.Contains(names(c.take()), "sync") {
			t.Errorf("after the ban: got %d, want 200 and a sync", c.status)
		}
	})
}

// slowBody is a body that blocks until release is closed.
type slowBody struct {
	io.Reader
	release chan struct{}
}

func (b slowBody) Read(p []byte) (int, error) { <-b.release; return b.Reader.Read(p) }

// The server rejects a message if its sender is removed while the body arrives.
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
		if answer.Code != http.StatusForbidden || !strings.Contains(answer.Body.String(), `"detail":"you are banned from room \"lobby\" for another 60 s"`) {
			t.Errorf("message of a removed user: got %d %s, want 403 and 60 s left", answer.Code, answer.Body)
		}
		b.post("/messages", `{"data":2}`, testUser("bob")) // the rejected message has released its slot
		time.Sleep(time.Second)
		if got := names(watcher.take()); strings.Count(got, "message") != 1 {
			t.Errorf("got %q, want only the message of bob", got)
		}
	})
}

// A banned user receives the rest of its ban, rounded up, and the end. The log has the end too.
func TestBanText(t *testing.T) {
	var log syncBuffer
	inBubble(t, presence.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))}, func(t *testing.T, b *bubble) {
		b.stream("/events", "", testUser("alice"))
		end := time.Now().Add(24 * time.Hour)
		if err := b.Kick(t.Context(), "lobby", "alice", 24*time.Hour); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			left time.Duration
			want string
		}{
			{24 * time.Hour, "24 h"}, {2*time.Hour + 1, "3 h"}, {2 * time.Hour, "2 h"}, {119*time.Minute + 1, "2 h"},
			{119 * time.Minute, "119 min"}, {2*time.Minute + 1, "3 min"}, {2 * time.Minute, "2 min"}, {119*time.Second + 1, "2 min"},
			{119 * time.Second, "119 s"}, {time.Second + 1, "2 s"}, {time.Second, "1 s"}, {1, "1 s"},
		} {
			time.Sleep(time.Until(end) - c.left)
			answer := b.ask("GET", "/presence", "", testUser("alice"))
			if want := `"detail":"you are banned from room \"lobby\" for another ` + c.want + `","until":"` + end.UTC().Format(time.RFC3339) + `"}`; answer.Code != http.StatusForbidden || !strings.Contains(answer.Body.String(), want) {
				t.Errorf("%v before the end: got %d %s, want %s", c.left, answer.Code, answer.Body, want)
			}
		}
		log.has(t, `cause=banned count=1 detail="user banned from room \"lobby\" until `+end.UTC().Format(time.RFC3339)+`" status=403`)
	})
}

// A user can be removed during its grace period.
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
			t.Errorf("watcher: got %+v, want leave with reason removed", got)
		}
	})
}

// Promise 7: a stream receives expiring 30 s before its token expires, or immediately if less time
// is left. It ends when the token expires.
func TestExpiring(t *testing.T) {
	inBubble(t, presence.Config{}, func(t *testing.T, b *bubble) {
		until := func(user string, d time.Duration) *clientStream {
			u := testUser(user)
			u.Expires = time.Now().Add(d)
			return b.stream("/events", "", u)
		}
		long, short, never := until("long", 40*time.Second), until("short", 10*time.Second+1), b.stream("/events", "", testUser("never"))
		time.Sleep(time.Second) // at the end of the flush interval, short and never receive their sync
		if got := names(short.take()); got != ` sync user count:3 expiring:{"in":10}` {
			t.Errorf("less than 30 s before expiry: got %q, want expiring immediately", got)
		}
		long.take()
		never.take()
		time.Sleep(9*time.Second - 1)
		if got := names(long.take()); got != "" {
			t.Errorf("more than 30 s before expiry: got %q, want no event", got)
		}
		time.Sleep(time.Nanosecond)
		if got := names(long.take()); got != `expiring:{"in":30}` {
			t.Errorf("30 s before expiry: got %q, want expiring", got)
		}
		if got := names(short.take()); got != "" || short.ended() {
			t.Errorf("1 ns before expiry: got %q, ended %v; want no event and an open stream", got, short.ended())
		}
		time.Sleep(time.Nanosecond)
		if got := names(short.take()); got != `goodbye:{"reason":"expired"}` || !short.ended() {
			t.Errorf("at expiry: got %q, ended %v; want goodbye expired and the end", got, short.ended())
		}
		time.Sleep(30 * time.Second)
		if got := names(long.take()); !strings.HasSuffix(got, `goodbye:{"reason":"expired"}`) || !long.ended() {
			t.Errorf("at expiry: got %q, ended %v; want goodbye expired last and the end", got, long.ended())
		}
		time.Sleep(24 * time.Hour)
		if got := names(never.take()); strings.Contains(got, "expir") || never.ended() {
			t.Errorf("token without expiry: got %.99q, ended %v; want an open stream without expiring", got, never.ended())
		}
	})
}

// Promise 7: after a renewal, a stream receives expiring again before the renewed token expires.
func TestExpiringTwice(t *testing.T) {
	inBubble(t, presence.Config{}, func(t *testing.T, b *bubble) {
		alice := testUser("alice")
		alice.Expires = time.Now().Add(40 * time.Second)
		c := b.stream("/events", "", alice)
		for range 3 {
			c.take()
			time.Sleep(10 * time.Second)
			if got := names(c.take()); !strings.Contains(got, `expiring:{"in":30}`) {
				t.Fatalf("30 s before expiry: got %q, want expiring", got)
			}
			time.Sleep(20 * time.Second)
			alice.Expires = time.Now().Add(40 * time.Second)
			if answer := b.ask("POST", "/session", `{"token":"t"}`, alice); answer.Code != http.StatusNoContent {
				t.Fatalf("got %d %s, want 204", answer.Code, answer.Body)
			}
		}
		if c.ended() {
			t.Error("after three renewals: got the end of the stream, want it open")
		}
	})
}

// Promise 7: repeated short renewals cause at most one expiring event per expiry second. The stream
// ends when the last token expires.
func TestExpiringOncePerSecond(t *testing.T) {
	inBubble(t, presence.Config{Heartbeat: time.Minute}, func(t *testing.T, b *bubble) {
		time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second)))
		alice := testUser("alice")
		alice.Expires = time.Now().Add(20 * time.Second)
		c := b.stream("/events", "", alice)
		if got := names(c.take()); got != ` sync user count:1 expiring:{"in":20}` {
			t.Fatalf("20 s before expiry: got %q, want sync, count and expiring", got)
		}
		for range 2999 {
			alice.Expires = alice.Expires.Add(time.Millisecond)
			if answer := b.ask("POST", "/session", `{"token":"t"}`, alice); answer.Code != http.StatusNoContent {
				t.Fatalf("got %d %s, want 204", answer.Code, answer.Body)
			}
		}
		if got := names(c.take()); got != `expiring:{"in":21} expiring:{"in":22}` {
			t.Errorf("after renewals by 3 s in steps of 1 ms: got %q, want two expiring", got)
		}
		time.Sleep(time.Until(alice.Expires) - time.Millisecond)
		if got := names(c.take()); got != "" || c.ended() {
			t.Errorf("1 ms before expiry: got %q, ended %v; want no event and an open stream", got, c.ended())
		}
		time.Sleep(time.Millisecond)
		if got := names(c.take()); got != `goodbye:{"reason":"expired"}` || !c.ended() {
			t.Errorf("at expiry: got %q, ended %v; want goodbye expired and the end", got, c.ended())
		}
	})
}

// A limit that is reached is logged once per minute, not once per rejected request.
func TestLimitsAreLoggedOncePerMinute(t *testing.T) {
	var log syncBuffer
	c := presence.Config{MaxConnections: 2, MaxConnectionsPerUser: 1, MaxRooms: 1, MessageRate: 1, MessageBurst: 1, Logger: slog.New(slog.NewTextHandler(&log, nil))}
	inBubble(t, c, func(t *testing.T, b *bubble) {
		b.stream("/events", "", testUser("alice"))
		for half := range 6 { // six half minutes
			for range 100 {
				if got := names(b.stream("/events", "", testUser("alice")).take()); got != ` goodbye:{"reason":"full"}` {
					t.Fatalf("second stream of a user: got %q, want goodbye full", got)
				}
				if got := names(b.stream("/events?room=other", "", testUser("bob")).take()); got != ` goodbye:{"reason":"full"}` {
					t.Fatalf("second room: got %q, want goodbye full", got)
				}
				b.ask("POST", "/messages", `{"data":1}`, testUser("alice"))
			}
			bob := b.stream("/events", "", testUser("bob"))
			for range 100 {
				if got := names(b.stream("/events", "", testUser("carol")).take()); got != ` goodbye:{"reason":"full"}` {
					t.Fatalf("third stream: got %q, want goodbye full", got)
				}
			}
			bob.close()
			for _, line := range []string{"connection limit reached (2)", "per-user connection limit reached (1)", "room limit reached (1)", "message rate limit exceeded"} {
				if n := strings.Count(log.String(), line); n != half/2+1 {
					t.Errorf("after %d half minutes: got %q %d times in the log, want %d", half, line, n, half/2+1)
				}
			}
			time.Sleep(30 * time.Second)
			synctest.Wait()
		}
	})
}

// Rejections that any client can cause are logged once per minute: those of a failing
// Authenticator, and those at the idempotency key limit. The rest is logged at the end.
func TestRejectionsAreLoggedOncePerMinute(t *testing.T) {
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
				t.Fatalf("got %d %s, want 401 without the cause", answer.Code, answer.Body)
			}
		}
	})
	if n := strings.Count(log.String(), "no session"); n != 1 {
		t.Errorf("failing Authenticator: got %d log lines, want 1", n)
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
				t.Fatalf("got %d %s, want 503 with Retry-After", answer.Code, answer.Body)
			}
		}
		b.post("/messages", `{"data":1}`, testUser("alice"))
	})
	if n := strings.Count(log.String(), "idempotency key limit reached"); n != 2 {
		t.Errorf("idempotency key limit: got %d log lines, want 2: %s", n, log.String())
	}
	for _, want := range []string{"cause=idempotency_keys count=1 ", "cause=idempotency_keys count=99 "} {
		if n := strings.Count(log.String(), want); n != 1 {
			t.Errorf("idempotency key limit: got %q %d times, want once: %s", want, n, log.String())
		}
	}
}

// The server frees expired messages, idempotency keys and bans even if no further request arrives.
func TestExpiredDataIsFreed(t *testing.T) {
	inBubble(t, presence.Config{HistoryAge: 2 * time.Minute, MessageRate: 1}, func(t *testing.T, b *bubble) {
		b.stream("/events", "", testUser("alice"))
		b.post("/messages", `{"data":1,"id":"mine"}`, testUser("alice"))
		if err := b.Kick(t.Context(), "lobby", "alice", time.Minute); err != nil {
			t.Fatal(err)
		}
		b.stream("/events", "", testUser("bob")) // so that the room stays
		if got := b.Remembered(); slices.Contains(got[:], 0) {
			t.Errorf("before expiry: got %v, want none of them 0", got)
		}
		time.Sleep(3*time.Minute + time.Second)
		if got := b.Remembered(); got != [3]int{} {
			t.Errorf("after expiry: got %v, want all 0", got)
		}
	})
}

// A user that exceeds the message rate may send again after Retry-After, and other users are not
// affected. The limit applies to all rooms together, but not to admins.
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
				t.Fatalf("got %d, Retry-After %q; want 429 and 2", answer.Code, answer.Header().Get("Retry-After"))
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

// A renewal extends the streams of an admin in each room.
func TestAdminRenewal(t *testing.T) {
	inBubble(t, presence.Config{}, func(t *testing.T, b *bubble) {
		root := presence.User{ID: "root", Admin: true, Expires: time.Now().Add(20 * time.Second)}
		c := b.stream("/events?room=any", "", root)
		root.Expires = time.Now().Add(time.Hour)
		if answer := b.ask("POST", "/session", `{"token":"t"}`, root); answer.Code != http.StatusNoContent {
			t.Fatalf("got %d %s, want 204", answer.Code, answer.Body)
		}
		time.Sleep(time.Minute)
		b.post("/messages?room=any", `{"event":"x","data":1}`, root)
		synctest.Wait()
		if got := names(c.take()); !strings.Contains(got, " x") || strings.Contains(got, "goodbye") {
			t.Errorf("got %q, want the stream open", got)
		}
	})
}

// held is a stream whose response does not start before release is closed. Until then, its user is
// authenticated but has not joined the room.
type held struct {
	*clientStream
	release chan struct{}
}

func (c held) SetWriteDeadline(t time.Time) error {
	if t.IsZero() { // the server starts the stream
		<-c.release
	}
	return nil
}

// A removal, a sign-out or a renewal also applies to a stream that is about to join.
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
				b.stream("/events", "", alice) // Kick needs a member
			}
			h := held{&clientStream{header: http.Header{}}, make(chan struct{})}
			r := b.request(t.Context(), "GET", "/events", "", alice)
			r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/2.0", 2, 0
			go b.ServeHTTP(h, r) // ends with the stream
			time.Sleep(time.Second)
			c.do(b, alice)
			close(h.release)
			time.Sleep(time.Minute)
			var events []event
			for _, e := range h.take() {
				if e.name != "ping" && e.name != "expiring" {
					events = append(events, e)
				}
			}
			if got := names(events); got != c.want {
				t.Errorf("%s: got %q, want %q", name, got, c.want)
			}
		})
	}
}

// The memory of an ended stream is freed even while its room and its token are in use, whether or
// not the stream had received its sync.
func TestEndedStreamIsFreed(t *testing.T) {
	inBubble(t, presence.Config{Coalesce: 750 * time.Millisecond, Linger: -1}, func(t *testing.T, b *bubble) {
		alice := testUser("alice")
		alice.Expires = time.Now().Add(time.Hour)
		b.stream("/events", "", testUser("watcher"))
		visit := func(stay time.Duration) weak.Pointer[clientStream] {
			c := b.stream("/events", "", alice)
			time.Sleep(stay)
			if synced := strings.Contains(names(c.take()), "sync"); synced != (stay > 0) {
				t.Errorf("after %v: got sync %v, want %v", stay, synced, stay > 0)
			}
			c.close()
			return weak.Make(c)
		}
		const visits = 20 // number of visits of each kind
		var ended []weak.Pointer[clientStream]
		for range visits {
			ended = append(ended, visit(0), visit(10*time.Second))
		}
		for range 3 { // objects in a sync.Pool outlive one collection
			runtime.GC()
		}
		held := map[bool]int{} // number of streams not freed, by whether they had their sync
		for i, c := range ended {
			if c.Value() != nil {
				held[i%2 == 1]++
			}
		}
		// The runtime frees stopped timers late: up to a quarter of all timers may be stopped.
		if held[true] > visits/2 || held[false] > visits/2 {
			t.Errorf("ended streams in memory, by whether they had their sync: got %v, want at most %d each", held, visits/2)
		}
	})
}

// Promise 8: a client that still waits for its sync at a shutdown receives the sync before the
// goodbye.
func TestPromise8SyncBeforeGoodbye(t *testing.T) {
	inBubble(t, presence.Config{Coalesce: 750 * time.Millisecond}, func(t *testing.T, b *bubble) {
		b.stream("/events", "", testUser("alice"))
		c := b.stream("/events", "", testUser("bob"))
		b.post("/messages", `{"data":1}`, testUser("alice"))
		if got := names(c.take()); got != "" { // the block of retry has no name
			t.Fatalf("within the flush interval: got %q, want no event", got)
		}
		if err := b.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := names(c.take()); got != `sync user count:2 message goodbye:{"reason":"draining"}` {
			t.Errorf("at shutdown: got %q, want sync, message and goodbye draining", got)
		}
	})
}
