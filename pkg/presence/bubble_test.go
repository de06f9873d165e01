package presence_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence"
)

// bubble is a Server in a testing/synctest bubble, where hours of fake time cost nothing and
// clients have no sockets. The context of a request holds its user.
type bubble struct {
	*presence.Server
	t testing.TB
}

type userKey struct{}

// inBubble runs a test with a new server in a bubble.
func inBubble(t *testing.T, c presence.Config, test func(*testing.T, *bubble)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, newBubble(t, c)) })
}

// newBubble starts a server in the bubble of the test and stops it when the test ends. The server
// has no rate limit unless the config sets one.
func newBubble(t *testing.T, c presence.Config) *bubble {
	t.Helper()
	c.Authenticator = authenticator(func(r *http.Request) (presence.User, error) {
		return r.Context().Value(userKey{}).(presence.User), nil
	})
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.MessageRate == 0 {
		c.MessageRate = -1
	}
	server, err := presence.New(presence.Portable(c))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Shutdown(context.Background()) })
	return &bubble{server, t}
}

// testUser returns a user that may join and send to all rooms, and is no admin.
func testUser(id string) presence.User {
	return presence.User{ID: id, Name: strings.ToUpper(id), Join: []string{"*"}, Send: []string{"*"}}
}

func (b *bubble) request(ctx context.Context, method, path, body string, u presence.User) *http.Request {
	r := httptest.NewRequestWithContext(context.WithValue(ctx, userKey{}, u), method, path, strings.NewReader(body))
	r.Header.Set("Accept", "text/event-stream") // a stream with the cookie requires it
	if body == "" {
		r.Body, r.ContentLength = http.NoBody, 0
	} else {
		r.Header.Set("Content-Type", "application/json")
	}
	return r
}

// ask sends a request and returns the complete response. It must not be the request of a stream.
func (b *bubble) ask(method, path, body string, u presence.User) *httptest.ResponseRecorder {
	b.t.Helper()
	answer := httptest.NewRecorder()
	b.ServeHTTP(answer, b.request(b.t.Context(), method, path, body, u))
	return answer
}

// post posts a message and returns its id.
func (b *bubble) post(path, body string, u presence.User) string {
	b.t.Helper()
	var taken struct{ ID string }
	answer := b.ask("POST", path, body, u)
	if err := json.Unmarshal(answer.Body.Bytes(), &taken); err != nil || answer.Code != http.StatusAccepted {
		b.t.Fatalf("POST %s: got %d %s, want 202 and an id", path, answer.Code, answer.Body)
	}
	return taken.ID
}

// clientStream is a stream whose client reads every event immediately.
type clientStream struct {
	status int
	header http.Header
	cancel context.CancelFunc

	mu     sync.Mutex // guards rest, events and over
	rest   []byte
	events []event
	over   bool
}

// stream opens a stream. It returns when every goroutine in the bubble is blocked.
func (b *bubble) stream(path, lastID string, u presence.User) *clientStream {
	ctx, cancel := context.WithCancel(b.t.Context())
	c := &clientStream{status: http.StatusOK, header: http.Header{}, cancel: cancel}
	r := b.request(ctx, "GET", path, "", u)
	r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/2.0", 2, 0 // over HTTP/2 the handler itself writes the response
	if lastID != "" {
		r.Header.Set("Last-Event-ID", lastID)
	}
	go func() { // ends with the stream, no later than the shutdown of the server
		b.ServeHTTP(c, r)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.over = true
	}()
	synctest.Wait()
	return c
}

// close disconnects the client.
func (c *clientStream) close() {
	c.cancel()
	synctest.Wait()
}

func (c *clientStream) Header() http.Header              { return c.header }
func (c *clientStream) WriteHeader(status int)           { c.status = status }
func (c *clientStream) Flush()                           {}
func (c *clientStream) SetWriteDeadline(time.Time) error { return nil }

func (c *clientStream) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rest = append(c.rest, b...)
	for {
		block, rest, found := bytes.Cut(c.rest, []byte("\n\n"))
		if !found {
			return len(b), nil
		}
		var e event
		for text := range strings.SplitSeq(string(block), "\n") {
			e.field(text)
		}
		c.events = append(c.events, e)
		c.rest = rest
	}
}

// ended reports whether the server has ended the stream.
func (c *clientStream) ended() bool {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.over
}

// take returns the events since the last call of take.
func (c *clientStream) take() []event {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	events := c.events
	c.events = nil
	return events
}

// names returns the names of the events, separated by spaces. If the data of an event has 1 to 25
// bytes, a colon and the data follow its name.
func names(events []event) string {
	var words []string
	for _, e := range events {
		word := e.name
		if len(e.data) <= 25 && e.data != "" {
			word += ":" + e.data
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}
