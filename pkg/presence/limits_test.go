package presence_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"example.com/presence/pkg/presence"
)

// A client that exceeds a limit receives goodbye full with a retry time, so that its browser
// reconnects, or a problem document. It is not counted, and the next client can use a released
// slot.
func TestFull(t *testing.T) {
	each(t, func(t *testing.T, open opener) {
		for _, status := range []int{http.StatusOK, http.StatusServiceUnavailable} {
			for name, c := range map[string]struct {
				config presence.Config
				path   string // at which alice exceeds the limit
			}{
				"total":    {presence.Config{MaxConnections: 2}, "/events"},
				"per user": {presence.Config{MaxConnectionsPerUser: 1}, "/events?room=other"},
				"rooms":    {presence.Config{MaxRooms: 1}, "/events?room=other"},
				"own":      {presence.Config{MaxRoomsPerUser: 1}, "/events?room=other"},
			} {
				c.config.FullStatus, c.config.Linger = status, -1
				h := open(t, c.config)
				alice, bob := h.stream("/events", bearer(t, "alice")), h.stream("/events", bearer(t, "bob"))
				alice.until("user count", "2")
				for range 3 {
					answer := h.ask("GET", c.path, bearer(t, "alice"), "")
					if status == http.StatusServiceUnavailable {
						retry, err := strconv.Atoi(answer.Header.Get("Retry-After"))
						var problem struct{ Status int }
						if json.NewDecoder(answer.Body).Decode(&problem) != nil || err != nil || answer.StatusCode != status || problem.Status != status || retry < 10 || retry > 30 {
							t.Errorf("%s: got %s, Retry-After %q, problem %+v; want 503 and 10 to 30 s", name, answer.Status, answer.Header.Get("Retry-After"), problem)
						}
						continue
					}
					events := h.stream(c.path, bearer(t, "alice")).rest()
					if len(events) != 2 || events[1].name != "goodbye" || events[1].data != `{"reason":"full"}` {
						t.Fatalf("%s: got %+v, want retry and goodbye full", name, events)
					}
					if retry, err := strconv.Atoi(events[0].retry); err != nil || retry < 10_000 || retry > 30_000 {
						t.Errorf("%s: got retry %q, want 10,000 to 30,000", name, events[0].retry)
					}
				}
				if p := h.presence(); p.Connections != 2 {
					t.Errorf("%s: got %d connections, want 2", name, p.Connections)
				}
				bob.close()
				alice.until("user count", "1")
				carol := h.stream("/events", bearer(t, "carol"))
				carol.next("user count")
			}
		}
	})
}

// A stream that ends releases its slot, regardless of the order in which a user's streams end.
func TestSlotsAreFreed(t *testing.T) {
	inBubble(t, presence.Config{MaxConnections: 3, MaxConnectionsPerUser: 3}, func(t *testing.T, b *bubble) {
		for _, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
			var streams []*clientStream
			for i := range 4 {
				c := b.stream("/events", "", testUser("alice"))
				time.Sleep(time.Second)
				if got := names(c.take()); strings.Contains(got, "full") != (i == 3) {
					t.Fatalf("before %v: stream %d: got %q, want goodbye full: %v", order, i, got, i == 3)
				}
				streams = append(streams, c)
			}
			for _, i := range order {
				streams[i].close()
			}
		}
	})
}

// A rejected stream holds no slot, regardless of the cause.
func TestRejectedStreamHoldsNoSlot(t *testing.T) {
	h := openIn(t, presence.Config{MaxConnections: 2, MaxRooms: 1, FullStatus: http.StatusServiceUnavailable}, plain, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("X-Writer") == "cannot stream" {
				w = struct{ http.ResponseWriter }{w}
			}
			next.ServeHTTP(w, r)
		})
	})
	h.stream("/events", bearer(t, "alice")).next("user count")
	for range 3 {
		if answer := h.ask("GET", "/events?room=other", bearer(t, "bob"), ""); answer.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("second room: got %s, want 503", answer.Status)
		}
		if answer := h.ask("GET", "/events", bearer(t, "bob"), "", "X-Writer", "cannot stream"); answer.StatusCode != http.StatusInternalServerError {
			t.Errorf("ResponseWriter that cannot stream: got %s, want 500", answer.Status)
		}
	}
	h.stream("/events", bearer(t, "bob")).next("user count")
}

// At the room limit, the server rejects a message to a new room.
func TestMessageAboveRoomLimit(t *testing.T) {
	h := open(t, presence.Config{MaxRooms: 1})
	h.stream("/events", bearer(t, "alice")).next("user count")
	answer := h.ask("POST", "/messages?room=other", bearer(t, "alice"), "x", "Content-Type", "text/plain")
	if answer.StatusCode != http.StatusServiceUnavailable || answer.Header.Get("Retry-After") == "" {
		t.Errorf("got %s, Retry-After %q; want 503 with Retry-After", answer.Status, answer.Header.Get("Retry-After"))
	}
	h.post("/messages", bearer(t, "alice"), `{"data":1}`)
}

// At the room limit of a user, the server rejects its message to a new room, until one of its own
// rooms is empty. An admin has this limit too. Other users and the program itself do not.
func TestMessageAboveOwnRoomLimit(t *testing.T) {
	inBubble(t, presence.Config{MaxRoomsPerUser: 2, Linger: -1}, func(t *testing.T, b *bubble) {
		alice := testUser("alice")
		post := func(room string, u presence.User) (status int, body string) {
			w := httptest.NewRecorder()
			r := b.request(t.Context(), "POST", "/messages?room="+room, "x", u)
			r.Header.Set("Content-Type", "text/plain")
			b.ServeHTTP(w, r)
			if w.Code == http.StatusServiceUnavailable && w.Header().Get("Retry-After") == "" {
				t.Errorf("message to %s: got 503 without Retry-After", room)
			}
			return w.Code, w.Body.String()
		}
		one := b.stream("/events?room=one", "", alice)
		b.stream("/events?room=two", "", alice)
		for range 2 {
			if status, body := post("three", alice); status != 503 || !strings.Contains(body, `"detail":"per-user room limit reached (2)"`) {
				t.Errorf("third room of alice: got %d %s, want 503 and the limit of 2", status, body)
			}
		}
		root := testUser("root")
		root.Admin = true
		for _, room := range []string{"four", "five", "six"} {
			if status, body := post(room, root); status != 202 { // evicts its own unused room
				t.Errorf("room of an admin: got %d %s, want 202", status, body)
			}
			if _, err := b.Publish(t.Context(), "own-"+room, "", "x"); err != nil {
				t.Errorf("room of the program: %v", err)
			}
		}
		if status, body := post("seven", testUser("bob")); status != 202 {
			t.Errorf("room of bob: got %d %s, want 202", status, body)
		}
		if status, body := post("one", alice); status != 202 {
			t.Errorf("alice in a room of her own: got %d %s, want 202", status, body)
		}
		if n := b.Stats().Refusals["user_rooms"]; n != 2 {
			t.Errorf("got %d refusals, want 2", n)
		}
		one.close()
		time.Sleep(time.Second)
		if status, body := post("three", alice); status != 202 || b.Stats().Rooms != 8 || b.Stats().RoomsEvicted != 2 {
			t.Errorf("third room of alice after she left one: got %d %s with %d rooms, want 202 and 8", status, body, b.Stats().Rooms)
		}
	})
}

// A user that exceeds the rate limit gets 429, and may send again after Retry-After. Other users
// are not affected.
func TestRateLimitOverHTTP(t *testing.T) {
	h := open(t, presence.Config{MessageRate: 1, MessageBurst: 2})
	c := h.stream("/events", bearer(t, "watcher"))
	alice := bearer(t, "alice")
	post := func() *http.Response {
		return h.ask("POST", "/messages", alice, "x", "Content-Type", "text/plain")
	}
	var answer *http.Response
	for sent := 0; ; sent++ {
		if answer = post(); answer.StatusCode != http.StatusAccepted {
			break
		}
		if sent > 10 {
			t.Fatal("got 202 for more than 10 messages, want 429 after the burst of 2")
		}
	}
	wait, err := strconv.Atoi(answer.Header.Get("Retry-After"))
	if answer.StatusCode != http.StatusTooManyRequests || err != nil || wait < 1 || wait > 2 {
		t.Fatalf("got %s, Retry-After %q; want 429 and 1 or 2 s", answer.Status, answer.Header.Get("Retry-After"))
	}
	at := time.After(time.Duration(wait) * time.Second)
	for i := range 10 {
		h.post("/messages", bearer(t, fmt.Sprint("user-", i)), `{"event":"other","data":1}`)
		c.next("other")
	}
	<-at
	if answer := post(); answer.StatusCode != http.StatusAccepted {
		t.Errorf("after Retry-After: got %s, want 202", answer.Status)
	}
}

// At the room limit, a new room evicts the least recently used empty room, if each user has created
// one room.
func TestUnusedRoomsAreEvicted(t *testing.T) {
	inBubble(t, presence.Config{MaxRooms: 3, Linger: -1}, func(t *testing.T, b *bubble) {
		alice := testUser("alice")
		stay := b.stream("/events?room=used", "", alice)
		first := b.post("/messages?room=a", `{"data":1}`, testUser("ann"))
		time.Sleep(time.Second)
		b.stream("/events?room=b", "", testUser("bob")).close()
		time.Sleep(time.Second)
		b.post("/messages?room=a", `{"data":2}`, alice) // now b is the least recently used room
		b.post("/messages?room=c", `{"data":1}`, testUser("carol"))
		c := b.stream("/events?room=a", first, alice)
		if got := names(c.take()); got != " message sync user count:1" {
			t.Errorf("room a, used last: got %q, want its message", got)
		}
		c.close()
		for i := range 100 {
			b.post(fmt.Sprintf("/messages?room=x%d", i), `{"data":1}`, testUser(fmt.Sprint("user-", i)))
		}
		if got := names(b.stream("/events?room=a", first, testUser("zoe")).take()); got != ` reset:{"reason":"history"} sync user count:1` {
			t.Errorf("room a, evicted: got %q, want a reset", got)
		}
		if got := names(stay.take()); stay.ended() || got != " sync user count:1" {
			t.Errorf("client in a room: got %q, ended %v; want sync and count, and an open stream", got, stay.ended())
		}
	})
}

// A room that was evicted and recreated assigns no id twice. It replays no message from before its
// eviction, for any position.
func TestIDsOfRecreatedRooms(t *testing.T) {
	inBubble(t, presence.Config{MaxRooms: 2, Linger: -1}, func(t *testing.T, b *bubble) {
		alice := testUser("alice")
		ids := map[string]string{} // the last id of a room
		seen := map[string]bool{}
		for i, name := range strings.Split("xxxxxyzxzyyx", "") {
			ids[name] = b.post("/messages?room="+name, `{"data":1}`, alice)
			if seen[name+ids[name]] {
				t.Errorf("message %d: room %s: got id %s again, want a new one", i, name, ids[name])
			}
			seen[name+ids[name]] = true
		}
		if got := names(b.stream("/events?room=z", ids["z"], alice).take()); got != ` reset:{"reason":"history"} sync user count:1` {
			t.Errorf("recreated room: got %q, want a reset", got)
		}
	})
}
