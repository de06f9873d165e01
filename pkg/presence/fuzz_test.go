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

// Whatever the body of a message: it is taken and means the same on the
// stream, on one line and within its bounds, or it is refused with a problem.
func FuzzMessageBody(f *testing.F) {
	for _, body := range []string{
		`{"event":"chat message","data":{"text":"hi"},"id":"mine-1"}`, `{"data":null}`, `{"data":1e999}`, `{"data":"\ud800"}`, `{"event":"a\nb","data":1}`,
		`{"data":1,"data":2}`, `{"data":[[[[]]]]} `, `{"DATA":1}`, "{\"data\":\"\u2028\"}", "\ufeff{\"data\":1}", "plain", "\x00", "\xff", "a\r\nid: 9", ``, `null`,
	} {
		f.Add(body, true)
		f.Add(body, false)
	}
	const limit = 1 << 10
	heard := make(chan presence.Message, 1)
	var asked atomic.Int64
	server, err := presence.New(presence.Config{
		MaxMessage:  limit,
		MessageRate: -1,
		Logger:      slog.New(slog.DiscardHandler),
		OnMessage:   func(m presence.Message) { heard <- m },
		Authenticator: authenticator(func(*http.Request) (presence.User, error) {
			// Each is another user's, or an id would make it the message of before.
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
				t.Fatalf("%q: got %d %s", body, answer.Code, answer.Body)
			}
			return
		}
		m := <-heard
		if !json.Valid(m.Data) || len(m.Data) > 6*limit+2 || bytes.ContainsAny(m.Data, "\r\n") {
			t.Errorf("%q: the data is %q", body, m.Data)
		}
		if strings.ContainsFunc(m.Event, unicode.IsControl) || m.Event == "" || len(m.Event) > 256 || m.Event == "user count" {
			t.Errorf("%q: the event is %q", body, m.Event)
		}
		var want struct{ Data any }
		if asJSON {
			if err := json.Unmarshal([]byte(body), &want); err != nil && !strings.Contains(err.Error(), "number") {
				t.Fatalf("%q was taken: %v", body, err)
			}
		} else {
			want.Data = body
		}
		var got any
		if err := json.Unmarshal(m.Data, &got); err == nil && !reflect.DeepEqual(got, want.Data) {
			t.Errorf("%q means %v, the stream says %v", body, want.Data, got)
		}
	})
}
