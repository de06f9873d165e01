package presence_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"example.com/presence/pkg/presence"
	"example.com/presence/pkg/presence/auth"
)

// Each join or leave changes the user count and sends a join or leave event to the other clients.
func TestCountRisesWithEachClient(t *testing.T) {
	each(t, func(t *testing.T, open opener) {
		h := open(t, presence.Config{Linger: -1})
		alice := h.stream("/events", bearer(t, "alice"))
		first, err := alice.read(patience)
		if err != nil || first.name != "" || first.retry < "1000" || first.retry > "3000" {
			t.Errorf("got %+v, %v first; want a retry of 1 to 3 s", first, err)
		}
		alice.expect("sync", "…", "user count", "1")
		bob := h.stream("/events", bearer(t, "bob"))
		bob.expect("", "", "sync", "…", "user count", "2")
		alice.expect("join", `{"id":"bob","name":"Bob","info":{},"connections":2,"users":2}`, "user count", "2")
		carol := h.stream("/events", bearer(t, "carol"))
		carol.expect("", "", "sync", "…", "user count", "3")
		bob.expect("join", `{"id":"carol","name":"Carol","info":{},"connections":3,"users":3}`, "user count", "3")
		carol.close()
		bob.expect("leave", `{"id":"carol","name":"Carol","info":{},"connections":2,"users":2,"reason":"closed"}`, "user count", "2")
		bob.close()
		alice.until("user count", "1")
	})
}

// The sync contains the counts, the members and the heartbeat of the room.
func TestSync(t *testing.T) {
	each(t, func(t *testing.T, open opener) {
		h := open(t, presence.Config{Heartbeat: 2500 * time.Millisecond})
		token := mint(t, auth.Claims{Sub: "alice", Name: "Alice", Info: []byte(`{"color": "teal"}`)})
		h.stream("/events", token).next("user count")
		e := h.stream("/events", token).next("sync")
		var got struct {
			Connections, Users int
			Members            []presence.Member
			Complete           bool
			Heartbeat          float64
		}
		if err := json.Unmarshal([]byte(e.data), &got); err != nil {
			t.Fatal(err)
		}
		if got.Connections != 2 || got.Users != 1 || !got.Complete || got.Heartbeat != 2.5 || len(got.Members) != 1 {
			t.Fatalf("got %s, want 2 connections of 1 user, heartbeat 2.5, complete", e.data)
		}
		m := got.Members[0]
		if m.ID != "alice" || m.Name != "Alice" || string(m.Info) != `{"color":"teal"}` || m.Connections != 2 || time.Since(m.Since) > time.Minute {
			t.Errorf("got %s, want alice with its name, info and 2 connections", e.data)
		}
	})
}

// A stream has the headers that keep proxies from buffering, caching or encoding it.
func TestHeaders(t *testing.T) {
	each(t, func(t *testing.T, open opener) {
		c := open(t, presence.Config{}).stream("/events", bearer(t, "alice"))
		for name, want := range map[string]string{
			"Content-Type": "text/event-stream", "Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no",
			"Content-Encoding": "identity",
		} {
			if got := c.header.Get(name); got != want {
				t.Errorf("%s: got %q, want %q", name, got, want)
			}
		}
	})
}

// With CountUsers, the user count is the number of users, not of connections.
func TestCountUsers(t *testing.T) {
	each(t, func(t *testing.T, open opener) {
		h := open(t, presence.Config{Count: presence.CountUsers, Linger: 300 * time.Millisecond})
		alice := h.stream("/events", bearer(t, "alice"))
		h.stream("/events", bearer(t, "alice")).next("user count")
		bob := h.stream("/events", bearer(t, "bob"))
		bob.expect("", "", "sync", "…", "user count", "2")
		bob.close()
		alice.expect("", "", "sync", "…", "user count", "1", "join", "…", "user count", "2", "leave", "…", "user count", "1")
	})
}

// Ids are positions: only messages advance them, and every event to the whole room carries one.
// Events to a single client have no id.
func TestIDsArePositions(t *testing.T) {
	each(t, func(t *testing.T, open opener) {
		h := open(t, presence.Config{Heartbeat: time.Second})
		alice := h.stream("/events", bearer(t, "alice"))
		sync := alice.next("sync")
		epoch, seq, _ := strings.Cut(sync.id, "-")
		if epoch == "" || seq != "0" {
			t.Fatalf("got first id %q, want EPOCH-0", sync.id)
		}
		if e := alice.next("user count"); e.id != sync.id {
			t.Errorf("user count: got id %q, want %q", e.id, sync.id)
		}
		for i := 1; i <= 3; i++ {
			want := fmt.Sprint(epoch, "-", i)
			if id := h.post("/messages", bearer(t, "bob"), `{"data":1}`); id != want {
				t.Errorf("POST of message %d: got id %q, want %q", i, id, want)
			}
			if e := alice.next("message"); e.id != want {
				t.Errorf("message %d: got id %q, want %q", i, e.id, want)
			}
		}
		h.stream("/events", bearer(t, "bob"))
		if e := alice.next("join"); e.id != epoch+"-3" {
			t.Errorf("join after three messages: got id %q, want %s-3", e.id, epoch)
		}
		if e := alice.next("ping"); e.id != "" || e.data != "{}" {
			t.Errorf("got ping %+v, want data {} and no id", e)
		}
	})
}

// Promise 3: a client that resumes from the id of any event receives the missed messages once, in
// order and before its sync, or it receives a reset.
func TestPromise3Resume(t *testing.T) {
	each(t, func(t *testing.T, open opener) {
		h := open(t, presence.Config{History: 2})
		alice := bearer(t, "alice")
		stay := h.stream("/events", alice)
		first := stay.next("sync").id
		epoch, _, _ := strings.Cut(first, "-")

		h.stream("/events", alice, "Last-Event-ID", first).expect("", "", "sync", "…", "user count", "2")
		for n := range 3 {
			h.post("/messages", alice, fmt.Sprintf(`{"data":%d}`, n))
		}
		for id, want := range map[string]string{
			epoch + "-3": "", epoch + "-2": "3", epoch + "-1": "2 3", // the replayed messages, or reset
			epoch + "-0": "reset", epoch + "-4": "reset", epoch + "-18446744073709551615": "reset", epoch + "-": "reset", "other-1": "reset", "rubbish": "reset",
		} {
			for _, c := range []*tab{
				h.stream("/events", alice, "Last-Event-ID", id),
				h.stream("/events?last_event_id="+id, alice),
				// The header takes precedence over the query, because the browser itself sends it,
				// and so it is newer.
				h.stream("/events?last_event_id="+epoch+"-0", alice, "Last-Event-ID", id),
			} {
				c.expect("", "")
				if want == "reset" {
					if e := c.next("reset"); e.id != epoch+"-3" || e.data != `{"reason":"history"}` {
						t.Errorf("with id %s: got %+v, want id %s-3 and reason history", id, e, epoch)
					}
				} else {
					for _, seq := range strings.Fields(want) {
						if e, err := c.read(patience); err != nil || e.name != "message" || e.id != epoch+"-"+seq {
							t.Errorf("with id %s: got %+v, %v, want message %s", id, e, err, seq)
						}
					}
				}
				if e, err := c.read(patience); err != nil || e.name != "sync" || e.id != epoch+"-3" {
					t.Errorf("with id %s: got %+v, %v, want sync", id, e, err)
				}
				c.expect("user count", "…")
			}
		}
	})
}

// When a tab reloads, other clients receive no leave and no second join. The tab reloads 50 times
// (10 with -short).
func TestReload(t *testing.T) {
	each(t, func(t *testing.T, open opener) {
		h := open(t, presence.Config{})
		alice := h.stream("/events", bearer(t, "alice"))
		alice.next("user count")
		bob := bearer(t, "bob")
		tab := h.stream("/events", bob)
		tab.next("user count")
		for range sized(10, 50, 50) {
			tab.close()
			tab = h.stream("/events", bob)
			tab.next("user count")
		}
		carol := h.stream("/events", bearer(t, "carol"))
		joins, joined := 0, false
		// The count is also 3 during a reload, until the server subtracts the old stream.
		for last := ""; !joined || last != "3"; {
			e, err := alice.read(patience)
			if err != nil {
				t.Fatal(err)
			}
			switch e.name {
			case "leave":
				t.Errorf("alice: got leave %s, want none", e.data)
			case "join":
				joins++
				joined = joined || strings.Contains(e.data, `"carol"`)
			case "user count":
				last = e.data
			}
		}
		if joins != 2 { // bob's and carol's
			t.Errorf("alice: got %d joins, want 2", joins)
		}
		carol.next("user count")
		if got := h.presence(); got.Connections != 3 || got.Users != 3 {
			t.Errorf("after the reloads: got %d connections of %d users, want 3 of 3", got.Connections, got.Users)
		}
	})
}

// Promise 7: a stream ends with goodbye expired when its token expires, and the other clients
// receive a leave with the reason expired.
func TestPromise7Expiry(t *testing.T) {
	t.Parallel() // it waits for tokens to expire
	each(t, func(t *testing.T, open opener) {
		h := open(t, presence.Config{Linger: -1})
		alice := h.stream("/events", bearer(t, "alice"))
		alice.next("user count")
		short := h.stream("/events", mint(t, auth.Claims{Sub: "bob", TTL: time.Second}))
		events := short.rest()
		if last := events[len(events)-1]; last.name != "goodbye" || last.data != `{"reason":"expired"}` {
			t.Errorf("stream of an expired token: got %+v last, want goodbye expired", last)
		}
		if e := alice.next("leave"); !strings.Contains(e.data, `"reason":"expired"`) {
			t.Errorf("alice: got leave %s, want reason expired", e.data)
		}
	})
}

// Promise 6: a room above the member limit sends counts only. It sends members again once it has
// shrunk to 80 % of the limit, but no sooner than 10 s after it crossed the limit.
func TestPromise6MemberLimit(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, open opener) {
		t.Parallel() // it takes 10 s, the minimum between two crossings
		h := open(t, presence.Config{MemberLimit: 5, Linger: -1})
		streams := make([]*tab, 7)
		for i := range 5 {
			streams[i] = h.stream("/events", bearer(t, fmt.Sprint("u", i)))
			streams[i].next("user count")
		}
		first := streams[0]
		first.until("user count", "5")
		crossed := time.Now()
		streams[5] = h.stream("/events", bearer(t, "u5"))
		streams[5].expect("", "", "sync", `{"connections":6,"users":6,"complete":false,"heartbeat":15}`, "user count", "6")
		first.expect("sync", `{"connections":6,"users":6,"complete":false,"heartbeat":15}`, "user count", "6")
		streams[6] = h.stream("/events", bearer(t, "u6"))
		streams[6].expect("", "", "sync", `{"connections":7,"users":7,"complete":false,"heartbeat":15}`, "user count", "7")
		first.expect("user count", "7")
		if got := h.status("PUT", "/state", bearer(t, "u1"), `{"status":"away"}`); got != http.StatusNoContent {
			t.Errorf("PUT /state: got %d, want 204", got)
		}
		if got := h.presence(); len(got.Members) != 7 {
			t.Errorf("GET /presence: got %d members, want 7", len(got.Members))
		}
		for i := 6; i >= 4; i-- {
			streams[i].close()
			first.expect("user count", fmt.Sprint(i)) // 4 is 80 %; clients receive no leave and no update
		}
		e, err := first.read(patience)
		if took := time.Since(crossed); err != nil || e.name != "sync" || took < 10*time.Second || !strings.HasPrefix(e.data, `{"connections":4,"users":4,"members":[{"id":"u0",`) ||
			!strings.Contains(e.data, `{"status":"away"}`) || !strings.Contains(e.data, `"complete":true`) {
			t.Errorf("after %v: got %+v, %v; want a complete sync after 10 s", took, e, err)
		}
		streams[3].close()
		first.expect("leave", "…", "user count", "3")
	})
}

type page struct {
	Connections, Users int
	Members            []presence.Member
	Next               string
}

// presence returns the response to GET /presence of the lobby.
func (h *testServer) presence() (p page) {
	h.t.Helper()
	return h.page("/presence", bearer(h.t, "watcher"))
}

func (h *testServer) page(path, token string) (p page) {
	h.t.Helper()
	if err := json.NewDecoder(h.ask("GET", path, token, "").Body).Decode(&p); err != nil {
		h.t.Fatal(err)
	}
	return p
}

// GET /presence returns the members in order, in pages of limit members. Each page contains the
// counts of the room.
func TestPresencePages(t *testing.T) {
	each(t, func(t *testing.T, open opener) {
		h := open(t, presence.Config{})
		if p := h.presence(); p.Members == nil || len(p.Members) != 0 || p.Connections != 0 {
			t.Errorf("empty room: got %+v, want no members, not null", p)
		}
		for _, id := range []string{"d", "b", "a", "c", "e", "a"} {
			h.stream("/events", bearer(t, id)).next("user count")
		}
		got := ""
		for after, i := "", 0; i < 5; i++ {
			p := h.page("/presence?limit=2&after="+after, bearer(t, "watcher"))
			if p.Connections != 6 || p.Users != 5 {
				t.Errorf("got %d connections of %d users, want 6 of 5", p.Connections, p.Users)
			}
			for _, m := range p.Members {
				got += string(m.ID)
			}
			if after = p.Next; after == "" {
				break
			}
			got += "|"
		}
		if want := "ab|cd|e"; got != want {
			t.Errorf("got pages %s, want %s", got, want)
		}
	})
}
