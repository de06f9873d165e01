package presence_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"unicode"

	"example.com/presence/pkg/presence"
)

// The server accepts any message body or rejects it with a problem document. The data of an
// accepted message keeps its meaning, is on one line, and is within the size limit.
func FuzzMessageBody(f *testing.F) {
	for _, body := range []string{
		`{"event":"chat message","data":{"text":"hi"},"id":"mine-1"}`, `{"data":null}`, `{"data":1e999}`, `{"data":"\ud800"}`, `{"event":"a\nb","data":1}`,
		`{"data":1,"data":2}`, `{"data":[[[[]]]]} `, `{"DATA":1}`, "{\"data\":\"\u2028\"}", "\ufeff{\"data\":1}", "plain", "\x00", "\xff", "a\r\nid: 9", ``, `null`,
	} {
		f.Add(body, true)
		f.Add(body, false)
	}
	const limit = 1 << 10
	received := make(chan presence.Message, 1)
	var asked atomic.Int64
	server, err := presence.New(presence.Config{
		MaxMessage:  limit,
		MessageRate: -1,
		Logger:      slog.New(slog.DiscardHandler),
		OnMessage:   func(m presence.Message) { received <- m },
		Authenticator: authenticator(func(*http.Request) (presence.User, error) {
			// Each request has a new user, so that no id repeats an earlier message.
			return presence.User{ID: fmt.Sprint("user-", asked.Add(1)), Send: []string{"*"}}, nil
		}),
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { server.Shutdown(context.Background()) })
	f.Fuzz(func(t *testing.T, body string, asJSON bool) {
		request := httptest.NewRequest("POST", "/messages", strings.NewReader(body))
		request.Header.Set("Content-Type", "text/plain")
		if asJSON {
			request.Header.Set("Content-Type", "application/json")
		}
		answer := httptest.NewRecorder()
		server.ServeHTTP(answer, request)
		if answer.Code != http.StatusAccepted {
			var problem struct{ Status int }
			if err := json.Unmarshal(answer.Body.Bytes(), &problem); err != nil || problem.Status != answer.Code || answer.Code != 400 && answer.Code != 413 {
				t.Fatalf("%q: got %d %s, want a problem with 400 or 413", body, answer.Code, answer.Body)
			}
			return
		}
		m := <-received
		if !json.Valid(m.Data) || len(m.Data) > 6*limit+2 || bytes.ContainsAny(m.Data, "\r\n") {
			t.Errorf("%q: got data %q, want JSON on one line of at most %d bytes", body, m.Data, 6*limit+2)
		}
		if strings.ContainsFunc(m.Event, unicode.IsControl) || m.Event == "" || len(m.Event) > 256 || m.Event == "user count" {
			t.Errorf("%q: got event %q, want a client's event name", body, m.Event)
		}
		var want struct{ Data any }
		if asJSON {
			if err := json.Unmarshal([]byte(body), &want); err != nil && !strings.Contains(err.Error(), "number") {
				t.Fatalf("%q: got 202 for invalid JSON (%v), want 400", body, err)
			}
		} else {
			want.Data = body
		}
		var got any
		if err := json.Unmarshal(m.Data, &got); err == nil && !reflect.DeepEqual(got, want.Data) {
			t.Errorf("%q: got %v on the stream, want %v", body, got, want.Data)
		}
	})
}
