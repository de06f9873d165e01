package stream_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"example.com/presence/pkg/presence/internal/stream"
)

// patience is the maximum time that a test waits for an event or for the end of a connection. Tests
// also allow clients this much time to read.
const patience = time.Minute

func TestMain(m *testing.M) {
	// Run more parallel tests than there are CPUs, because most of them wait.
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		f.Value.Set("16")
	}
	goleak.VerifyTestMain(m)
}

// sized returns short with -short, else usual.
func sized[T any](short, usual T) T {
	if testing.Short() {
		return short
	}
	return usual
}

// variants lists the combinations of sinks and protocols. Most tests run with each of them.
var variants = []struct {
	name  string
	start func(*httptest.Server)
}{
	{"direct", (*httptest.Server).Start},
	{"goroutine", func(s *httptest.Server) {
		s.Listener = covered{s.Listener}
		s.Start()
	}},
	{"TLS", func(s *httptest.Server) {
		s.TLS = &tls.Config{NextProtos: []string{"http/1.1"}}
		s.StartTLS()
	}},
	{"HTTP2", func(s *httptest.Server) {
		s.EnableHTTP2 = true
		s.StartTLS()
		s.Client().Transport.(*http.Transport).HTTP2 = &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10}
	}},
}

// covered is a listener that wraps its connections, as TLS does. The server may use their
// descriptors only to set socket options.
type covered struct{ net.Listener }

func (l covered) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return cover{c}, err
}

type cover struct{ net.Conn }

func (c cover) NetConn() net.Conn { return c.Conn }

// each runs a test with each variant.
func each(t *testing.T, c stream.Config, test func(*testing.T, *rig)) {
	t.Helper()
	for _, variant := range variants {
		t.Run(variant.name, func(t *testing.T) { test(t, newRig(t, c, variant.start)) })
	}
}

// eachHTTP1 runs a test with each variant of HTTP/1 without TLS.
func eachHTTP1(t *testing.T, c stream.Config, test func(*testing.T, *rig)) {
	t.Helper()
	for _, variant := range variants[:2] {
		t.Run(variant.name, func(t *testing.T) { test(t, newRig(t, c, variant.start)) })
	}
}

// rig is one shared stream behind a real server.
type rig struct {
	t       *testing.T
	streams *stream.Streams
	shared  *stream.Stream
	other   *stream.Stream // of the path /other
	server  *httptest.Server
	header  http.Header       // response headers set by middleware
	conns   chan *stream.Conn // attached connections
	ends    chan stream.End   // reasons of ended connections
}

// ringed returns c for streams that send with io_uring to each connection, or with write if the
// environment demands it.
func ringed(c stream.Config) stream.Config {
	c.IOUring, c.MinRing = os.Getenv("PRESENCE_TEST_IO_URING") != "off", 1
	return c
}

func newRig(t *testing.T, c stream.Config, start func(*httptest.Server)) *rig {
	t.Helper()
	if !c.IOUring {
		c = ringed(c)
	}
	g := &rig{t: t, streams: stream.Open(c), conns: make(chan *stream.Conn, 100), ends: make(chan stream.End, 100)}
	g.shared, g.other = g.streams.Stream("lobby"), g.streams.Stream("other")
	var open sync.WaitGroup
	g.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		maps.Copy(w.Header(), g.header)
		conn, err := g.streams.Conn(w, r)
		if err != nil {
			t.Error(err)
			return
		}
		conn.Send([]byte("retry: 1000\n\n"))
		to := g.shared
		if r.URL.Path == "/other" {
			to = g.other
		}
		to.Attach(conn)
		open.Add(1)
		g.conns <- conn
		conn.Serve(r.Context(), func(end stream.End) {
			to.Detach(conn)
			g.ends <- end
			open.Done()
		})
	}))
	start(g.server)
	t.Cleanup(func() {
		g.server.Client().CloseIdleConnections()
		for len(g.conns) > 0 {
			(<-g.conns).Drop("over")
		}
		open.Wait() // every client has closed, or was dropped
		g.server.Close()
		g.streams.Close()
	})
	return g
}

// client connects to the stream. The reader returns the response body.
func (g *rig) client() (*bufio.Reader, *stream.Conn) {
	g.t.Helper()
	return g.clientOf("/")
}

func (g *rig) clientOf(path string) (*bufio.Reader, *stream.Conn) {
	g.t.Helper()
	response, err := g.server.Client().Get(g.server.URL + path)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { response.Body.Close() })
	return bufio.NewReader(response.Body), <-g.conns
}

// stuck connects to the stream and sends a long private event. Later events stay in the backlog
// until the client reads.
func (g *rig) stuck() (*bufio.Reader, *stream.Conn) {
	g.t.Helper()
	r, conn := g.client()
	conn.Send([]byte(filler))
	return r, conn
}

var filler = "data: " + strings.Repeat("x", 16<<20) + "\n\n"

// pastFiller reads and discards the private event of stuck.
func pastFiller(t *testing.T, r *bufio.Reader) {
	t.Helper()
	block(t, r) // retry
	if _, err := r.Discard(len(filler)); err != nil {
		t.Fatal(err)
	}
}

func (g *rig) publish(k stream.Kind, id, name, data string) {
	if k == stream.Reserved {
		if err := g.shared.Reserve(g.t.Context()); err != nil {
			g.t.Fatal(err)
		}
	}
	g.shared.Publish(stream.Event{ID: id, Name: name, Data: []byte(data)}, k)
}

// block reads one event, up to the next blank line.
func block(t *testing.T, r *bufio.Reader) string {
	t.Helper()
	var b strings.Builder
	for {
		line, err := r.ReadString('\n')
		b.WriteString(line)
		if err != nil {
			t.Fatalf("after %.80q: %v", b.String(), err)
		}
		if line == "\n" {
			return b.String()
		}
	}
}

func TestExactText(t *testing.T) {
	each(t, stream.Config{}, func(t *testing.T, g *rig) {
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
	})
}

// r3labs and Event.Append encode an event in the same way.
func TestEncodingsAgree(t *testing.T) {
	each(t, stream.Config{}, func(t *testing.T, g *rig) {
		r, conn := g.client()
		block(t, r)
		e := stream.Event{ID: "e-1", Name: "sync", Data: []byte(`{"users":1}`)}
		g.shared.Publish(e, stream.Free)
		shared := block(t, r)
		conn.Send(e.Append(nil)[:5], e.Append(nil)[5:])
		if alone, want := block(t, r), string(e.Append(nil)); shared != want || alone != want {
			t.Errorf("got %q and %q, want %q", shared, alone, want)
		}
	})
}

// A joiner receives every event published after its Attach and no event published before, even if
// other events are being delivered at that moment.
func TestAttachOrder(t *testing.T) {
	for _, variant := range variants {
		t.Run(variant.name, func(t *testing.T) { attachOrder(t, variant.start) })
	}
}

func attachOrder(t *testing.T, start func(*httptest.Server)) {
	const events, clients = 1500, 40
	streams := stream.Open(ringed(stream.Config{}))
	defer streams.Close()
	shared := streams.Stream("lobby")
	var mu sync.Mutex // guards published, as the lock of a room does
	published := 0
	var open sync.WaitGroup
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := streams.Conn(w, r)
		if err != nil {
			t.Error(err)
			return
		}
		open.Add(1)
		mu.Lock()
		conn.Send(fmt.Appendf(nil, "id: %d\n\n", published))
		shared.Attach(conn)
		mu.Unlock()
		conn.Serve(r.Context(), func(stream.End) { shared.Detach(conn); open.Done() })
	}))
	start(server)
	defer func() { open.Wait(); server.Close() }()
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
					t.Errorf("after event %d: got event %d", at, n)
					return
				}
				at = n
			}
			if at != events {
				t.Errorf("the last event was %d, want %d", at, events)
			}
		})
	}
	wait.Wait()
}

func TestStoppedReaderIsEvictedAndDelaysNoClient(t *testing.T) { // promise 4
	t.Parallel()
	each(t, stream.Config{MaxUnsent: 64 << 10, Heartbeat: time.Hour}, func(t *testing.T, g *rig) {
		t.Parallel()
		_, _ = g.client()
		healthy, _ := g.client()
		block(t, healthy)
		data := `"` + strings.Repeat("x", 16<<10) + `"`
		ended := false
		within := time.Now().Add(patience)
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
			if time.Now().After(within) {
				t.Fatalf("the stopped reader is still connected after %d events of 16 KiB", i)
			}
		}
	})
}

// A slow consumer that still reads receives the rest of the current event and then a goodbye. It
// receives nothing more of its backlog.
func TestSlowReaderGetsGoodbye(t *testing.T) { // promise 4
	each(t, stream.Config{MaxUnsent: 64 << 10, Heartbeat: time.Hour}.WithSlowTime(patience), func(t *testing.T, g *rig) {
		slow, _ := g.client()
		data := `"` + strings.Repeat("x", 64<<10) + `"`
		// There are enough other clients for each loop to have one. In the loop of the slow client,
		// they receive each event after the slow client.
		var healthy []*bufio.Reader
		for range 2 * runtime.GOMAXPROCS(0) {
			r, _ := g.client()
			block(t, r)
			healthy = append(healthy, r)
		}
		const events = 40 // far more than a socket accepts, and more than 16 times MaxUnsent
		for i := range events {
			g.publish(stream.Reserved, fmt.Sprint("e-", i), "message", data)
			for _, r := range healthy {
				block(t, r)
			}
		}
		block(t, slow)
		for i := range events {
			got := block(t, slow)
			if want := fmt.Sprintf("id: e-%d\ndata: %s\nevent: message\n\n", i, data); got == want {
				continue
			}
			if want := "data: {\"reason\":\"slow\"}\nevent: goodbye\n\n"; got != want {
				t.Fatalf("event %d: got %.80q", i, got)
			}
			break
		}
		if rest, err := io.ReadAll(slow); err != nil || len(rest) > 0 {
			t.Errorf("after the goodbye: got %.80q, error %v, want nothing", rest, err)
		}
		if got := <-g.ends; got != stream.Slow {
			t.Errorf("ended %q, want slow", got)
		}
	})
}

// The server evicts a client that reads nothing for a second while its backlog is above MaxUnsent,
// even if the backlog is far below 16 times MaxUnsent.
func TestSlowTime(t *testing.T) { // promise 4
	t.Parallel()
	each(t, stream.Config{MaxUnsent: 64 << 10, Heartbeat: time.Hour}, func(t *testing.T, g *rig) {
		t.Parallel()
		g.client()
		for range 20 {
			g.publish(stream.Reserved, "e-1", "message", strings.Repeat("0", 48<<10))
		}
		begun := time.Now()
		if end := <-g.ends; end != stream.Slow {
			t.Errorf("ended %q, want slow", end)
		}
		if after := time.Since(begun); after > 10*time.Second {
			t.Errorf("evicted after %v, want about 1 s", after)
		}
	})
}

// The backlog of a client that reads nothing contains at most one count, which is the newest.
func TestLatestReplacesTheOneInTheBacklog(t *testing.T) { // promise 2
	each(t, stream.Config{}, func(t *testing.T, g *rig) {
		r, _ := g.stuck()
		g.publish(stream.Latest, "count-1", "n", "0")
		g.publish(stream.Every, "message-1", "n", "0")
		g.publish(stream.Latest, "count-2", "n", "0")
		g.publish(stream.Latest, "count-3", "n", "0")
		g.publish(stream.Every, "message-2", "n", "0")
		g.streams.Drain()
		pastFiller(t, r)
		for _, want := range []string{"message-1", "count-3", "message-2"} {
			if got := block(t, r); !strings.HasPrefix(got, "id: "+want+"\n") {
				t.Errorf("got %q, want %s", got, want)
			}
		}
	})
}

// Reserve limits publishers to the speed of the fan-out, but a client that reads nothing never
// delays them.
func TestReserve(t *testing.T) {
	each(t, stream.Config{MaxUnsent: 1 << 30}, func(t *testing.T, g *rig) {
		g.stuck()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		for i := range 1000 {
			if err := g.shared.Reserve(ctx); err != nil {
				t.Fatalf("event %d waits for a client that reads nothing: %v", i, err)
			}
			g.shared.Publish(stream.Event{ID: fmt.Sprint(i), Name: "n", Data: []byte("0")}, stream.Reserved)
		}
		const slots = 64
		for i := range slots {
			if err := g.shared.Reserve(ctx); err != nil {
				t.Fatalf("slot %d of %d: %v", i, slots, err)
			}
		}
		soon, stop := context.WithTimeout(ctx, 50*time.Millisecond)
		defer stop()
		if g.shared.Reserve(soon) == nil {
			t.Errorf("Reserve reserved more than %d slots", slots)
		}
		for range slots {
			g.shared.Release()
		}
	})
}

func TestPing(t *testing.T) {
	each(t, stream.Config{Heartbeat: 20 * time.Millisecond}, func(t *testing.T, g *rig) {
		r, _ := g.client()
		block(t, r)
		for range 3 {
			if got := block(t, r); got != "data: {}\nevent: ping\n\n" {
				t.Errorf("got %q", got)
			}
		}
	})
}

// A connection receives no ping before it is attached, because it must receive its sync first.
func TestNoPingBeforeTheSync(t *testing.T) {
	for _, variant := range variants {
		t.Run(variant.name, func(t *testing.T) { noPing(t, variant.start) })
	}
}

func noPing(t *testing.T, start func(*httptest.Server)) {
	g := newRig(t, stream.Config{Heartbeat: 20 * time.Millisecond}, start)
	var conn *stream.Conn
	made, ended := make(chan bool), make(chan bool)
	apart := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var err error
		if conn, err = g.streams.Conn(w, r); err != nil {
			t.Error(err)
		}
		conn.Send([]byte("retry: 1000\n\n"))
		close(made)
		conn.Serve(r.Context(), func(stream.End) { close(ended) })
	}))
	start(apart)
	defer apart.Close()
	response, err := apart.Client().Get(apart.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	<-made
	clock, _ := g.client()
	for range 5 { // the first event and four pings
		block(t, clock)
	}
	conn.End("over")
	got, err := io.ReadAll(response.Body)
	if want := "retry: 1000\n\ndata: {\"reason\":\"over\"}\nevent: goodbye\n\n"; string(got) != want || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	<-ended
}

func TestClosedByClient(t *testing.T) {
	each(t, stream.Config{}, func(t *testing.T, g *rig) {
		ctx, cancel := context.WithCancel(t.Context())
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, g.server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := g.server.Client().Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		cancel()
		if end := <-g.ends; end != stream.Closed {
			t.Errorf("ended %q, want closed", end)
		}
	})
}

// A connection receives no event that is published after its End, however long the client needs to
// read the backlog.
func TestNothingAfterEnd(t *testing.T) {
	each(t, stream.Config{}.WithGoodbyeTime(patience), func(t *testing.T, g *rig) {
		r, conn := g.stuck()
		publish := func(id string) {
			g.publish(stream.Every, id, "n", "0")
			g.streams.Drain()
		}
		publish("1")
		conn.End("expired")
		publish("2")
		conn.Send([]byte("data: too late\n\n"))
		conn.End("too late, too")
		pastFiller(t, r)
		got, err := io.ReadAll(r)
		if want := "id: 1\ndata: 0\nevent: n\n\ndata: {\"reason\":\"expired\"}\nevent: goodbye\n\n"; string(got) != want || err != nil {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
		if end := <-g.ends; end != "expired" {
			t.Errorf("ended %q", end)
		}
	})
}

// SendThen calls sent exactly once: when everything is written, and not earlier, or when the
// connection has ended.
func TestSendThen(t *testing.T) {
	each(t, stream.Config{}, func(t *testing.T, g *rig) {
		sent := make(chan string, 10)
		record := func(name string) func() { return func() { sent <- name } }
		nothing := func() {
			t.Helper()
			select {
			case name := <-sent:
				t.Errorf("sent was called for %s, want no call", name)
			default:
			}
		}
		r, conn := g.client()
		conn.SendThen(record("short"), []byte("data: 1\n\n"), []byte("data: 2\n\n"))
		if name := <-sent; name != "short" {
			t.Errorf("sent was called for %s", name)
		}
		for _, want := range []string{"retry: 1000\n\n", "data: 1\n\n", "data: 2\n\n"} {
			if got := block(t, r); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}

		r, conn = g.stuck()
		conn.SendThen(record("long"), []byte("data: 3\n\n"))
		nothing() // the client does not read
		pastFiller(t, r)
		if got := block(t, r); got != "data: 3\n\n" {
			t.Errorf("got %q", got)
		}
		if name := <-sent; name != "long" {
			t.Errorf("sent was called for %s", name)
		}

		_, conn = g.stuck()
		conn.SendThen(record("dropped"), []byte("data: 4\n\n"))
		nothing()
		conn.Drop("over")
		if name := <-sent; name != "dropped" {
			t.Errorf("sent was called for %s", name)
		}
		<-g.ends
		conn.SendThen(record("late"), []byte("data: 5\n\n"))
		if name := <-sent; name != "late" {
			t.Errorf("sent was called for %s", name)
		}
		nothing()
	})
}

func TestDrop(t *testing.T) {
	each(t, stream.Config{}, func(t *testing.T, g *rig) {
		for _, open := range []func() (*bufio.Reader, *stream.Conn){g.client, g.stuck} {
			r, conn := open()
			conn.Drop("over")
			if end := <-g.ends; end != "over" {
				t.Errorf("ended %q", end)
			}
			rest, err := io.ReadAll(r)
			if strings.Contains(string(rest), "goodbye") || err == nil {
				t.Errorf("the body ends with %.80q and error %v, want no goodbye and an error", rest[max(0, len(rest)-80):], err)
			}
		}
	})
}

// The server evicts a client that reads nothing of a replay for progressTime. It keeps a client
// that reads slowly.
func TestProgress(t *testing.T) { // promise 4
	t.Parallel()
	each(t, stream.Config{Heartbeat: time.Hour}.WithProgressTime(time.Second), func(t *testing.T, g *rig) {
		t.Parallel()
		stopped, _ := g.stuck()
		if end := <-g.ends; end != stream.Slow {
			t.Errorf("the stopped client ended %q, want slow", end)
		}
		if rest, _ := io.ReadAll(stopped); strings.Contains(string(rest), "goodbye") {
			t.Error("got a goodbye in the middle of an event, want none")
		}
		r, _ := g.stuck()
		block(t, r) // retry
		slowly := time.NewTicker(8 * time.Millisecond)
		defer slowly.Stop()
		for range len(filler) / (64 << 10) { // 2 s in all
			<-slowly.C
			if _, err := r.Discard(64 << 10); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// Each client receives all events, whole and in order, even if it reads at an irregular pace or so
// slowly that its backlog is large.
func TestIrregularReaders(t *testing.T) {
	each(t, stream.Config{MaxUnsent: 1 << 30, Heartbeat: 50 * time.Millisecond}, func(t *testing.T, g *rig) {
		t.Parallel() // with the other entries of variants
		const clients = 8
		events := sized(750, 1500)
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		var wait sync.WaitGroup
		for i := range clients {
			r, conn := g.client()
			rnd := rand.New(rand.NewPCG(seed, uint64(i)))
			wait.Go(func() {
				text := bufio.NewReader(&irregular{r, rnd})
				for n := 0; n < events; {
					got := block(t, text)
					id, found := strings.CutPrefix(got, "id: ")
					if !found {
						continue // retry, a ping, or a goodbye
					}
					var at int
					if _, err := fmt.Sscanf(id, "%d\ndata: ", &at); err != nil {
						t.Errorf("got %.80q", got)
						return
					}
					if strings.Contains(got, "event: count") {
						if at != n {
							t.Errorf("after message %d: got the count of message %d", n, at)
						}
						continue
					}
					if n++; at != n || !strings.HasSuffix(got, "y\nevent: n\n\n") {
						t.Errorf("instead of message %d: got %.80q", n, got)
						return
					}
				}
				conn.End("over")
				if _, err := io.Copy(io.Discard, text); err != nil {
					t.Error(err)
				}
			})
		}
		rnd := rand.New(rand.NewPCG(seed, clients))
		for i := 1; i <= events; i++ {
			g.publish(stream.Reserved, fmt.Sprint(i), "n", strings.Repeat("x", rnd.IntN(1<<(4+rnd.IntN(11))))+"y")
			if rnd.IntN(3) == 0 {
				g.publish(stream.Latest, fmt.Sprint(i), "count", "0")
			}
		}
		wait.Wait()
	})
}

// irregular is a reader that randomly reads a little, reads much, or pauses.
type irregular struct {
	r   io.Reader
	rnd *rand.Rand
}

func (f *irregular) Read(b []byte) (int, error) {
	if f.rnd.IntN(50) == 0 {
		<-time.After(time.Duration(f.rnd.IntN(20)) * time.Millisecond)
	}
	return f.r.Read(b[:min(len(b), 1+f.rnd.IntN(1<<(1+f.rnd.IntN(16))))])
}

func TestPublishAfterCloseIsDropped(t *testing.T) {
	streams := stream.Open(ringed(stream.Config{}))
	shared := streams.Stream("lobby")
	streams.Close()
	for range 200 {
		if err := shared.Reserve(t.Context()); err != nil {
			t.Fatal(err)
		}
		shared.Publish(stream.Event{ID: "1", Name: "n", Data: []byte("0")}, stream.Reserved)
	}
}

// responseBody returns the body of the server's response.
func responseBody(t *testing.T, server *httptest.Server) string {
	t.Helper()
	response, err := server.Client().Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Errorf("after %q: %v", body, err)
	}
	return string(body)
}

// A connection that is made after Close can still send events and a goodbye to its client.
func TestConnAfterClose(t *testing.T) {
	for _, variant := range variants {
		t.Run(variant.name, func(t *testing.T) {
			streams := stream.Open(ringed(stream.Config{}))
			streams.Close()
			ended := make(chan stream.End, 1)
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				conn, err := streams.Conn(w, r)
				if err != nil {
					t.Error(err)
					return
				}
				conn.Send([]byte("retry: 1000\n\n"))
				conn.End("draining")
				conn.Serve(r.Context(), func(end stream.End) { ended <- end })
			}))
			variant.start(server)
			defer server.Close()
			if got, want := responseBody(t, server), "retry: 1000\n\ndata: {\"reason\":\"draining\"}\nevent: goodbye\n\n"; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			if end := <-ended; end != "draining" {
				t.Errorf("ended %q", end)
			}
		})
	}
}

// A response whose connection cannot be hijacked can be a stream if it can flush and accepts a
// write deadline.
func TestUnsupported(t *testing.T) {
	streams := stream.Open(ringed(stream.Config{}))
	defer streams.Close()
	for name, c := range map[string]struct {
		cover func(http.ResponseWriter) http.ResponseWriter
		want  error
	}{
		"of net/http":              {func(w http.ResponseWriter) http.ResponseWriter { return w }, nil},
		"unwraps to net/http's":    {func(w http.ResponseWriter) http.ResponseWriter { return wrapped{w} }, nil},
		"flushes, has a deadline":  {func(w http.ResponseWriter) http.ResponseWriter { return deadlined{w, w.(http.Flusher)} }, nil},
		"hides everything":         {func(w http.ResponseWriter) http.ResponseWriter { return struct{ http.ResponseWriter }{w} }, stream.ErrUnsupported},
		"flushes, has no deadline": {func(w http.ResponseWriter) http.ResponseWriter { return flushing{w, w.(http.Flusher)} }, stream.ErrUnsupported},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			conn, err := streams.Conn(c.cover(w), r)
			if !errors.Is(err, c.want) {
				t.Errorf("%s: got error %v, want %v", name, err, c.want)
			}
			if err == nil {
				conn.End("over")
				conn.Serve(r.Context(), func(stream.End) {})
			}
		}))
		response, err := server.Client().Get(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		server.Close()
		if got := strings.Contains(string(body), "goodbye"); got != (c.want == nil) || err != nil {
			t.Errorf("%s: got %q, %v", name, body, err)
		}
	}
}

type wrapped struct{ http.ResponseWriter }

func (w wrapped) Unwrap() http.ResponseWriter { return w.ResponseWriter }

type flushing struct {
	http.ResponseWriter
	http.Flusher
}

type deadlined struct {
	http.ResponseWriter
	http.Flusher
}

func (w deadlined) SetWriteDeadline(t time.Time) error {
	return http.NewResponseController(w.ResponseWriter).SetWriteDeadline(t)
}

// An idle stream stays open after the deadline of its last write, even over HTTP/2.
func TestIdleStreamOutlivesWriteDeadline(t *testing.T) {
	t.Parallel()
	each(t, stream.Config{Heartbeat: 400 * time.Millisecond}.WithProgressTime(200*time.Millisecond), func(t *testing.T, g *rig) {
		t.Parallel()
		r, _ := g.client()
		block(t, r)
		for range 3 {
			if got := block(t, r); got != "data: {}\nevent: ping\n\n" {
				t.Errorf("got %q", got)
			}
		}
	})
}
