package presence_test

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence"
	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/room"
)

// historyPage is the body of a response to GET /messages.
type historyPage struct {
	Room     string
	Messages []struct {
		ID, Event string
		From      *presence.Sender
		Data      json.RawMessage
		At        time.Time
	}
	LastEventID string `json:"last_event_id"`
	Next        string
}

// page returns a page of the history. The request must succeed.
func (b *bubble) page(query string, u presence.User) (page historyPage) {
	b.t.Helper()
	answer := b.ask("GET", "/messages?"+query, "", u)
	if err := json.Unmarshal(answer.Body.Bytes(), &page); err != nil || answer.Code != http.StatusOK || page.Messages == nil {
		b.t.Fatalf("GET /messages?%s: got %d %.200s (%v)", query, answer.Code, answer.Body, err)
	}
	return page
}

// data returns the data of the messages.
func (p historyPage) data() (all []string) {
	for _, m := range p.Messages {
		all = append(all, string(m.Data))
	}
	return all
}

// pages reads the history backwards, and returns the data of all messages, oldest first.
func (b *bubble) pages(name string, limit int, u presence.User) (all []string) {
	b.t.Helper()
	for before, n := "", 0; ; n++ {
		page := b.page(fmt.Sprintf("room=%s&limit=%d&before=%s", name, limit, before), u)
		if all = append(page.data(), all...); page.Next == "" {
			return all
		}
		if n > 10_000 || len(page.Messages) == 0 {
			b.t.Fatalf("got page %d with %d messages, and the next page %q", n, len(page.Messages), page.Next)
		}
		before = page.Next
	}
}

// historyNodes returns nodes on each kind of memory engine: one that is alone, and three that share
// one. The messages of the test are sent to the first.
func historyNodes(t *testing.T, c presence.Config, test func(t *testing.T, nodes []*bubble)) {
	t.Run("one node", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { test(t, []*bubble{newBubble(t, c)}) })
	})
	t.Run("three nodes", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			log := backplane.MemoryConfig{Shared: true, Messages: cmp.Or(c.History, 1000), Age: time.Hour, Bytes: cmp.Or(c.HistoryBytes, 64<<20)}
			bus := backplane.NewMemory(log)
			defer bus.Close()
			c.Backplane = bus
			var nodes []*bubble
			for range 3 {
				n := newBubble(t, c)
				defer n.Shutdown(t.Context())
				nodes = append(nodes, n)
			}
			time.Sleep(2 * time.Second) // the nodes know each other
			test(t, nodes)
		})
	})
}

// Reading all pages backwards returns each message once and in order, on a node that has the room
// and on nodes that do not. A read opens no room.
func TestHistoryPages(t *testing.T) {
	historyNodes(t, presence.Config{History: 5000, CostRate: -1, HistoryRate: -1}, func(t *testing.T, nodes []*bubble) {
		alice := testUser("alice")
		var want []string
		for i := range 2500 {
			want = append(want, fmt.Sprint(i))
			nodes[0].post("/messages?room=doc", fmt.Sprintf(`{"data":%d}`, i), alice)
			if i%3 == 0 { // the positions of a shared engine have gaps
				nodes[0].post("/messages?room=other", `{"data":"x"}`, alice)
			}
		}
		time.Sleep(time.Second)
		for i, n := range nodes {
			for _, limit := range []int{50, 333, 1000} {
				if got := n.pages("doc", limit, alice); !slices.Equal(got, want) {
					t.Errorf("node %d, limit %d: got %d messages %.60q…, want %d", i, limit, len(got), got, len(want))
				}
			}
			if rooms := n.Stats().Rooms; i > 0 && rooms > 0 {
				t.Errorf("node %d: got %d rooms, want none", i, rooms)
			}
			if got := n.page("room=doc", alice).data(); !slices.Equal(got, want[2450:]) {
				t.Errorf("node %d, no limit: got %q, want the newest 50", i, got)
			}
		}
	})
}

// A page ends at about 1 MiB, and the next one continues.
func TestHistoryBytes(t *testing.T) {
	historyNodes(t, presence.Config{MaxMessage: 1 << 20, HistoryBytes: 128 << 20, CostRate: -1, HistoryRate: -1}, func(t *testing.T, nodes []*bubble) {
		alice, want := testUser("alice"), []string{}
		for i := range 40 {
			size := 100 << 10
			if i == 20 {
				size = 1<<20 - 100
			}
			text := fmt.Sprintf(`"%d %s"`, i, strings.Repeat("x", size))
			want = append(want, text)
			nodes[0].post("/messages?room=doc", `{"data":`+text+`}`, alice)
		}
		for _, n := range nodes {
			if got := n.pages("doc", 1000, alice); !slices.Equal(got, want) {
				t.Errorf("got %d messages, want %d", len(got), len(want))
			}
			for before := ""; ; {
				answer := n.ask("GET", "/messages?room=doc&limit=1000&before="+before, "", alice)
				var page historyPage
				if err := json.Unmarshal(answer.Body.Bytes(), &page); err != nil {
					t.Fatal(err)
				}
				if size := answer.Body.Len(); size > 1<<20+4<<10 || size < 300<<10 && page.Next != "" {
					t.Errorf("got a page of %d bytes, want about 1 MiB", size)
				}
				if before = page.Next; before == "" {
					break
				}
			}
		}
	})
}

// The response has the fields of the events, with the name of the event. Unusual and malformed
// values of before are handled.
func TestHistoryResponse(t *testing.T) {
	historyNodes(t, presence.Config{}, func(t *testing.T, nodes []*bubble) {
		alice, admin := testUser("alice"), testUser("root")
		admin.Admin = true
		n := nodes[0]
		n.post("/messages?room=doc", `{"data":{"text":"hello"},"event":"chat \"message\""}`, alice)
		second := n.post("/messages?room=doc", `{"data":null}`, admin)
		time.Sleep(time.Second)
		first := strings.TrimSuffix(second, "2") + "1"
		for i, n := range nodes {
			page := n.page("room=doc", alice)
			at := func(i int) string { return page.Messages[i].At.Format(time.RFC3339Nano) }
			want := `{"room":"doc","messages":[` +
				`{"id":"` + first + `","event":"chat \"message\"","from":{"id":"alice","name":"ALICE"},"data":{"text":"hello"},"at":"` + at(0) + `"},` +
				`{"id":"` + second + `","event":"message","data":null,"at":"` + at(1) + `"}],"last_event_id":"` + second + `"}` + "\n"
			answer := n.ask("GET", "/messages?room=doc", "", alice)
			if got := answer.Body.String(); got != want {
				t.Errorf("node %d: got %s\nwant %s", i, got, want)
			}
			if kind, cache := answer.Header().Get("Content-Type"), answer.Header().Get("Cache-Control"); kind != "application/json" || cache != "no-store" {
				t.Errorf("node %d: got Content-Type %q and Cache-Control %q", i, kind, cache)
			}
			if head := n.ask("HEAD", "/messages?room=doc&limit=1", "", alice); head.Code != http.StatusOK {
				t.Errorf("node %d: HEAD: got %d, want 200", i, head.Code)
			}
			for query, want := range map[string]string{
				"room=doc&limit=1":                        "null " + second + " " + second,
				"room=doc&limit=1&before=" + second:       `{"text":"hello"} ` + second + " ",
				"room=doc&before=" + first:                " " + second + " ",
				"room=doc&before=" + second + "000":       `{"text":"hello"} null ` + second + " ",
				"room=doc&before=0123456789-5":            " " + second + " ",
				"room=doc&before=" + second[:10] + "-0":   " " + second + " ",
				"room=doc&limit=1&before=":                "null " + second + " " + second,
				"room=empty":                              " " + n.page("room=empty", alice).LastEventID + " ",
				"room=empty&before=" + second[:10] + "-7": " " + n.page("room=empty", alice).LastEventID + " ",
			} {
				got := n.page(query, alice)
				if text := strings.Join(got.data(), " ") + " " + got.LastEventID + " " + got.Next; text != want {
					t.Errorf("node %d: %s: got %q, want %q", i, query, text, want)
				}
			}
			for _, query := range []string{"before=7", "before=mine-1", "before=" + second + "x", "before=0123456789-18446744073709551616", "before=" + strings.ToUpper("abcdefabcd") + "-1",
				"limit=0", "limit=1001", "limit=x", "limit=1&limit=2", "befor=" + second, "room=a/b"} {
				answer := n.ask("GET", "/messages?"+query, "", alice)
				if answer.Code != http.StatusBadRequest {
					t.Errorf("node %d: %s: got %d %s, want 400", i, query, answer.Code, answer.Body)
				}
			}
		}
	})
}

// The history of a room is for users that may join it and are not banned from it. They need not be
// in the room.
func TestHistoryRights(t *testing.T) {
	historyNodes(t, presence.Config{}, func(t *testing.T, nodes []*bubble) {
		alice, bob, admin, sender := testUser("alice"), testUser("bob"), testUser("root"), testUser("sender")
		bob.Join, bob.Send = []string{"news"}, nil
		sender.Join = nil
		admin.Admin, admin.Join = true, nil
		nodes[0].post("/messages?room=doc", `{"data":1}`, alice)
		nodes[0].post("/messages?room=news", `{"data":1}`, alice)
		ask := func(room string, u presence.User, want int) {
			t.Helper()
			for i, n := range nodes {
				if got := n.ask("GET", "/messages?room="+room, "", u); got.Code != want {
					t.Errorf("node %d, room %s, user %s: got %d %s, want %d", i, room, u.ID, got.Code, got.Body, want)
				}
			}
		}
		ask("doc", alice, http.StatusOK)
		ask("news", bob, http.StatusOK)
		ask("doc", bob, http.StatusForbidden)
		ask("doc", sender, http.StatusForbidden)
		ask("doc", admin, http.StatusOK)
		if got := nodes[0].ask("DELETE", "/members?room=doc&id=alice&for=60s", "", admin); got.Code != http.StatusNoContent {
			t.Fatalf("ban: got %d %s", got.Code, got.Body)
		}
		time.Sleep(time.Second)
		ask("doc", alice, http.StatusForbidden)
		ask("news", alice, http.StatusOK)
		time.Sleep(time.Minute)
		ask("doc", alice, http.StatusOK)
	})
}

// A page costs the size of its messages, and with several nodes that of the messages that are read
// for it.
func TestHistoryCost(t *testing.T) {
	historyNodes(t, presence.Config{CostRate: 64 << 10, CostBurst: 256 << 10, HistoryRate: -1}, func(t *testing.T, nodes []*bubble) {
		alice, admin := testUser("alice"), testUser("root")
		admin.Admin = true
		for range 10 {
			nodes[0].post("/messages?room=doc", `{"data":"`+strings.Repeat("x", 30<<10)+`"}`, admin)
		}
		n := nodes[len(nodes)-1]
		if got := n.ask("GET", "/messages?room=doc", "", alice); got.Code != http.StatusOK {
			t.Fatalf("first page: got %d %s", got.Code, got.Body)
		}
		refused := n.ask("GET", "/messages?room=doc", "", alice)
		if wait := refused.Header().Get("Retry-After"); refused.Code != http.StatusTooManyRequests || wait != "1" {
			t.Errorf("second page: got %d with Retry-After %q, want 429 for 300 of 256 KiB", refused.Code, wait)
		}
		for _, u := range []presence.User{testUser("bob"), admin, admin, admin} {
			if got := n.ask("GET", "/messages?room=doc", "", u); got.Code != http.StatusOK {
				t.Errorf("user %s: got %d, want 200", u.ID, got.Code)
			}
		}
		time.Sleep(time.Second)
		if got := n.ask("GET", "/messages?room=doc", "", alice); got.Code != http.StatusOK {
			t.Errorf("after a second: got %d, want 200", got.Code)
		}
		// Pages without messages have a cost too: 1 KiB each.
		carol, served := testUser("carol"), 0
		for served < 1000 && n.ask("GET", "/messages?room=none", "", carol).Code == http.StatusOK {
			served++
		}
		if served != 256 {
			t.Errorf("got %d empty pages for 256 KiB, want 256", served)
		}
	})
}

// An old page of a long history costs more than its messages, because the server reads all messages
// after it.
func TestOldHistoryCost(t *testing.T) {
	inBubble(t, presence.Config{History: 2000, CostRate: 64 << 10, CostBurst: 64 << 10, HistoryRate: -1}, func(t *testing.T, b *bubble) {
		alice, admin := testUser("alice"), testUser("root")
		admin.Admin = true
		second := ""
		for i := range 1500 {
			if id := b.post("/messages?room=doc", `{"data":1}`, admin); i == 1 {
				second = id
			}
		}
		for i := range 10 {
			if got := b.ask("GET", "/messages?room=doc&limit=1", "", alice); got.Code != http.StatusOK {
				t.Fatalf("newest page, request %d: got %d, want 200", i, got.Code)
			}
		}
		for _, want := range []int{http.StatusOK, http.StatusTooManyRequests} {
			if got := b.ask("GET", "/messages?room=doc&limit=1&before="+second, "", alice); got.Code != want {
				t.Errorf("oldest page: got %d, want %d", got.Code, want)
			}
		}
	})
}

// A client that loads the history, and then opens its stream with last_event_id, receives each
// message once while messages are being sent.
func TestHistoryThenStream(t *testing.T) {
	historyNodes(t, presence.Config{CostRate: -1, HistoryRate: -1}, func(t *testing.T, nodes []*bubble) {
		alice, bob := testUser("alice"), testUser("bob")
		var stop atomic.Bool
		sent := make(chan int)
		go func() { // ends when stop is set
			n := 0
			for ; !stop.Load(); n++ {
				nodes[n%len(nodes)].post("/messages?room=doc", fmt.Sprintf(`{"data":%d}`, n), alice)
				time.Sleep(time.Duration(n%7) * time.Millisecond)
			}
			sent <- n
		}()
		type client struct {
			history historyPage
			stream  *clientStream
		}
		var clients []client
		for i := range 30 {
			time.Sleep(10 * time.Millisecond)
			n := nodes[i%len(nodes)]
			page := n.page("room=doc&limit=1000", bob)
			time.Sleep(time.Duration(i%4) * 5 * time.Millisecond)
			clients = append(clients, client{page, nodes[(i+1)%len(nodes)].stream("/events?room=doc&last_event_id="+page.LastEventID, "", bob)})
		}
		stop.Store(true)
		total := <-sent
		time.Sleep(3 * time.Second)
		for i, c := range clients {
			got := c.history.data()
			for _, e := range c.stream.take() {
				switch e.name {
				case "reset":
					t.Errorf("client %d: got reset", i)
				case "message":
					var m struct{ Data json.RawMessage }
					if err := json.Unmarshal([]byte(e.data), &m); err != nil {
						t.Fatal(err)
					}
					got = append(got, string(m.Data))
				}
			}
			slices.SortFunc(got, func(a, b string) int { return len(a)*10000 - len(b)*10000 + strings.Compare(a, b) })
			for n := range total {
				if n >= len(got) || got[n] != fmt.Sprint(n) {
					t.Fatalf("client %d: got %q, want each of %d messages once", i, got, total)
				}
			}
			if len(got) != total {
				t.Errorf("client %d: got %d messages, want %d", i, len(got), total)
			}
		}
	})
}

// A Go program reads the same pages.
func TestMessages(t *testing.T) {
	historyNodes(t, presence.Config{}, func(t *testing.T, nodes []*bubble) {
		n := nodes[len(nodes)-1]
		first := nodes[0].post("/messages?room=doc", `{"data":1}`, testUser("alice"))
		if _, err := nodes[0].Publish(t.Context(), "doc", "bell", 2); err != nil {
			t.Fatal(err)
		}
		last := nodes[0].post("/messages?room=doc", `{"data":3,"event":"x"}`, testUser("bob"))
		page, err := n.Messages(t.Context(), "doc", "", 2)
		if err != nil || len(page.Messages) != 2 || page.LastEventID != last || page.Next != page.Messages[0].ID {
			t.Fatalf("got %+v, %v", page, err)
		}
		if m := page.Messages[0]; m.From != nil || m.Event != "bell" || string(m.Data) != "2" || m.Room != "doc" {
			t.Errorf("got %+v, want the message of the server", m)
		}
		if m := page.Messages[1]; m.From == nil || *m.From != (presence.Sender{ID: "bob", Name: "BOB"}) || m.ID != last || m.At.IsZero() || string(m.Data) != "3" {
			t.Errorf("got %+v, want the message of bob", m)
		}
		page, err = n.Messages(t.Context(), "doc", page.Next, 0)
		if err != nil || len(page.Messages) != 1 || page.Messages[0].ID != first || page.Next != "" {
			t.Errorf("got %+v, %v, want the first message", page, err)
		}
		page, err = n.Messages(t.Context(), "empty", "", 5000)
		if err != nil || page.Messages == nil || len(page.Messages) > 0 {
			t.Errorf("got %+v, %v, want an empty list", page, err)
		}
		if _, err := n.Messages(t.Context(), "a/b", "", 1); !errors.Is(err, room.ErrName) {
			t.Errorf("got %v, want %v", err, room.ErrName)
		}
		if _, err := n.Messages(t.Context(), "doc", "7", 1); !errors.Is(err, presence.ErrMessageID) {
			t.Errorf("got %v, want %v", err, presence.ErrMessageID)
		}
		if err := n.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := n.Messages(t.Context(), "doc", "", 1); !errors.Is(err, presence.ErrDraining) {
			t.Errorf("got %v, want %v", err, presence.ErrDraining)
		}
	})
}

// A node without contact to the backplane responds with 503 and Retry-After, and never with a part
// of the history.
func TestHistoryWithoutBackplane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := newStatusBus()
		defer bus.Bus.Close()
		bus.connect(true)
		b := newBubble(t, presence.Config{Backplane: bus})
		defer b.Shutdown(t.Context())
		time.Sleep(2 * time.Second)
		b.post("/messages", `{"data":1}`, testUser("alice"))
		bus.connect(false)
		answer := b.ask("GET", "/messages", "", testUser("alice"))
		if answer.Code != http.StatusServiceUnavailable || answer.Header().Get("Retry-After") == "" || !strings.Contains(answer.Body.String(), "backplane") {
			t.Errorf("got %d %s, want 503", answer.Code, answer.Body)
		}
		if _, err := b.Messages(t.Context(), "lobby", "", 1); !errors.Is(err, backplane.ErrUnavailable) {
			t.Errorf("Messages: got %v, want %v", err, backplane.ErrUnavailable)
		}
		bus.connect(true)
		time.Sleep(2 * time.Second)
		b.page("", testUser("alice"))
	})
}

// stoppedWriter is a response whose client reads nothing until resume is closed.
type stoppedWriter struct {
	http.ResponseWriter
	resume <-chan struct{}
}

func (w stoppedWriter) Write(b []byte) (int, error) {
	<-w.resume
	return w.ResponseWriter.Write(b)
}

// Pages that their clients do not read have a limit, of which one user gets half. Its next request
// is 503, and others are served.
func TestUnreadHistory(t *testing.T) {
	historyNodes(t, presence.Config{MaxMessage: 1 << 20, CostRate: -1, HistoryRate: -1}, func(t *testing.T, nodes []*bubble) {
		alice, n := testUser("alice"), nodes[len(nodes)-1]
		nodes[0].post("/messages?room=doc", `{"data":"`+strings.Repeat("x", 1<<20-100)+`"}`, alice)
		time.Sleep(time.Second)
		resume := make(chan struct{})
		var all sync.WaitGroup
		var refused, served atomic.Int32
		for range 40 {
			all.Go(func() {
				answer := httptest.NewRecorder()
				n.ServeHTTP(stoppedWriter{answer, resume}, n.request(t.Context(), "GET", "/messages?room=doc", "", alice))
				switch answer.Code {
				case http.StatusOK:
					served.Add(1)
				case http.StatusServiceUnavailable:
					refused.Add(1)
				}
			})
		}
		time.Sleep(time.Second)
		if got := n.ask("GET", "/messages?room=doc", "", alice); got.Code != http.StatusServiceUnavailable || got.Header().Get("Retry-After") == "" {
			t.Errorf("alice: got %d, want 503", got.Code)
		}
		if got := n.page("room=doc", testUser("bob")); len(got.Messages) != 1 {
			t.Errorf("bob: got %d messages, want 1", len(got.Messages))
		}
		close(resume)
		all.Wait()
		if refused.Load() != 8 || served.Load() != 32 {
			t.Errorf("got %d responses, and refused %d, want 32 and 8", served.Load(), refused.Load())
		}
		if got := n.page("room=doc", alice); len(got.Messages) != 1 {
			t.Errorf("alice: got %d messages after the clients have read, want 1", len(got.Messages))
		}
	})
}
