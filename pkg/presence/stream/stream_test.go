package stream_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"example.com/presence/pkg/presence/stream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is one shared stream behind a real server.
type rig struct {
	t       *testing.T
	streams *stream.Streams
	shared  *stream.Stream
	server  *httptest.Server
	conns   chan *stream.Conn // each attached one
	ends    chan stream.End
}

func newRig(t *testing.T, c stream.Config) *rig {
	t.Helper()
	g := unstarted(t, c)
	g.server.Start()
	return g
}

func unstarted(t *testing.T, c stream.Config) *rig {
	t.Helper()
	g := &rig{t: t, streams: stream.Open(c), conns: make(chan *stream.Conn, 100), ends: make(chan stream.End, 100)}
	g.shared = g.streams.Stream("lobby")
	g.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn := g.streams.Conn(w, r)
		conn.Tell([]byte("retry: 1000\n\n"))
		g.shared.Attach(conn)
		g.conns <- conn
		end := conn.Serve(r.Context())
		g.shared.Detach(conn)
		g.ends <- end
	}))
	t.Cleanup(func() {
		g.server.CloseClientConnections()
		g.server.Close()
		g.streams.Close()
	})
	return g
}

// client opens the stream; what it is sent comes out of the reader.
func (g *rig) client() (*bufio.Reader, *stream.Conn) {
	g.t.Helper()
	response, err := g.server.Client().Get(g.server.URL)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { response.Body.Close() })
	return bufio.NewReader(response.Body), <-g.conns
}

func (g *rig) publish(k stream.Kind, id, name, data string) {
	if k == stream.Reserved {
		if err := g.shared.Reserve(g.t.Context()); err != nil {
			g.t.Fatal(err)
		}
	}
	g.shared.Publish(stream.Event{ID: id, Name: name, Data: []byte(data)}, k)
}

// block reads up to the next blank line.
func block(t *testing.T, r *bufio.Reader) string {
	t.Helper()
	var b strings.Builder
	for {
		line, err := r.ReadString('\n')
		b.WriteString(line)
		if err != nil {
			t.Fatalf("after %q: %v", b.String(), err)
		}
		if line == "\n" {
			return b.String()
		}
	}
}

func TestExactText(t *testing.T) {
	g := newRig(t, stream.Config{})
	r, conn := g.client()
	g.publish(stream.Every, "e-1", "user count", "3")
	g.publish(stream.Reserved, "e-2", "message", `{"a":"x"}`)
	g.streams.Drain()
	conn.End("draining")
	got, err := io.ReadAll(r)
	want := "retry: 1000\n\n" +
		"id: e-1\ndata: 3\nevent: user count\n\n" +
		"id: e-2\ndata: {\"a\":\"x\"}\nevent: message\n\n" +
		"data: {\"reason\":\"draining\"}\nevent: goodbye\n\n"
	if err != nil || string(got) != want {
		t.Errorf("got %q, %v\nwant %q", got, err, want)
	}
	if end := <-g.ends; end != "draining" {
		t.Errorf("ended %q", end)
	}
}

// What the library encodes and what this package encodes for one client alone
// look the same.
func TestEncodingsAgree(t *testing.T) {
	g := newRig(t, stream.Config{})
	r, _ := g.client()
	block(t, r)
	e := stream.Event{ID: "e-1", Name: "sync", Data: []byte(`{"users":1}`)}
	g.shared.Publish(e, stream.Free)
	if got, want := block(t, r), string(e.Append(nil)); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A joiner hears everything published after its Attach and nothing before,
// whatever is on its way at that moment.
func TestPlace(t *testing.T) {
	const events, clients = 3000, 60
	streams := stream.Open(stream.Config{})
	defer streams.Close()
	shared := streams.Stream("lobby")
	var mu sync.Mutex // as a room's
	published := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn := streams.Conn(w, r)
		mu.Lock()
		conn.Tell(fmt.Appendf(nil, "id: %d\n\n", published))
		shared.Attach(conn)
		mu.Unlock()
		conn.Serve(r.Context())
	}))
	defer server.Close()
	go func() {
		for i := 1; i <= events; i++ {
			if shared.Reserve(t.Context()) != nil {
				return
			}
			mu.Lock()
			published = i
			shared.Publish(stream.Event{ID: fmt.Sprint(i), Name: "n", Data: []byte("0")}, stream.Reserved)
			mu.Unlock()
		}
	}()
	var wait sync.WaitGroup
	for range clients {
		wait.Go(func() {
			response, err := server.Client().Get(server.URL)
			if err != nil {
				t.Error(err)
				return
			}
			defer response.Body.Close()
			at := -1
			for lines := bufio.NewScanner(response.Body); at < events && lines.Scan(); {
				id, ok := strings.CutPrefix(lines.Text(), "id: ")
				if !ok {
					continue
				}
				var n int
				fmt.Sscan(id, &n)
				if at >= 0 && n != at+1 {
					t.Errorf("after %d came %d", at, n)
					return
				}
				at = n
			}
			if at != events {
				t.Errorf("ended at %d of %d", at, events)
			}
		})
	}
	wait.Wait()
}

// stopped is a client that opens the stream and never reads.
func (g *rig) stopped() (net.Conn, *stream.Conn) {
	g.t.Helper()
	c, err := net.Dial("tcp", g.server.Listener.Addr().String())
	if err != nil {
		g.t.Fatal(err)
	}
	c.(*net.TCPConn).SetReadBuffer(4 << 10)
	g.t.Cleanup(func() { c.Close() })
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	return c, <-g.conns
}

func TestStoppedReaderIsSentAwayAndDelaysNobody(t *testing.T) { // promise 4
	g := newRig(t, stream.Config{MaxUnsent: 64 << 10})
	_, _ = g.stopped()
	healthy, _ := g.client()
	block(t, healthy)
	data := `"` + strings.Repeat("x", 16<<10) + `"`
	ended := false
	for i := 1; !ended || i < 100; i++ {
		g.publish(stream.Reserved, fmt.Sprint("e-", i), "message", data)
		if got := block(t, healthy); !strings.HasPrefix(got, fmt.Sprintf("id: e-%d\n", i)) {
			t.Fatalf("event %d: got %.40q", i, got)
		}
		select {
		case end := <-g.ends:
			if ended = true; end != stream.Slow {
				t.Fatalf("the stopped reader ended %q, want slow", end)
			}
		default:
		}
		if i > 20_000 {
			t.Fatal("the stopped reader is still there after 20,000 events of 16 KiB")
		}
	}
}

// A reader that is sent away while it can still take something gets the rest
// of the event in hand and a goodbye, and nothing of what waited.
func TestSlowReaderIsToldGoodbye(t *testing.T) { // promise 4
	streams := stream.Open(stream.Config{MaxUnsent: 1000})
	defer streams.Close()
	shared := streams.Stream("lobby")
	w, _, end := attachGate(t.Context(), streams, shared)
	data := []byte(strings.Repeat("0", 500))
	shared.Publish(stream.Event{ID: "first", Name: "n", Data: data}, stream.Every)
	<-w.wrote
	for range 40 { // more than 16 times MaxUnsent
		shared.Publish(stream.Event{ID: "more", Name: "n", Data: data}, stream.Every)
	}
	streams.Drain()
	close(w.open)
	if got, want := <-w.wrote, "data: {\"reason\":\"slow\"}\nevent: goodbye\n\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := <-end; got != stream.Slow {
		t.Errorf("ended %q, want slow", got)
	}
}

// While a client takes nothing, one count at most waits for it: the newest.
func TestLatestReplacesTheOneThatWaits(t *testing.T) { // promise 2
	streams := stream.Open(stream.Config{})
	defer streams.Close()
	shared := streams.Stream("lobby")
	ctx, cancel := context.WithCancel(t.Context())
	w, _, done := attachGate(ctx, streams, shared)
	publish := func(k stream.Kind, id string) {
		shared.Publish(stream.Event{ID: id, Name: "n", Data: []byte("0")}, k)
	}
	publish(stream.Every, "first")
	<-w.wrote // and it is stuck in there
	publish(stream.Latest, "count-1")
	publish(stream.Every, "message-1")
	publish(stream.Latest, "count-2")
	publish(stream.Latest, "count-3")
	publish(stream.Every, "message-2")
	streams.Drain()
	close(w.open)
	for _, want := range []string{"message-1", "count-3", "message-2"} {
		if got := <-w.wrote; !strings.HasPrefix(got, "id: "+want+"\n") {
			t.Errorf("got %q, want %s", got, want)
		}
	}
	cancel()
	<-done
}

// gate is a ResponseWriter whose writes say what they are and wait until it is
// open.
type gate struct {
	header http.Header
	open   chan struct{}
	wrote  chan string
}

// attachGate serves a connection to a gate until ctx or the connection ends.
func attachGate(ctx context.Context, streams *stream.Streams, shared *stream.Stream) (*gate, *stream.Conn, <-chan stream.End) {
	w := &gate{http.Header{}, make(chan struct{}), make(chan string, 10_000)}
	conn := streams.Conn(w, httptest.NewRequest(http.MethodGet, "/", nil))
	shared.Attach(conn)
	end := make(chan stream.End)
	go func() { end <- conn.Serve(ctx) }()
	return w, conn, end
}

func (g *gate) Header() http.Header { return g.header }
func (g *gate) WriteHeader(int)     {}
func (g *gate) Flush()              {}
func (g *gate) Write(b []byte) (int, error) {
	g.wrote <- string(b)
	<-g.open
	return len(b), nil
}

// Reserve holds back who publishes faster than clients are served, and is
// never held by a client that takes nothing.
func TestReserve(t *testing.T) {
	streams := stream.Open(stream.Config{MaxUnsent: 1 << 30})
	defer streams.Close()
	shared := streams.Stream("lobby")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	w, conn, done := attachGate(ctx, streams, shared)
	for i := range 1000 {
		if err := shared.Reserve(ctx); err != nil {
			t.Fatalf("event %d waits for a client that takes nothing: %v", i, err)
		}
		shared.Publish(stream.Event{ID: fmt.Sprint(i), Name: "n", Data: []byte("0")}, stream.Reserved)
	}
	close(w.open)

	streams.Drain() // and what it holds no slot of any more
	const slots = 64
	for i := range slots {
		if err := shared.Reserve(ctx); err != nil {
			t.Fatalf("slot %d of %d: %v", i, slots, err)
		}
	}
	soon, stop := context.WithTimeout(ctx, 50*time.Millisecond)
	defer stop()
	if shared.Reserve(soon) == nil {
		t.Errorf("more than %d slots could be taken at once", slots)
	}
	for range slots {
		shared.Cancel()
	}
	conn.End("draining")
	<-done
}

func TestPing(t *testing.T) {
	g := newRig(t, stream.Config{Heartbeat: 20 * time.Millisecond})
	r, _ := g.client()
	block(t, r)
	for range 3 {
		if got := block(t, r); got != "data: {}\nevent: ping\n\n" {
			t.Errorf("got %q", got)
		}
	}
}

func TestClientThatGoesHasClosed(t *testing.T) {
	g := newRig(t, stream.Config{})
	c, _ := g.stopped()
	c.(*net.TCPConn).CloseWrite() // half of it is enough
	if end := <-g.ends; end != stream.Closed {
		t.Errorf("ended %q, want closed", end)
	}
}

func TestPublishAfterCloseIsDropped(t *testing.T) {
	streams := stream.Open(stream.Config{})
	shared := streams.Stream("lobby")
	streams.Close()
	for range 200 {
		if err := shared.Reserve(t.Context()); err != nil {
			t.Fatal(err)
		}
		shared.Publish(stream.Event{ID: "1", Name: "n", Data: []byte("0")}, stream.Reserved)
	}
}

func TestCanServe(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !stream.CanServe(w) || !stream.CanServe(wrapped{w}) {
			t.Error("a writer of net/http, or one that unwraps to it, cannot serve")
		}
		if stream.CanServe(struct{ http.ResponseWriter }{w}) {
			t.Error("a writer that hides what it wraps can serve")
		}
		if stream.CanServe(struct {
			http.ResponseWriter
			http.Flusher
		}{w, w.(http.Flusher)}) {
			t.Error("a writer that can flush and takes no deadline can serve")
		}
	}))
	defer server.Close()
	response, err := server.Client().Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
}

// A stream of HTTP/2 outlives the time that a write may take, with nothing to
// write in between.
func TestHTTP2(t *testing.T) {
	g := unstarted(t, stream.Config{Progress: 50 * time.Millisecond, Heartbeat: 200 * time.Millisecond})
	g.server.EnableHTTP2 = true
	g.server.StartTLS()
	r, conn := g.client()
	block(t, r)
	for range 3 {
		if got := block(t, r); got != "data: {}\nevent: ping\n\n" {
			t.Errorf("got %q", got)
		}
	}
	g.publish(stream.Reserved, "e-1", "message", "1")
	if got := block(t, r); !strings.HasPrefix(got, "id: e-1\n") {
		t.Errorf("got %q", got)
	}
	conn.End("draining")
	if got := block(t, r); !strings.Contains(got, "draining") {
		t.Errorf("got %q", got)
	}
	if end := <-g.ends; end != "draining" {
		t.Errorf("ended %q", end)
	}
}

// What is published after a connection's end was asked for is not for it,
// however long it takes over the rest.
func TestNothingAfterEnd(t *testing.T) {
	streams := stream.Open(stream.Config{})
	defer streams.Close()
	shared := streams.Stream("lobby")
	w, conn, done := attachGate(t.Context(), streams, shared)
	publish := func(id string) {
		shared.Publish(stream.Event{ID: id, Name: "n", Data: []byte("0")}, stream.Every)
		streams.Drain()
	}
	publish("1")
	<-w.wrote
	publish("2")
	conn.End("expired")
	publish("3")
	close(w.open)
	for _, want := range []string{"id: 2\n", "data: {\"reason\":\"expired\"}"} {
		if got := <-w.wrote; !strings.HasPrefix(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if end := <-done; end != "expired" || len(w.wrote) > 0 {
		t.Errorf("ended %q, with %d writes more", end, len(w.wrote))
	}
}

type wrapped struct{ http.ResponseWriter }

func (w wrapped) Unwrap() http.ResponseWriter { return w.ResponseWriter }
