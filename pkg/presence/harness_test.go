package presence_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"example.com/presence/pkg/presence"
	"example.com/presence/pkg/presence/auth"
)

func TestMain(m *testing.M) {
	if role := os.Getenv("PRESENCE_BENCH_ROLE"); role != "" {
		benchProcess(role)
		return
	}
	// Run more parallel tests at the same time than there are CPUs, because most of them wait for
	// timers.
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		f.Value.Set("8")
	}
	// A handshake of h2spec that times out on a busy machine leaves its goroutine behind.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/summerwind/h2spec/spec.(*Conn).handshakeAsClient.func1"))
}

// benchProcess runs this process as a child process of a benchmark. It is nil on systems without
// benchmarks.
var benchProcess func(role string)

var secret = []byte("a secret of thirty-two bytes ok!")

// patience is the time limit for an expected event. It is long because the machine may be busy. A
// passing test never waits that long.
const patience = time.Minute

// sized returns the size of a test: short with -short, long in make test-long, which sets
// PRESENCE_TEST_LONG=1, and usual otherwise.
func sized[T any](short, usual, long T) T {
	switch {
	case testing.Short():
		return short
	case os.Getenv("PRESENCE_TEST_LONG") == "1":
		return long
	}
	return usual
}

// bearer mints a token for a user that may join and send to every room.
func bearer(t testing.TB, sub string) string {
	t.Helper()
	return mint(t, auth.Claims{Sub: sub, Name: strings.ToUpper(sub[:1]) + sub[1:], Join: []string{"*"}, Send: []string{"*"}, TTL: time.Hour})
}

func mint(t testing.TB, c auth.Claims) string {
	t.Helper()
	token, err := auth.Mint(secret, c)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// testServer is a Server that listens on a real socket.
type testServer struct {
	*presence.Server
	t   testing.TB
	URL string
}

// opener starts a server that accepts tokens signed with secret, and stops it when the test ends.
type opener func(testing.TB, presence.Config) *testServer

// each runs a test once for each way of writing a stream to its socket.
func each(t *testing.T, test func(*testing.T, opener)) {
	t.Run("direct", func(t *testing.T) { test(t, open) })
	t.Run("goroutine", func(t *testing.T) { test(t, openCovered) })
}

// open is the opener for plain TCP connections.
func open(t testing.TB, c presence.Config) *testServer {
	t.Helper()
	return openIn(t, c, plain, func(h http.Handler) http.Handler { return h })
}

// openCovered is the opener for connections that hide the TCP connection, as TLS does. Each stream
// then has a goroutine.
func openCovered(t testing.TB, c presence.Config) *testServer {
	t.Helper()
	return openIn(t, c, cover, func(h http.Handler) http.Handler { return h })
}

func plain(l net.Listener) net.Listener { return l }
func cover(l net.Listener) net.Listener { return covered{l} }

type covered struct{ net.Listener }

func (l covered) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return coveredConn{c}, err
}

type coveredConn struct{ net.Conn }

func (c coveredConn) NetConn() net.Conn { return c.Conn }

// openIn starts a server behind the given listener and middleware.
func openIn(t testing.TB, c presence.Config, listen func(net.Listener) net.Listener, middleware func(http.Handler) http.Handler) *testServer {
	t.Helper()
	if c.Authenticator == nil {
		key, err := auth.Secret(secret)
		if err != nil {
			t.Fatal(err)
		}
		if c.Authenticator, err = auth.New(auth.Config{Keys: []auth.Key{key}}); err != nil {
			t.Fatal(err)
		}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.MessageRate == 0 {
		c.MessageRate = -1 // unlimited, because few tests check the rate limit
	}
	if os.Getenv("PRESENCE_TEST_IO_URING") == "off" {
		c.DisableIOUring = true
	}
	server, err := presence.New(presence.WithMinRing(c, 1))
	if err != nil {
		t.Fatal(err)
	}
	listener := httptest.NewUnstartedServer(middleware(server))
	listener.Listener = listen(listener.Listener)
	listener.Start()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		listener.CloseClientConnections()
		listener.Close()
		http.DefaultClient.CloseIdleConnections()
	})
	return &testServer{server, t, listener.URL}
}

// ask sends a request. headers are pairs of a name and a value. An empty token is not sent.
func (h *testServer) ask(method, path, token, body string, headers ...string) *http.Response {
	h.t.Helper()
	return h.askBy(http.DefaultTransport, method, path, token, body, headers...)
}

func (h *testServer) askBy(by http.RoundTripper, method, path, token, body string, headers ...string) *http.Response {
	h.t.Helper()
	request, err := http.NewRequestWithContext(context.Background(), method, h.URL+path, strings.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Add(headers[i], headers[i+1])
	}
	request.Host = request.Header.Get("Host") // net/http ignores the header; empty: the host of the URL
	response, err := by.RoundTrip(request)    // follows no redirect and stores no cookie
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { response.Body.Close() })
	return response
}

// post posts a message as JSON and returns its id.
func (h *testServer) post(path, token, body string) string {
	h.t.Helper()
	response := h.ask("POST", path, token, body, "Content-Type", "application/json")
	var answer struct{ ID string }
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || response.StatusCode != http.StatusAccepted {
		h.t.Fatalf("POST %s: got %s, %v; want 202 and an id", path, response.Status, err)
	}
	return answer.ID
}

// event holds the fields of one block of a stream.
type event struct{ id, name, data, retry string }

// field parses one line of the event.
func (e *event) field(line string) {
	field, value, _ := strings.Cut(line, ": ")
	switch field {
	case "id":
		e.id = value
	case "event":
		e.name = value
	case "data":
		e.data = value
	case "retry":
		e.retry = value
	}
}

// tab is one open stream. A goroutine reads the stream all the time, and read returns its events in
// order.
type tab struct {
	t       testing.TB
	header  http.Header
	body    io.Closer
	arrived chan struct{} // receives a value when an event arrives or the stream ends

	mu     sync.Mutex // guards events and ended
	events []event
	ended  bool
}

// stream opens a stream and closes it when the test ends.
func (h *testServer) stream(path, token string, headers ...string) *tab {
	h.t.Helper()
	return h.streamBy(http.DefaultTransport, path, token, headers...)
}

func (h *testServer) streamBy(by http.RoundTripper, path, token string, headers ...string) *tab {
	h.t.Helper()
	response := h.askBy(by, "GET", path, token, "", headers...)
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(response.Body)
		h.t.Fatalf("GET %s: got %s, %s; want 200", path, response.Status, text)
	}
	c := &tab{t: h.t, header: response.Header, body: response.Body, arrived: make(chan struct{}, 1)}
	go func() { // ends with the stream
		defer c.add(event{}, true)
		var e event
		lines := bufio.NewScanner(response.Body)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			if lines.Text() != "" {
				e.field(lines.Text())
				continue
			}
			c.add(e, false)
			e = event{}
		}
	}()
	return c
}

func (c *tab) add(e event, end bool) {
	c.mu.Lock()
	if c.ended = end; !end {
		c.events = append(c.events, e)
	}
	c.mu.Unlock()
	select {
	case c.arrived <- struct{}{}:
	default:
	}
}

var errEnd = errors.New("the stream ended")

// read returns the next event other than ping, which may arrive at any time.
func (c *tab) read(within time.Duration) (event, error) {
	for {
		if e, err := c.any(within); e.name != "ping" {
			return e, err
		}
	}
}

// any returns the next event, ping included.
func (c *tab) any(within time.Duration) (event, error) {
	deadline := time.After(within)
	for {
		c.mu.Lock()
		events, ended := c.events, c.ended
		if len(events) > 0 {
			c.events = events[1:]
		}
		c.mu.Unlock()
		if len(events) > 0 {
			return events[0], nil
		}
		if ended {
			return event{}, errEnd
		}
		select {
		case <-c.arrived:
		case <-deadline:
			return event{}, context.DeadlineExceeded
		}
	}
}

// next returns the next event with that name and skips all others.
func (c *tab) next(name string) event {
	c.t.Helper()
	for {
		e, err := c.any(patience)
		if err != nil {
			c.t.Fatalf("got %v, want event %q", err, name)
		}
		if e.name == name {
			return e
		}
	}
}

// until skips events up to and including the event with that name and data.
func (c *tab) until(name, data string) {
	c.t.Helper()
	for e := c.next(name); e.data != data; {
		e = c.next(name)
	}
}

// expect fails unless the next events have these names and data, in pairs. The data "…" matches any
// data.
func (c *tab) expect(pairs ...string) {
	c.t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		e, err := c.read(patience)
		if err != nil || e.name != pairs[i] || pairs[i+1] != "…" && e.data != pairs[i+1] {
			c.t.Fatalf("got %q %s, %v; want %q %s", e.name, e.data, err, pairs[i], pairs[i+1])
		}
	}
}

// rest returns all events up to the end of the stream.
func (c *tab) rest() (events []event) {
	c.t.Helper()
	for {
		e, err := c.read(patience)
		if errors.Is(err, errEnd) {
			return events
		}
		if err != nil {
			c.t.Fatalf("got %v, want the end of the stream", err)
		}
		events = append(events, e)
	}
}

func (c *tab) close() { c.body.Close() }
