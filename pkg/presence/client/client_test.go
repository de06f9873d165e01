package client_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"example.com/presence/pkg/presence/client"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open starts a server and a client of it, whose base URL has a path. The
// client's log is returned to look into.
func open(t *testing.T, handler http.HandlerFunc, change ...func(*client.Config)) (*client.Client, *bytes.Buffer) {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	var log bytes.Buffer
	config := client.Config{
		URL:        server.URL + "/live/",
		Room:       "doc-1",
		Token:      "secret",
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

func TestNewRefuses(t *testing.T) {
	for _, c := range []client.Config{
		{},
		{URL: "presence.example"},
		{URL: "ftp://presence.example"},
		{URL: "https://"},
		{URL: "https://presence.example?room=x"},
		{URL: "https://presence.example#x"},
		{URL: "https://presence.example", Token: "secret\n"},
		{URL: "https://presence.example", LastEventID: "1\n"},
	} {
		if _, err := client.New(c); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%+v: got %v, want a refusal without the token", c, err)
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
		t.Errorf("got %q, %v", id, err)
	}
}

func TestSendProblem(t *testing.T) {
	c, _ := open(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json; charset=utf-8")
		w.Header().Set("Retry-After", "2")
		w.WriteHeader(http.StatusTooManyRequests)
		io.WriteString(w, `{"type":"about:blank","title":"Too fast","status":1,"detail":"20 messages a second"}`)
	})
	_, err := c.Send(t.Context(), client.Message{})
	var p *client.Problem
	want := client.Problem{Status: 429, Type: "about:blank", Title: "Too fast", Detail: "20 messages a second", RetryAfter: 2 * time.Second}
	if !errors.As(err, &p) || *p != want {
		t.Fatalf("got %#v, want %#v", err, want)
	}
	if got, want := err.Error(), `client: send to room "doc-1": 429 Too fast: 20 messages a second`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A message as the stream tells it.
func TestMessageDecodes(t *testing.T) {
	var m client.Message
	err := json.Unmarshal([]byte(`{"id":"e-7","from":{"id":"alice","name":"Alice"},"data":[1],"at":"2026-01-02T03:04:05Z"}`), &m)
	if err != nil || m.ID != "e-7" || m.From != (client.Sender{ID: "alice", Name: "Alice"}) || string(m.Data) != "[1]" || m.At.Year() != 2026 {
		t.Errorf("got %+v, %v", m, err)
	}
}
