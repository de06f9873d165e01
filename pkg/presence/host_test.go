package presence_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"testing"

	"example.com/presence/pkg/presence"
)

// Over HTTP/1, the handler of a stream returns immediately. With KeepHandler it returns when the
// stream ends, so that the embedding program's middleware spans the stream.
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
				t.Errorf("got %d running handlers, want 0", n)
			}
			continue
		}
		if n := running.Load(); n != 1 {
			t.Errorf("KeepHandler: got %d running handlers, want 1 during the stream", n)
		}
		c.close()
		<-returned
	}
}

// With KeepHandler, a stream ends when the context of its request is canceled.
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
			t.Errorf("after the end of the context: got %+v, want no event", events)
		}
	}
}

// Rooms and Members return all entries, even if the HTTP API needs several pages for them.
func TestLibraryReadsAllPages(t *testing.T) {
	const clients = 1001
	inBubble(t, presence.Config{MemberLimit: 1}, func(t *testing.T, b *bubble) {
		for i := range clients {
			user := testUser(fmt.Sprint("u", i))
			b.stream("/events?room=large", "", user)
			b.stream(fmt.Sprint("/events?room=r", i), "", user)
		}
		rooms, err := b.Rooms(t.Context())
		if err != nil || len(rooms) != clients+1 {
			t.Errorf("got %d rooms, %v; want %d", len(rooms), err, clients+1)
		}
		members, err := b.Members(t.Context(), "large")
		if err != nil || len(members) != clients {
			t.Errorf("got %d members, %v; want %d", len(members), err, clients)
		}
	})
}

// A sign-out ends no stream if the Authenticator sets no session for the credential.
func TestSignOutWithoutSession(t *testing.T) {
	inBubble(t, presence.Config{}, func(t *testing.T, b *bubble) {
		c := b.stream("/events", "", testUser("alice"))
		if answer := b.ask("DELETE", "/session", "", testUser("alice")); answer.Code != http.StatusNoContent {
			t.Errorf("got %d %s, want 204", answer.Code, answer.Body)
		}
		if c.ended() {
			t.Errorf("got the end of the stream (%s), want it open", names(c.take()))
		}
	})
}

// The response of a stream keeps the headers that CORS and the embedding program's middleware set,
// on direct streams and on streams with a goroutine.
func TestMiddlewareHeadersAreKept(t *testing.T) {
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
