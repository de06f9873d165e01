package presence_test

import (
	"bytes"
	"context"
	"errors"
	stdlog "log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"example.com/presence/pkg/presence"
	"example.com/presence/pkg/presence/internal/logtest"
)

// The server logs lines about a request with the request's context, so that a slog.Handler can add
// the request id.
func TestLogLinesHaveTheRequestContext(t *testing.T) {
	var log bytes.Buffer
	server, err := presence.New(presence.Config{
		Logger: slog.New(logtest.Handler{Handler: slog.NewTextHandler(&log, nil)}),
		Authenticator: authenticator(func(r *http.Request) (presence.User, error) {
			if r.Header.Get("Authorization") == "" {
				return presence.User{}, errors.New("out of order")
			}
			return presence.User{ID: "alice", Join: []string{"*"}, Send: []string{"*"}}, nil
		}),
		MaxConnections: 1, MaxRooms: 1, MessageRate: 1, MessageBurst: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Shutdown(context.Background())
	for _, c := range []struct{ method, path, token, message string }{
		{"GET", "/events", "", "authenticator failed"},
		{"GET", "/events", "any", "request failed"}, // a recorder cannot stream
		{"POST", "/messages", "any", ""},
		{"POST", "/messages", "any", "request refused"},
	} {
		log.Reset()
		r := httptest.NewRequest(c.method, c.path, strings.NewReader("hello"))
		if c.method == "GET" {
			r = httptest.NewRequest(c.method, c.path, nil)
		}
		r.Header.Set("Content-Type", "text/plain")
		if c.token != "" {
			r.Header.Set("Authorization", "Bearer "+c.token)
		}
		server.ServeHTTP(httptest.NewRecorder(), r.WithContext(logtest.WithRequestID(r.Context(), "id-7")))
		if got := log.String(); c.message != "" && (!strings.Contains(got, `msg="`+c.message+`"`) || !strings.Contains(got, "request=id-7")) {
			t.Errorf("%s %s: got %q, want %q with request=id-7", c.method, c.path, got, c.message)
		}
	}
}

// A request that its client has canceled is neither refused nor an error of the server.
func TestCanceledRequest(t *testing.T) {
	var log bytes.Buffer
	server, err := presence.New(presence.Config{
		Logger: slog.New(slog.NewTextHandler(&log, nil)),
		Authenticator: authenticator(func(*http.Request) (presence.User, error) {
			return presence.User{ID: "alice", Join: []string{"*"}, Send: []string{"*"}}, nil
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Shutdown(context.Background())
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	r := httptest.NewRequestWithContext(canceled, "POST", "/messages", strings.NewReader("hello"))
	r.Header.Set("Content-Type", "text/plain")
	w := httptest.NewRecorder()
	server.ServeHTTP(w, r)
	if w.Code != http.StatusInternalServerError || server.Stats().Refused() != 0 || log.Len() > 0 {
		t.Errorf("got status %d, %d refusals and the log %q; want 500, 0 and no line", w.Code, server.Stats().Refused(), &log)
	}
}

// Harden sends the log lines of net/http to Config.Logger, unless the http.Server has its own
// ErrorLog.
func TestHardenSetsErrorLog(t *testing.T) {
	var log, own bytes.Buffer
	server, err := presence.New(presence.Config{
		Logger:        slog.New(slog.NewTextHandler(&log, nil)),
		Authenticator: authenticator(func(*http.Request) (presence.User, error) { return presence.User{}, nil }),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Shutdown(context.Background())
	ownLog := stdlog.New(&own, "", 0)
	for _, h := range []*http.Server{{Handler: server}, {Handler: server, ErrorLog: ownLog}} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		server.Harden(h, l).Close()
		for range 3 {
			h.ErrorLog.Print("http: TLS handshake error from 192.0.2.1:1: EOF")
		}
	}
	if got := log.String(); strings.Count(got, "level=WARN") != 1 || strings.Count(got, "TLS handshake error") != 1 {
		t.Errorf("got %q, want one warning", got)
	}
	if got := own.String(); strings.Count(got, "\n") != 3 {
		t.Errorf("own ErrorLog: got %q, want three lines", got)
	}
}
