package presence_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/presence/pkg/presence"
	"example.com/presence/pkg/presence/auth"
	"example.com/presence/pkg/presence/room"
)

// admin mints a token for an admin that may send to every room.
func admin(t testing.TB) string {
	t.Helper()
	return mint(t, auth.Claims{Sub: "admin", Admin: true, Send: []string{"*"}, TTL: time.Hour})
}

func (h *testServer) status(method, path, token, body string) int {
	h.t.Helper()
	r := h.ask(method, path, token, body, "Content-Type", "application/json")
	r.Body.Close()
	return r.StatusCode
}

// PUT /state sets the info of a member and publishes it as update. It rejects invalid and too large
// values.
func TestState(t *testing.T) {
	each(t, func(t *testing.T, open opener) {
		h := open(t, presence.Config{Linger: -1})
		alice, bob := bearer(t, "alice"), bearer(t, "bob")
		if got := h.status("PUT", "/state", alice, `{}`); got != http.StatusConflict {
			t.Errorf("empty room: got %d, want 409", got)
		}
		c := h.stream("/events", alice)
		c.next("user count")
		if got := h.status("PUT", "/state", bob, `{}`); got != http.StatusConflict {
			t.Errorf("bob, not in the room: got %d, want 409", got)
		}
		kib := `"` + strings.Repeat("x", 1022) + `"`
		for _, body := range []string{`{"status": "away"}`, `null`, `"é"`, `[1, 2.50]`, kib, " " + kib + "\n"} {
			if got := h.status("PUT", "/state", alice, body); got != http.StatusNoContent {
				t.Errorf("%.30s: got %d, want 204", body, got)
			}
			c.until("update", `{"id":"alice","info":`+strings.Trim(strings.ReplaceAll(strings.ReplaceAll(body, ": ", ":"), ", ", ","), " \n")+`}`)
		}
		for body, want := range map[string]int{
			``: 400, `{`: 400, `{} {}`: 400, `nothing`: 400, "\"\xff\"": 400, strings.Repeat("[", 15_000): 400,
			`"` + strings.Repeat("x", 1023) + `"`: 413, `"` + strings.Repeat("x", 20_000) + `"`: 413,
		} {
			if got := h.status("PUT", "/state", alice, body); got != want {
				t.Errorf("%.30q: got %d, want %d", body, got, want)
			}
		}
		if r := h.ask("PUT", "/state", alice, `{}`, "Content-Type", "text/plain"); r.StatusCode != http.StatusUnsupportedMediaType {
			t.Errorf("text/plain: got %s, want 415", r.Status)
		}
		if p := h.presence(); len(p.Members) != 1 || string(p.Members[0].Info) != kib {
			t.Errorf("GET /presence: got %.99v, want alice with info of 1 KiB", p.Members)
		}
	})
}

// GET /rooms returns the rooms in use, in pages, and only to admins.
func TestRooms(t *testing.T) {
	h := open(t, presence.Config{})
	for i, name := range []string{"c", "a", "b", "a"} {
		h.stream("/events?room="+name, bearer(t, fmt.Sprint("u", i%2))).next("user count")
	}
	h.post("/messages?room=empty", bearer(t, "alice"), `{"data":1}`)
	var got []string
	for after := ""; ; {
		var page struct {
			Rooms []presence.RoomCount
			Next  string
		}
		r := h.ask("GET", "/rooms?limit=2&after="+after, admin(t), "")
		if err := json.NewDecoder(r.Body).Decode(&page); err != nil || r.StatusCode != http.StatusOK {
			t.Fatalf("GET /rooms: got %s, %v; want 200", r.Status, err)
		}
		for _, c := range page.Rooms {
			got = append(got, fmt.Sprintf("%s:%d/%d", c.Room, c.Connections, c.Users))
		}
		if after = page.Next; after == "" {
			break
		}
		got = append(got, "|")
	}
	if got, want := strings.Join(got, " "), "a:2/1 b:1/1 | c:1/1"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for path, want := range map[string]int{"/rooms": 403, "/rooms?limit=0": 403} {
		if got := h.status("GET", path, bearer(t, "alice"), ""); got != want {
			t.Errorf("no admin: %s: got %d, want %d", path, got, want)
		}
	}
	if got := h.status("GET", "/rooms?limit=1001", admin(t), ""); got != http.StatusBadRequest {
		t.Errorf("limit=1001: got %d, want 400", got)
	}
}

// DELETE /members/{id} disconnects a user from one room and bans the user there. Other rooms are
// not affected.
func TestRemoving(t *testing.T) {
	each(t, func(t *testing.T, open opener) {
		h := open(t, presence.Config{})
		watcher := h.stream("/events", bearer(t, "watcher"))
		one, two := h.stream("/events", bearer(t, "a/é %")), h.stream("/events", bearer(t, "a/é %"))
		other := h.stream("/events?room=other", bearer(t, "a/é %"))
		watcher.until("user count", "3")
		for query, want := range map[string]int{"for=999ms": 400, "for=24h1s": 400, "for=60": 400, "for=": 400, "for=-1m": 400, "room=": 400, "room=no-such": 404} {
			if got := h.status("DELETE", "/members/a%2F%C3%A9%20%25?"+query, admin(t), ""); got != want {
				t.Errorf("%s: got %d, want %d", query, got, want)
			}
		}
		if got := h.status("DELETE", "/members/a%2F%C3%A9%20%25", bearer(t, "watcher"), ""); got != http.StatusForbidden {
			t.Errorf("no admin: got %d, want 403", got)
		}
		if got := h.status("DELETE", "/members/absent", admin(t), ""); got != http.StatusNotFound {
			t.Errorf("user not in the room: got %d, want 404", got)
		}
		if got := h.status("DELETE", "/members/a%2F%C3%A9%20%25?for=1s", admin(t), ""); got != http.StatusNoContent {
			t.Fatalf("got %d, want 204", got)
		}
		for _, c := range []*tab{one, two} {
			events := c.rest()
			if last := events[len(events)-1]; last.name != "goodbye" || last.data != `{"reason":"removed"}` {
				t.Errorf("removed user: got %+v last, want goodbye removed", last)
			}
		}
		if e := watcher.next("leave"); !strings.Contains(e.data, `"connections":1,"users":1,"reason":"removed"`) {
			t.Errorf("watcher: got leave %s, want reason removed and 1 connection", e.data)
		}
		watcher.expect("user count", "1")
		if got := h.ask("GET", "/events", bearer(t, "a/é %"), "").StatusCode; got != http.StatusForbidden {
			t.Errorf("GET /events of a removed user: got %d, want 403", got)
		}
		h.post("/messages?room=other", bearer(t, "x"), `{"data":1}`)
		other.next("message")
	})
}

// A message from an admin has no sender, because it counts as the server's own message.
func TestAdminSendsAsTheServer(t *testing.T) {
	h := open(t, presence.Config{MessageRate: 1, MessageBurst: 1})
	c := h.stream("/events", bearer(t, "alice"))
	for range 5 { // more than the rate limit, which exempts admins
		id := h.post("/messages", admin(t), `{"event":"maintenance","data":{"in":5}}`)
		if e := c.next("maintenance"); !strings.HasPrefix(e.data, `{"id":"`+id+`","data":{"in":5},"at":"`) {
			t.Errorf("got %s, want id %s and no sender", e.data, id)
		}
	}
	if got := h.status("POST", "/messages", admin(t), `{"event":"user count","data":7}`); got != http.StatusBadRequest {
		t.Errorf("event name of the server: got %d, want 400", got)
	}
}

// An admin may join and send to each room, also to one that its token does not name.
func TestAdminInEveryRoom(t *testing.T) {
	h := open(t, presence.Config{})
	root := mint(t, auth.Claims{Sub: "root", Admin: true, Join: []string{"a"}, Send: []string{"a"}, TTL: time.Hour})
	c := h.stream("/events?room=b", root)
	c.until("user count", "1")
	for _, request := range []struct {
		method, path, body string
		status             int
	}{
		{"POST", "/messages?room=b", `{"event":"x","data":7}`, 202},
		{"PUT", "/state?room=b", `{"at":"desk"}`, 204},
		{"GET", "/presence?room=b", "", 200},
		{"GET", "/presence?room=c", "", 200},
	} {
		if got := h.status(request.method, request.path, root, request.body); got != request.status {
			t.Errorf("%s %s: got %d, want %d", request.method, request.path, got, request.status)
		}
	}
	c.next("x")
}

// The methods Members, Rooms and Kick return the same results as the HTTP API.
func TestLibrary(t *testing.T) {
	h := open(t, presence.Config{Linger: -1})
	if members, err := h.Members(t.Context(), "lobby"); err != nil || members == nil || len(members) != 0 {
		t.Errorf("empty room: got %v, %v; want no members, not nil", members, err)
	}
	if rooms, err := h.Rooms(t.Context()); err != nil || rooms == nil || len(rooms) != 0 {
		t.Errorf("empty server: got %v, %v; want no rooms, not nil", rooms, err)
	}
	alice := h.stream("/events", bearer(t, "alice"))
	h.stream("/events", bearer(t, "bob")).next("user count")
	members, err := h.Members(t.Context(), "lobby")
	if err != nil || len(members) != 2 || members[0].ID != "alice" || members[1].ID != "bob" || members[0].Connections != 1 {
		t.Errorf("got %+v, %v; want alice and bob", members, err)
	}
	if rooms, err := h.Rooms(t.Context()); err != nil || len(rooms) != 1 || rooms[0] != (presence.RoomCount{Room: "lobby", Connections: 2, Users: 2}) {
		t.Errorf("got %+v, %v; want lobby with 2 connections of 2 users", rooms, err)
	}
	if err := h.Kick(t.Context(), "lobby", "alice", time.Minute); err != nil {
		t.Error(err)
	}
	if events := alice.rest(); events[len(events)-1].data != `{"reason":"removed"}` {
		t.Errorf("alice: got %+v, want goodbye removed last", events)
	}
	for _, c := range []struct {
		room, user string
		ban        time.Duration
		want       error
	}{
		{"lobby", "alice", time.Minute, presence.ErrNotInRoom},
		{"none", "alice", time.Minute, presence.ErrNotInRoom},
		{"lobby", "bob", time.Second - 1, presence.ErrBan},
		{"lobby", "bob", 24*time.Hour + 1, presence.ErrBan},
		{"lobby", "bob", math.MinInt64, presence.ErrBan},
		{"a b", "bob", time.Minute, room.ErrName},
	} {
		if err := h.Kick(t.Context(), c.room, c.user, c.ban); !errors.Is(err, c.want) {
			t.Errorf("Kick %s from %s for %v: got %v, want %v", c.user, c.room, c.ban, err, c.want)
		}
	}
	if _, err := h.Members(t.Context(), "a b"); !errors.Is(err, room.ErrName) {
		t.Errorf("Members of an invalid room name: got %v, want %v", err, room.ErrName)
	}
	if err := h.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Members(t.Context(), "lobby"); !errors.Is(err, presence.ErrDraining) {
		t.Errorf("after Shutdown: got %v, want %v", err, presence.ErrDraining)
	}
	if err := h.Kick(t.Context(), "lobby", "bob", time.Minute); !errors.Is(err, presence.ErrDraining) {
		t.Errorf("after Shutdown: got %v, want %v", err, presence.ErrDraining)
	}
}

// All joiners of a flush interval receive the same snapshot, which is encoded once and contains
// each of them. 2,500 connections of 500 users join together (1,000 with -short, 5,000 in make
// test-long).
func TestStormSharesSnapshots(t *testing.T) {
	const users = 500
	clients := sized(1000, 2500, 5000)
	h := open(t, presence.Config{})
	tokens := make([]string, users)
	for i := range tokens {
		tokens[i] = bearer(t, fmt.Sprint("user-", i))
	}
	start := time.Now()
	type state struct {
		Connections, Users int
		Complete           bool
		Members            []presence.Member
	}
	var mu sync.Mutex // guards states
	states := map[string]*state{}
	var workers, readers sync.WaitGroup
	bodies := make([]io.Closer, clients)
	for worker := range 100 {
		workers.Go(func() {
			for i := worker; i < clients; i += 100 {
				body := h.ask("GET", "/events", tokens[i%users], "").Body
				bodies[i] = body
				readers.Go(func() {
					lines := bufio.NewReaderSize(body, 4<<10)
					var events [2]event // sync and user count
					for j := 0; j < len(events); {
						line, err := lines.ReadString('\n')
						if err != nil {
							t.Error(err)
							return
						}
						events[j].field(strings.TrimSuffix(line, "\n"))
						if line == "\n" && events[j].name != "" {
							j++
						}
					}
					mu.Lock()
					defer mu.Unlock()
					s := states[events[0].data]
					if s == nil {
						s = new(state)
						if err := json.Unmarshal([]byte(events[0].data), s); err != nil {
							t.Error(err)
						}
						states[events[0].data] = s
					}
					there := false
					for _, m := range s.Members {
						there = there || string(m.ID) == fmt.Sprint("user-", i%users)
					}
					if !there || !s.Complete || events[1].data != fmt.Sprint(s.Connections) || len(s.Members) != s.Users {
						t.Errorf("user %d: got %d connections of %d users, itself among %d members: %v, count %s; want equal numbers and itself", i%users, s.Connections, s.Users, len(s.Members), there, events[1].data)
					}
				})
			}
		})
	}
	workers.Wait()
	h.stream("/events", tokens[0]).until("user count", fmt.Sprint(clients+1))
	intervals := int(time.Since(start)/(50*time.Millisecond)) + 2
	syncs := int(h.Stats().Snapshots)
	readers.Wait()
	for _, body := range bodies {
		body.Close()
	}
	t.Logf("%d joiners received %d snapshots, encoded %d times in at most %d intervals", clients, len(states), syncs, intervals)
	if syncs > intervals || len(states) > syncs {
		t.Errorf("got %d snapshots, encoded %d times, want at most one per interval (%d)", len(states), syncs, intervals)
	}
}
