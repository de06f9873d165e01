package presence_test

import (
	"context"
	"net"
	"net/http"
	"sync/atomic"
	"testing"

	"example.com/presence/pkg/presence"
)

// The handler of a stream over HTTP/1 returns at once, unless the host wants it
// kept: then its middleware spans the stream.
func TestKeepHandler(t *testing.T) {
	for i, listen := range []func(net.Listener) net.Listener{plain, plain, cover, cover} {
		keep := i%2 == 0
		var running atomic.Int64
		returned := make(chan bool, 1)
		h := openIn(t, presence.Config{KeepHandler: keep, Linger: -1}, listen, func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				running.Add(1)
				next.ServeHTTP(w, r)
				running.Add(-1)
				returned <- true
			})
		})
		c := h.stream("/events", bearer(t, "alice"))
		c.next("user count")
		if !keep {
			<-returned
			if n := running.Load(); n != 0 {
				t.Errorf("%d handlers run", n)
			}
			continue
		}
		if n := running.Load(); n != 1 {
			t.Errorf("%d handlers run, want 1 as long as the stream", n)
		}
		c.close()
		<-returned
	}
}

// A host that keeps the handler can end the stream with the request's context.
func TestKeptHandlerEndsWithItsContext(t *testing.T) {
	for _, listen := range []func(net.Listener) net.Listener{plain, cover} {
		end := make(chan context.CancelFunc, 1)
		h := openIn(t, presence.Config{KeepHandler: true, Linger: -1}, listen, func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				ctx, cancel := context.WithCancel(r.Context())
				end <- cancel
				next.ServeHTTP(w, r.WithContext(ctx))
			})
		})
		c := h.stream("/events", bearer(t, "alice"))
		c.next("user count")
		(<-end)()
		if events := c.rest(); len(events) != 0 {
			t.Errorf("it ends with %+v", events)
		}
	}
}

// What a host's middleware and the CORS settings put into the answer stands
// there, whichever way the stream goes.
func TestHeadersAround(t *testing.T) {
	for name, listen := range map[string]func(net.Listener) net.Listener{"direct": plain, "goroutine": cover} {
		h := openIn(t, presence.Config{CORSOrigins: []string{"https://example.com"}}, listen, func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Strict-Transport-Security", "max-age=1")
				next.ServeHTTP(w, r)
			})
		})
		c := h.stream("/events", bearer(t, "alice"), "Origin", "https://example.com")
		for header, want := range map[string]string{
			"Access-Control-Allow-Origin":      "https://example.com",
			"Access-Control-Allow-Credentials": "true",
			"Strict-Transport-Security":        "max-age=1",
			"Content-Type":                     "text/event-stream",
		} {
			if got := c.header.Get(header); got != want {
				t.Errorf("%s: %s: got %q, want %q", name, header, got, want)
			}
		}
	}
}
