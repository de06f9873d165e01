package presence_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/presence/pkg/presence"
	"example.com/presence/pkg/presence/auth"
	"example.com/presence/pkg/presence/room"
)

// Every client of the room, and no other client, receives a message with its sender, data and id.
func TestMessageReachesTheRoom(t *testing.T) {
	each(t, func(t *testing.T, open opener) {
		h := open(t, presence.Config{})
		alice, bob := h.stream("/events?room=doc-1", bearer(t, "alice")), h.stream("/events?room=doc-1", bearer(t, "bob"))
		other := h.stream("/events", bearer(t, "bob"))
		for _, m := range []struct{ kind, body, event, data string }{
			{"application/json", `{"event":"chat message","data":{"text": "<hi> & é","n":[1, 2.50]}}`, "chat message", `{"text":"<hi> & é","n":[1,2.50]}`},
			{"application/json; charset=utf-8", `{"data":null,"id":"mine-1"}`, "message", `null`},
			{"application/json", "{\"data\":\n\t[\n1]}", "message", `[1]`},
			{"text/plain", "two\nlines: \"x\"", "message", `"two\nlines: \"x\""`},
			{"text/plain;charset=UTF-8", "", "message", `""`},
			{"text/plain", strings.Repeat("x", 64<<10), "message", `"` + strings.Repeat("x", 64<<10) + `"`},
			{"text/plain", strings.Repeat("\n", 64<<10), "message", `"` + strings.Repeat(`\n`, 64<<10) + `"`},
		} {
			response := h.ask("POST", "/messages?room=doc-1", bearer(t, "alice"), m.body, "Content-Type", m.kind)
			var answer struct{ ID string }
			if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || response.StatusCode != http.StatusAccepted {
				t.Fatalf("%.99s: got %s, %v; want 202 and an id", m.body, response.Status, err)
			}
			for _, c := range []*tab{alice, bob} {
				e := c.next(m.event)
				var got struct {
					ID   string
					From presence.Sender
					Data json.RawMessage
					At   time.Time
				}
				if err := json.Unmarshal([]byte(e.data), &got); err != nil {
					t.Fatal(err)
				}
				if string(got.Data) != m.data || got.From != (presence.Sender{ID: "alice", Name: "Alice"}) || got.ID != answer.ID || e.id != answer.ID || time.Since(got.At).Abs() > time.Minute {
					t.Errorf("%.99s: got %.299s with id %s, want data %.99s from Alice with id %s", m.body, e.data, e.id, m.data, answer.ID)
				}
			}
		}
		h.post("/messages", bearer(t, "alice"), `{"data":"here"}`)
		if e := other.next("message"); !strings.Contains(e.data, `"here"`) {
			t.Errorf("lobby: got %s, want only the message \"here\"", e.data)
		}
	})
}

// Publish sends a message without a sender and returns its id. An error names its cause.
func TestPublish(t *testing.T) {
	h := open(t, presence.Config{})
	c := h.stream("/events", bearer(t, "alice"))
	id, err := h.Publish(t.Context(), "lobby", "deploy", map[string]string{"version": "<1>"})
	if err != nil {
		t.Fatal(err)
	}
	e := c.next("deploy")
	if at := strings.Index(e.data, `,"at":`); e.id != id || e.data[:at] != `{"id":"`+id+`","data":{"version":"<1>"}` {
		t.Errorf("got %s with id %s, want id %s and no sender", e.data, e.id, id)
	}
	for _, p := range []struct {
		room, event string
		data        any
		want        error
	}{
		{"a b", "", 1, room.ErrName},
		{"lobby", "user count", 1, room.ErrEventReserved},
		{"lobby", "a\nb", 1, room.ErrEventName},
		{"lobby", "", strings.Repeat("x", 64<<10), presence.ErrTooLarge},
	} {
		if _, err := h.Publish(t.Context(), p.room, p.event, p.data); !errors.Is(err, p.want) {
			t.Errorf("room %q, event %q: got %v, want %v", p.room, p.event, err, p.want)
		}
	}
	if _, err := h.Publish(t.Context(), "lobby", "", make(chan int)); err == nil {
		t.Error("Publish of a channel: got no error, want one")
	}
}

// Every rejected request gets a problem document with the status, a title, and a detail that names
// the cause.
func TestProblems(t *testing.T) {
	h := open(t, presence.Config{})
	lobby := mint(t, auth.Claims{Sub: "alice", TTL: time.Hour})
	docs := mint(t, auth.Claims{Sub: "alice", Join: []string{"doc-*"}, TTL: time.Hour})
	const inJSON, text = "application/json", "text/plain"
	for _, p := range []struct {
		name, method, path, token, kind, body string
		status                                int
		detail                                string
	}{
		{"no token", "POST", "/messages", "", text, "x", 401, "no token"},
		{"no token", "GET", "/events", "", "", "", 401, "no token"},
		{"no token", "GET", "/presence", "", "", "", 401, "no token"},
		{"broken token", "GET", "/events", "rubbish", "", "", 401, "not a JWT"},
		{"wrong room", "POST", "/messages?room=doc-1", lobby, text, "x", 403, "doc-1"},
		{"wrong room", "GET", "/events?room=doc-1", lobby, "", "", 403, "doc-1"},
		{"may join, not send", "POST", "/messages?room=doc-1", docs, text, "x", 403, "doc-1"},
		{"room's name", "GET", "/events?room=a%20b", lobby, "", "", 400, "room name must be 1 to 128 characters of A-Z a-z 0-9 . _ -"},
		{"room's name", "GET", "/events?room=", lobby, "", "", 400, "room name must be 1 to 128 characters of A-Z a-z 0-9 . _ -"},
		{"query", "GET", "/events?room=%zz", lobby, "", "", 400, "query"},
		{"body of a GET", "GET", "/events", lobby, text, "x", 400, "request body not allowed for GET /events"},
		{"65 KiB", "POST", "/messages", lobby, text, strings.Repeat("x", 65<<10), 413, "65536"},
		{"one byte more than 64 KiB", "POST", "/messages", lobby, inJSON, `{"data":"` + strings.Repeat("x", 64<<10-10) + `"}`, 413, "65536"},
		{"form", "POST", "/messages", lobby, "application/x-www-form-urlencoded", "data=x", 415, "application/json"},
		{"no type", "POST", "/messages", lobby, "", "x", 415, "application/json"},
		{"charset", "POST", "/messages", lobby, "text/plain; charset=latin1", "x", 415, "UTF-8"},
		{"server's event", "POST", "/messages", lobby, inJSON, `{"event":"user count","data":7}`, 400, "event name reserved for the server or the browser"},
		{"browser's event", "POST", "/messages", lobby, inJSON, `{"event":"error","data":7}`, 400, "event name reserved for the server or the browser"},
		{"event's name", "POST", "/messages", lobby, inJSON, `{"event":"a\nb","data":7}`, 400, "event name must be 1 to 64 UTF-8 characters, without control or format characters or leading or trailing white space"},
		{"no data", "POST", "/messages", lobby, inJSON, `{"event":"a"}`, 400, `missing JSON field "data"`},
		{"no JSON", "POST", "/messages", lobby, inJSON, `{"data":`, 400, "JSON"},
		{"null", "POST", "/messages", lobby, inJSON, `null`, 400, `missing JSON field "data"`},
		{"array", "POST", "/messages", lobby, inJSON, `[]`, 400, "JSON"},
		{"two values", "POST", "/messages", lobby, inJSON, `{"data":1} {"data":2}`, 400, "more than one"},
		{"typing error", "POST", "/messages", lobby, inJSON, `{"evnet":"a","data":1}`, 400, "evnet"},
		{"empty event", "POST", "/messages", lobby, inJSON, `{"data":1,"event":""}`, 400, "event"},
		{"null event", "POST", "/messages", lobby, inJSON, `{"data":1,"event":null}`, 400, "event"},
		{"empty id", "POST", "/messages", lobby, inJSON, `{"data":1,"id":""}`, 400, "id"},
		{"null id", "POST", "/messages", lobby, inJSON, `{"data":1,"id":null}`, 400, "id"},
		{"long id", "POST", "/messages", lobby, inJSON, `{"data":1,"id":"` + strings.Repeat("x", 65) + `"}`, 400, "id"},
		{"half a surrogate pair", "POST", "/messages", lobby, inJSON, `{"data":1,"id":"\ud800"}`, 400, "surrogate"},
		{"text that JSON makes large", "POST", "/messages", lobby, text, strings.Repeat("\x01", 64<<10), 413, "JSON"},
		{"not UTF-8", "POST", "/messages", lobby, text, "\xff", 400, "UTF-8"},
		{"page", "GET", "/presence?limit=1001", lobby, "", "", 400, "1000"},
		{"page", "GET", "/presence?limit=x", lobby, "", "", 400, "1000"},
		{"no such path", "GET", "/nothing", lobby, "", "", 404, "path"},
		{"no such path, nor method", "FOO", "/nothing", lobby, "", "", 404, "path"},
		{"no guests", "POST", "/login", "", inJSON, `{"name":"x"}`, 404, "path"},
		{"method", "DELETE", "/events", lobby, "", "", 405, "DELETE"},
		{"no stream for HEAD", "HEAD", "/events", lobby, "", "", 405, ""},
	} {
		response := h.ask(p.method, p.path, p.token, p.body, "Content-Type", p.kind)
		if p.method == "HEAD" && response.StatusCode == p.status {
			continue
		}
		var got struct {
			Type, Title, Detail string
			Status              int
		}
		err := json.NewDecoder(response.Body).Decode(&got)
		if response.StatusCode != p.status || err != nil || response.Header.Get("Content-Type") != "application/problem+json" ||
			got.Status != p.status || got.Type == "" || got.Title != http.StatusText(p.status) || !strings.Contains(got.Detail, p.detail) {
			t.Errorf("%s: %s %s: got %s, %+v, %v; want %d, %q", p.name, p.method, p.path, response.Status, got, err, p.status, p.detail)
		}
		if challenge := response.Header.Get("WWW-Authenticate"); (p.status == 401) != strings.HasPrefix(challenge, "Bearer") {
			t.Errorf("%s: got WWW-Authenticate %q, want Bearer: %v", p.name, challenge, p.status == 401)
		}
		if allow := response.Header.Get("Allow"); (p.status == 405) != (allow != "") {
			t.Errorf("%s: got Allow %q, want one: %v", p.name, allow, p.status == 405)
		}
	}
	if p := h.presence(); p.Connections != 0 {
		t.Errorf("after rejected streams: got %d connections, want 0", p.Connections)
	}
}

// Promise 2: all clients receive concurrent messages in the same order. Messages of one sender
// arrive in the order in which they were sent.
func TestPromise2OneOrderForAll(t *testing.T) {
	each(t, func(t *testing.T, open opener) {
		const senders, each = 20, 100
		h := open(t, presence.Config{})
		a, b := h.stream("/events", bearer(t, "alice")), h.stream("/events", bearer(t, "bob"))
		var wait sync.WaitGroup
		for i := range senders {
			token := bearer(t, fmt.Sprint("sender", i))
			wait.Go(func() {
				for j := range each {
					h.post("/messages", token, fmt.Sprintf(`{"data":%d}`, j))
				}
			})
		}
		wait.Wait()
		last := map[string]int{}
		for range senders * each {
			one, two := a.next("message"), b.next("message")
			if one != two {
				t.Fatalf("bob got %s, want %s as alice", two.data, one.data)
			}
			var m struct {
				From presence.Sender
				Data int
			}
			if err := json.Unmarshal([]byte(one.data), &m); err != nil {
				t.Fatal(err)
			}
			if m.Data != last[m.From.ID] {
				t.Fatalf("%s: got message %d, want %d", m.From.ID, m.Data, last[m.From.ID])
			}
			last[m.From.ID]++
		}
	})
}

// A hook that blocks delays no client, and the hooks of a room are called in order.
func TestHooks(t *testing.T) {
	release := make(chan struct{})
	calls := make(chan string, 100)
	h := open(t, presence.Config{
		Linger: -1,
		OnJoin: func(room string, m presence.Member) { <-release; calls <- "join " + room + " " + string(m.ID) },
		OnLeave: func(room string, m presence.Member, why presence.Reason) {
			calls <- fmt.Sprint("leave ", room, " ", m.ID, " ", why)
		},
		OnMessage: func(m presence.Message) {
			calls <- fmt.Sprint("message ", m.Room, " ", m.From.ID, " ", m.Event, " ", string(m.Data))
		},
	})
	alice := h.stream("/events", bearer(t, "alice"))
	alice.next("user count")
	h.post("/messages", bearer(t, "bob"), `{"event":"chat","data":[1]}`)
	alice.next("chat")
	bob := h.stream("/events", bearer(t, "bob"))
	bob.next("user count")
	bob.close()
	alice.until("user count", "1")
	select {
	case got := <-calls:
		t.Fatalf("while the first hook runs: got %q, want no call", got)
	default:
	}
	close(release)
	for _, want := range []string{"join lobby alice", "message lobby bob chat [1]", "join lobby bob", "leave lobby bob closed"} {
		if got := <-calls; got != want {
			t.Errorf("got hook %q, want %q", got, want)
		}
	}
}

// The hooks of a room without clients are also called in order.
func TestHooksOfAnEmptyRoom(t *testing.T) {
	var mu sync.Mutex
	var got []string
	h := open(t, presence.Config{OnMessage: func(m presence.Message) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, string(m.Data))
	}})
	for i := range 200 {
		if _, err := h.Publish(t.Context(), "empty", "", i); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := h.Shutdown(ctx); err != nil { // waits for the hooks
		t.Fatal(err)
	}
	for i, data := range got {
		if data != fmt.Sprint(i) {
			t.Fatalf("hook: got message %s, want %d", data, i)
		}
	}
	if len(got) != 200 {
		t.Errorf("hook: got %d messages, want 200", len(got))
	}
}

// Publish returns when its context is canceled.
func TestPublishStopsWithContext(t *testing.T) {
	h := open(t, presence.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 100 { // select chooses at random between a free slot and the canceled context
		if _, err := h.Publish(ctx, "lobby", "", 1); err != nil {
			if !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want context.Canceled", err)
			}
			return
		}
	}
	t.Error("Publish with a canceled context: got no error 100 times, want context.Canceled")
}

// raw sends the bytes unchanged and returns the response.
func (h *testServer) raw(request string) *http.Response {
	h.t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(h.URL, "http://"))
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	io.WriteString(c, request)
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		h.t.Fatalf("%.50s…: got %v, want a response", request, err)
	}
	return response
}

// The server stops waiting for a body at the time limit, whether or not the request is otherwise
// valid. So a body that never arrives blocks no goroutine for longer.
func TestBodyTimeout(t *testing.T) {
	t.Parallel() // it takes 10 s, the time limit of a body
	h := open(t, presence.Config{})
	want := map[string]int{
		"POST /messages HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 9\r\nAuthorization: Bearer " + bearer(t, "alice") + "\r\n\r\n": 400,
		"POST /messages HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n":                                                                                 401,
		"DELETE /session HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n":                                                                                401,
		"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n":                                                                                   200,
		"POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n":                                                                                  404,
	}
	var wait sync.WaitGroup
	for request, status := range want {
		wait.Go(func() {
			if r := h.raw(request); r.StatusCode != status {
				t.Errorf("%.50s…: got %s, want %d", request, r.Status, status)
			}
		})
	}
	wait.Wait()
}

// A request whose body has invalid chunks gets 400, and is logged like any refused request.
func TestBrokenBody(t *testing.T) {
	var log bytes.Buffer
	h := open(t, presence.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	r := h.raw("POST /session HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
	if r.StatusCode != http.StatusBadRequest || strings.Count(log.String(), "\n") != 1 || !strings.Contains(log.String(), "cause=bad_request count=1") {
		t.Errorf("got %s, log %q; want 400 and one refusal", r.Status, log.String())
	}
}

// Publish sends any JSON on one line, because a line break in the data would forge a field of the
// stream.
func TestPublishIsCompact(t *testing.T) {
	h := open(t, presence.Config{})
	alice := h.stream("/events", bearer(t, "alice"))
	alice.next("user count")
	for i, data := range []any{json.RawMessage("{\n \"a\":\r\n [1, 2] }"), map[string]string{"a": "b\n<&>"}, spaced{}} {
		if _, err := h.Publish(t.Context(), "lobby", "", data); err != nil {
			t.Fatal(err)
		}
		want := []string{`"data":{"a":[1,2]},`, `"data":{"a":"b\n<&>"},`, `"data":[1,"x y"],`}[i]
		if e := alice.next("message"); !strings.Contains(e.data, want) {
			t.Errorf("got %s, want %s", e.data, want)
		}
	}
}

// spaced is a value whose JSON contains spaces and line breaks.
type spaced struct{}

func (spaced) MarshalJSON() ([]byte, error) { return []byte("[\n 1,\n \"x y\" ]"), nil }
