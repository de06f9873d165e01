package presence_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence"
	"example.com/presence/pkg/presence/room"
)

// bansPage is a page of GET /bans.
type bansPage struct {
	Room string
	Bans []struct{ ID, Until string }
	Next string
}

// bans returns a page of GET /bans.
func (h *testServer) bans(query string) (page bansPage) {
	h.t.Helper()
	r := h.ask("GET", "/bans?"+query, admin(h.t), "")
	if err := json.NewDecoder(r.Body).Decode(&page); err != nil || r.StatusCode != http.StatusOK {
		h.t.Errorf("GET /bans?%s: got %s, %v; want 200", query, r.Status, err)
	}
	return page
}

// GET /bans returns the bans from a room in pages, and DELETE /bans lifts one. Both are for admins.
func TestBans(t *testing.T) {
	h := open(t, presence.Config{})
	for _, user := range []string{"carol", "a/é %", "bob"} { // none of them is in the room
		if got := h.status("DELETE", "/members?room=den&for=90m&id="+url.QueryEscape(user), admin(t), ""); got != http.StatusNoContent {
			t.Errorf("ban of %s: got %d, want 204", user, got)
		}
	}
	h.status("DELETE", "/members?for=90m&id=dave", admin(t), "")
	first, last := h.bans("room=den&limit=2"), h.bans("room=den&limit=2&after=bob")
	if len(first.Bans) != 2 || first.Bans[0].ID != "a/é %" || first.Bans[1].ID != "bob" || first.Next != "bob" || first.Room != "den" {
		t.Errorf("first page: got %+v, want a/é %% and bob", first)
	}
	if len(last.Bans) != 1 || last.Bans[0].ID != "carol" || last.Next != "" {
		t.Errorf("last page: got %+v, want carol", last)
	}
	if until, err := time.Parse("2006-01-02T15:04:05Z", first.Bans[0].Until); err != nil || time.Until(until) < 89*time.Minute || time.Until(until) > 90*time.Minute+time.Second {
		t.Errorf("got the end %q, want 90 minutes from now in UTC", first.Bans[0].Until)
	}
	r := h.ask("GET", "/bans?room=attic", admin(t), "")
	if body, _ := io.ReadAll(r.Body); string(body) != `{"room":"attic","bans":[]}`+"\n" || r.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("room without bans: got %s and headers %v, want an empty list", body, r.Header)
	}
	for path, want := range map[string]int{
		"GET /bans?limit=0": 400, "GET /bans?limit=1001": 400, "GET /bans?room=a/b": 400, "HEAD /bans": 200,
		"DELETE /bans": 400, "DELETE /bans?id=": 400, "DELETE /bans?id=%00": 400, "DELETE /bans?id=%EF%BF%BD": 400, "DELETE /bans?id=%FF": 400,
		"DELETE /bans?room=a/b&id=carol": 400, "DELETE /bans?id=carol": 404, "DELETE /bans?room=den&id=dave": 404,
		"DELETE /members?for=1m&id=a%00b": 400, "DELETE /members/a%0Ab?for=1m": 400, "DELETE /members?id=absent": 404,
		"DELETE /members?for=1m&id=" + strings.Repeat("x", 257): 400, "DELETE /members?for=1m&id=" + strings.Repeat("x", 256): 204,
	} {
		method, path, _ := strings.Cut(path, " ")
		if got := h.status(method, path, admin(t), ""); got != want {
			t.Errorf("%s %.50s: got %d, want %d", method, path, got, want)
		}
		if got := h.status(method, path, bearer(t, "alice"), ""); got != http.StatusForbidden {
			t.Errorf("%s %.50s: got %d for no admin, want 403", method, path, got)
		}
	}
	if got := h.status("GET", "/events?room=den", bearer(t, "bob"), ""); got != http.StatusForbidden {
		t.Errorf("banned user: got %d, want 403", got)
	}
	for _, want := range []int{http.StatusNoContent, http.StatusNotFound} {
		if got := h.status("DELETE", "/bans?room=den&id=bob", admin(t), ""); got != want {
			t.Errorf("DELETE /bans: got %d, want %d", got, want)
		}
	}
	h.stream("/events?room=den", bearer(t, "bob")).next("user count")
	if page := h.bans("room=den"); len(page.Bans) != 2 {
		t.Errorf("after one was lifted: got %+v, want 2 bans", page)
	}
}

// The methods Ban, Bans and Unban return the same results as the HTTP API.
func TestBanMethods(t *testing.T) {
	inBubble(t, presence.Config{}, func(t *testing.T, b *bubble) {
		if bans, err := b.Bans("lobby"); err != nil || bans == nil || len(bans) != 0 {
			t.Errorf("no bans: got %v, %v; want none, not nil", bans, err)
		}
		for _, user := range []string{"bob", "alice"} {
			if err := b.Ban(t.Context(), "lobby", user, time.Hour); err != nil {
				t.Error(err)
			}
		}
		if err := b.Ban(t.Context(), "lobby", "alice", 2*time.Second); err != nil { // shorter
			t.Error(err)
		}
		want := []presence.Ban{{ID: "alice", Until: time.Now().Add(2 * time.Second).UTC()}, {ID: "bob", Until: time.Now().Add(time.Hour).UTC()}}
		if bans, err := b.Bans("lobby"); err != nil || !slices.Equal(bans, want) {
			t.Errorf("got %v, %v; want %v", bans, err, want)
		}
		time.Sleep(2 * time.Second)
		if c := b.stream("/events", "", testUser("alice")); c.status != http.StatusOK {
			t.Errorf("after the shorter ban: got %d, want 200", c.status)
		}
		if bans, err := b.Bans("lobby"); err != nil || !slices.Equal(bans, want[1:]) {
			t.Errorf("after the shorter ban: got %v, %v; want %v", bans, err, want[1:])
		}
		if err := b.Unban(t.Context(), "lobby", "bob"); err != nil {
			t.Error(err)
		}
		if c := b.stream("/events", "", testUser("bob")); c.status != http.StatusOK {
			t.Errorf("after Unban: got %d, want 200", c.status)
		}
		ban := func(room, user string) error { return b.Ban(t.Context(), room, user, time.Minute) }
		unban := func(room, user string) error { return b.Unban(t.Context(), room, user) }
		kick := func(room, user string) error { return b.Kick(t.Context(), room, user, time.Minute) }
		list := func(room, _ string) error { _, err := b.Bans(room); return err }
		expect := func(what string, f func(room, user string) error, name, user string, want error) {
			t.Helper()
			if err := f(name, user); !errors.Is(err, want) || !strings.HasPrefix(err.Error(), "presence: ") {
				t.Errorf("%s %q from %q: got %v, want %v", what, user, name, err, want)
			}
		}
		expect("Ban", ban, "a b", "bob", room.ErrName)
		expect("Ban", ban, "lobby", "", presence.ErrUserID)
		expect("Ban", func(room, user string) error { return b.Ban(t.Context(), room, user, 0) }, "lobby", "bob", presence.ErrBan)
		expect("Kick", kick, "lobby", "a\nb", presence.ErrUserID)
		expect("Unban", unban, "a b", "bob", room.ErrName)
		expect("Unban", unban, "lobby", strings.Repeat("é", 129), presence.ErrUserID)
		expect("Unban", unban, "lobby", "bob", presence.ErrNotBanned)
		expect("Bans", list, "a b", "", room.ErrName)
		b.Shutdown(t.Context())
		for what, f := range map[string]func(room, user string) error{"Ban": ban, "Kick": kick, "Unban": unban, "Bans": list} {
			expect(what, f, "lobby", "bob", presence.ErrDraining)
		}
	})
}

// A node lists and lifts the bans of another one, and admits the user at once. A node that is cut
// off lists the bans that it knows, and does not know whether there are others.
func TestBansOfAnotherNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := newStatusBus()
		defer bus.Bus.Close()
		bus.connect(true)
		a, b := newBubble(t, presence.Config{Backplane: bus.Bus}), newBubble(t, presence.Config{Backplane: bus})
		defer b.Shutdown(t.Context())
		defer a.Shutdown(t.Context())
		time.Sleep(2 * time.Second) // the nodes know each other
		root := testUser("root")
		root.Admin = true
		for _, user := range []string{"bob", "carol"} {
			if answer := a.ask("DELETE", "/members?for=1h&id="+user, "", root); answer.Code != http.StatusNoContent {
				t.Errorf("ban of %s: got %d %s, want 204", user, answer.Code, answer.Body)
			}
		}
		if answer := b.ask("DELETE", "/bans?id=bob", "", root); answer.Code != http.StatusNoContent {
			t.Errorf("got %d %s, want 204", answer.Code, answer.Body)
		}
		for i, n := range []*bubble{a, b} {
			if c := n.stream("/events", "", testUser("bob")); c.status != http.StatusOK {
				t.Errorf("node %d, after the ban was lifted: got %d, want 200", i, c.status)
			}
		}
		until := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
		for _, connected := range []bool{true, false} {
			bus.connect(connected)
			want, status := `{"room":"lobby","bans":[{"id":"carol","until":"`+until+`"}],"complete":false}`, http.StatusServiceUnavailable
			if connected {
				want, status = strings.Replace(want, `,"complete":false`, "", 1), http.StatusNotFound
			}
			if answer := b.ask("GET", "/bans", "", root); answer.Code != http.StatusOK || strings.TrimSpace(answer.Body.String()) != want {
				t.Errorf("connected %v: got %d %s, want %s", connected, answer.Code, answer.Body, want)
			}
			if bans, err := b.Bans("lobby"); len(bans) != 1 || errors.Is(err, presence.ErrIncomplete) == connected {
				t.Errorf("connected %v: got %v, %v", connected, bans, err)
			}
			if answer := b.ask("DELETE", "/bans?id=bob", "", root); answer.Code != status {
				t.Errorf("connected %v: got %d %s, want %d", connected, answer.Code, answer.Body, status)
			}
		}
		bus.connect(true)
	})
}

// The table holds 100,000 bans. At the limit a new ban is refused, and those that exist can be
// replaced, listed and lifted.
func TestBanLimit(t *testing.T) {
	const limit = 100_000
	var log syncBuffer
	h := open(t, presence.Config{Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))})
	start := time.Now()
	var workers sync.WaitGroup
	for k := range 4 {
		workers.Go(func() {
			for i := k; i < limit; i += 4 {
				if err := h.Ban(context.Background(), "lobby", fmt.Sprintf("user-%06d", i), time.Hour); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	workers.Wait()
	t.Logf("%d bans took %v", limit, time.Since(start))
	r := h.ask("DELETE", "/members?for=1h&id=one-more", admin(t), "")
	if body, _ := io.ReadAll(r.Body); r.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(body), `"detail":"ban limit reached (100000)"`) {
		t.Errorf("at the limit: got %d %s, want 503 with the limit", r.StatusCode, body)
	}
	if got := h.status("DELETE", "/members?for=2h&id=user-000007", admin(t), ""); got != http.StatusNoContent {
		t.Errorf("second ban of one user at the limit: got %d, want 204", got)
	}
	start = time.Now()
	users := 0
	for query, more := "limit=1000", true; more; {
		page := h.bans(query)
		for _, b := range page.Bans {
			if want := fmt.Sprintf("user-%06d", users); b.ID != want {
				t.Fatalf("ban %d: got %s, want %s", users, b.ID, want)
			}
			users++
		}
		query, more = "limit=1000&after="+page.Next, page.Next != ""
	}
	t.Logf("%d bans listed in %v", users, time.Since(start))
	if users != limit {
		t.Errorf("got %d bans in all pages, want %d", users, limit)
	}
	if got := h.status("DELETE", "/bans?id=user-000007", admin(t), ""); got != http.StatusNoContent {
		t.Errorf("lift at the limit: got %d, want 204", got)
	}
	if got := h.status("DELETE", "/members?for=1h&id=one-more", admin(t), ""); got != http.StatusNoContent {
		t.Errorf("after one was lifted: got %d, want 204", got)
	}
	log.has(t, `cause=bans count=1 detail="ban limit reached (100000)" status=503`)
}
