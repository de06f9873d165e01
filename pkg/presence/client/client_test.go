package client_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"testing"
	"time"

	"example.com/presence/pkg/presence/client"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open starts a server. It returns a client for it, whose base URL has a path, and the log of the
// client.
func open(t *testing.T, handler http.HandlerFunc, change ...func(*client.Config)) (*client.Client, *bytes.Buffer) {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	var log bytes.Buffer
	config := client.Config{
		URL:        server.URL + "/live/",
		Room:       "doc-1",
		Token:      client.StaticToken("secret"),
		HTTPClient: server.Client(),
		Logger:     slog.New(slog.NewTextHandler(&log, nil)),
	}
	for _, f := range change {
		f(&config)
	}
	c, err := client.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return c, &log
}

func TestNewRejects(t *testing.T) {
	for _, c := range []client.Config{
		{},
		{URL: "presence.example"},
		{URL: "ftp://presence.example"},
		{URL: "https://"},
		{URL: "https://presence.example?room=x"},
		{URL: "https://presence.example#x"},
		{URL: "https://presence.example", LastEventID: "1\n"},
	} {
		field := "URL"
		if c.LastEventID != "" {
			field = "LastEventID"
		}
		_, err := client.New(c)
		if bad := new(client.ConfigError); !errors.As(err, &bad) || bad.Field != field || err.Error() != "client: "+field+" "+bad.Reason {
			t.Errorf("%+v: got %v, want a ConfigError for %s", c, err, field)
		}
	}
}

func TestSend(t *testing.T) {
	c, _ := open(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got := r.Method + " " + r.URL.String() + " " + r.Header.Get("Content-Type") + " " + r.Header.Get("Authorization") + " " + string(body)
		want := `POST /live/messages?room=doc-1 application/json Bearer secret {"event":"chat message","id":"mine-1","data":{"text":"hi"}}`
		if got != want {
			t.Errorf("got\n%s, want\n%s", got, want)
		}
		w.WriteHeader(http.StatusAccepted)
		io.WriteString(w, `{"id":"e-7"}`)
	})
	id, err := c.Send(t.Context(), client.Message{Event: "chat message", ID: "mine-1", Data: json.RawMessage(`{"text":"hi"}`)})
	if id != "e-7" || err != nil {
		t.Errorf("got %q, %v, want e-7, nil", id, err)
	}
}

func TestSendProblem(t *testing.T) {
	c, _ := open(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json; charset=utf-8")
		w.Header().Set("Retry-After", "2")
		w.WriteHeader(http.StatusTooManyRequests)
		io.WriteString(w, `{"type":"about:blank","title":"Too fast","status":1,"detail":"20 messages per second"}`)
	})
	_, err := c.Send(t.Context(), client.Message{})
	var p *client.Problem
	want := client.Problem{Status: 429, Type: "about:blank", Title: "Too fast", Detail: "20 messages per second", RetryAfter: 2 * time.Second}
	if !errors.As(err, &p) || *p != want {
		t.Fatalf("got %#v, want %#v", err, want)
	}
	if got, want := err.Error(), `client: send to room "doc-1": 429 Too fast: 20 messages per second`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestSetState(t *testing.T) {
	status := http.StatusNoContent
	c, _ := open(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got := r.Method + " " + r.URL.String() + " " + r.Header.Get("Content-Type") + " " + string(body)
		if want := `PUT /live/state?room=doc-1 application/json {"status":"away"}`; got != want {
			t.Errorf("got\n%s, want\n%s", got, want)
		}
		w.WriteHeader(status)
	})
	if err := c.SetState(t.Context(), json.RawMessage(`{"status":"away"}`)); err != nil {
		t.Error(err)
	}
	status = http.StatusConflict
	var p *client.Problem
	if err := c.SetState(t.Context(), json.RawMessage(`{"status":"away"}`)); !errors.As(err, &p) || p.Status != status {
		t.Errorf("got %v, want 409", err)
	}
}

// History sends the parameters that are set, and decodes the messages with their event names.
func TestHistory(t *testing.T) {
	want := "GET /live/messages?room=doc-1 Bearer secret"
	body := `{"room":"doc-1","messages":[{"id":"e-7","event":"chat","from":{"id":"alice","name":"Alice"},"data":[1],"at":"2026-01-02T03:04:05Z"},` +
		`{"id":"e-8","event":"message","data":{"a":1},"at":"2026-01-02T03:04:05Z"}],"last_event_id":"e-9","next":"e-7"}`
	c, _ := open(t, func(w http.ResponseWriter, r *http.Request) {
		if got := r.Method + " " + r.URL.String() + " " + r.Header.Get("Authorization"); got != want {
			t.Errorf("got\n%s, want\n%s", got, want)
		}
		io.WriteString(w, body)
	})
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	got, err := c.History(t.Context(), "", 0)
	if page := (client.MessagePage{LastEventID: "e-9", Next: "e-7", Messages: []client.Message{
		{Event: "chat", ID: "e-7", From: client.Sender{ID: "alice", Name: "Alice"}, Data: json.RawMessage(`[1]`), At: at},
		{Event: "message", ID: "e-8", Data: json.RawMessage(`{"a":1}`), At: at},
	}}); err != nil || !reflect.DeepEqual(got, page) {
		t.Errorf("got %+v, %v, want %+v", got, err, page)
	}
	want, body = "GET /live/messages?before=e-7&limit=1000&room=doc-1 Bearer secret", `{"messages":[],"last_event_id":"e-9"}`
	if got, err := c.History(t.Context(), "e-7", 1000); err != nil || len(got.Messages) > 0 || got.Next != "" || got.LastEventID != "e-9" {
		t.Errorf("got %+v, %v, want an empty page", got, err)
	}
	body = `<html>`
	if got, err := c.History(t.Context(), "e-7", 1000); err == nil {
		t.Errorf("got %+v, want an error", got)
	}
}

func TestHistoryProblem(t *testing.T) {
	c, _ := open(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusForbidden)
		io.WriteString(w, `{"title":"Forbidden"}`)
	})
	_, err := c.History(t.Context(), "", 0)
	if p := new(client.Problem); !errors.As(err, &p) || p.Status != http.StatusForbidden {
		t.Errorf("got %v, want 403", err)
	}
	if want := `client: read history of room "doc-1": 403 Forbidden`; err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
}

// The problem of a banned user has the end of the ban. A malformed one hides nothing else.
func TestBanProblem(t *testing.T) {
	for until, want := range map[string]time.Time{`"2026-01-02T03:04:05Z"`: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), `"soon"`: {}, `{"in":5}`: {}} {
		c, _ := open(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusForbidden)
			io.WriteString(w, `{"until":`+until+`,"detail":"banned"}`)
		})
		_, err := c.Send(t.Context(), client.Message{})
		if p := new(client.Problem); !errors.As(err, &p) || !p.Until.Equal(want) || p.Detail != "banned" {
			t.Errorf("until %s: got %+v, %v, want the end %v", until, p, err, want)
		}
	}
}

// Value decodes the data of every event name.
func TestValue(t *testing.T) {
	info, name := json.RawMessage(`{"a":1}`), "A"
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, c := range []struct {
		name, data string
		want       any
	}{
		{"user count", `3`, client.Count(3)},
		{"sync", `{"connections":3,"users":2,"members":[{"id":"alice","name":"Alice","info":{"a":1},"connections":1,"since":"2026-01-02T03:04:05Z"}],"complete":true,"heartbeat":2.5}`,
			client.Sync{Connections: 3, Users: 2, Members: []client.Member{{ID: "alice", Name: "Alice", Info: info, Connections: 1, Since: at}}, Complete: true, Heartbeat: 2.5}},
		{"join", `{"id":"alice","name":"Alice","info":{"a":1},"connections":3,"users":2}`, client.Join{ID: "alice", Name: "Alice", Info: info, Connections: 3, Users: 2}},
		{"leave", `{"id":"alice","name":"Alice","info":{"a":1},"connections":2,"users":1,"reason":"closed"}`,
			client.Leave{Join: client.Join{ID: "alice", Name: "Alice", Info: info, Connections: 2, Users: 1}, Reason: "closed"}},
		{"update", `{"id":"alice","info":{"a":1}}`, client.Update{ID: "alice", Info: info}},
		{"update", `{"id":"alice","name":"A","info":{"a":1}}`, client.Update{ID: "alice", Name: &name, Info: info}},
		{"reset", `{"reason":"history"}`, client.Reset{Reason: "history"}},
		{"expiring", `{"in":30}`, client.Expiring{In: 30}},
		{"goodbye", `{"reason":"draining"}`, client.Goodbye{Reason: "draining"}},
		{"ping", `{}`, client.Ping{}},
		{"chat", `{"id":"e-7","from":{"id":"alice","name":"Alice"},"data":[1],"at":"2026-01-02T03:04:05Z"}`,
			client.Message{Event: "chat", ID: "e-7", From: client.Sender{ID: "alice", Name: "Alice"}, Data: json.RawMessage(`[1]`), At: at}},
		{"saved", `{"id":"e-8","data":{"a":1},"at":"2026-01-02T03:04:05Z"}`, client.Message{Event: "saved", ID: "e-8", Data: info, At: at}},
	} {
		got, err := client.Event{Name: c.name, Data: json.RawMessage(c.data)}.Value()
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %+v, %v, want %+v", c.name, got, err, c.want)
		}
	}
	if v, err := (client.Event{Name: "sync", Data: json.RawMessage(`[]`)}).Value(); err == nil {
		t.Errorf("sync with an array: got %+v, want an error", v)
	}
}
