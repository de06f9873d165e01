//go:build linux

package presence_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/r3labs/sse/v2"
	"golang.org/x/sys/unix"

	"example.com/presence/pkg/presence"
	"example.com/presence/pkg/presence/auth"
)

func init() { benchProcess = runBenchProcess }

// order is a command to a benchmark process, sent as one line of JSON to its stdin. The process
// replies with an answer on its stdout.
type order struct {
	Do string // the command: a case of load.do or benchServer.do

	Addr     string        // open: the address of the server
	Clients  int           // open: the number of clients, each with its own user
	Spare    int           // open: the number of further users, for churn, visit and leave
	From     int           // open: the number of the first user
	Source   byte          // open: the clients connect from 127.0.0.Source; 0: the kernel chooses the address
	OneUser  bool          // open: all clients are the same user
	TTL      time.Duration // open: the time until the tokens expire; 0: never
	Rooms    int           // open: the number of rooms, of equal size; 0: the lobby only
	Narrow   int           // open: one client in Narrow has small buffers; stop: one client in Narrow stops reading
	InFlight int           // open: the maximum number of clients in flight; 0: 200
	Flight   stage         // open: the stage that ends a client's time in flight; default: answered
	Until    stage         // open: the stage that each client must reach; counted is the final count
	Messages int           // serial, unread: the number of messages
	Size     int           // serial, unread, post: bytes of a message's text
	Rate     float64       // post, churn, visit: rate per second; open: connections per second, 0: no limit
	Time     time.Duration // post, churn, visit: duration
	Stay     time.Duration // visit: duration of each visit
	Burst    int           // leave: the number of clients that join and leave right before
	Senders  int           // post: the number of concurrent senders
}

// answer is the reply of a benchmark process to an order.
type answer struct {
	Error string
	Addr  string // the listening address, in the first answer of a server

	// Set by a server.
	CPU         time.Duration // CPU time of the process since its start, user and system
	RSS         int           // bytes
	Goroutines  int
	Threads     int
	Descriptors int
	Epolls      int  // epoll descriptors
	Connections int  // connections in the lobby
	IOUring     bool // the server sends with io_uring

	// Set by the load.
	Elapsed  time.Duration
	Landed   time.Duration // time until no client was in flight
	Bytes    int           // mean number of bytes received per client
	Accepted int           // posts with status 202
	Rejected int           // posts with status 503

	// Statistics of the times that the load measured. open and visit measure the time in flight of
	// each client. serial measures the time until all clients have a message, post the time until
	// each client has it.
	Times               int
	Mean, P50, P99, Max time.Duration
}

// runBenchProcess runs the load or the server with that role, and executes the orders on stdin. The
// process exits when its stdin is closed.
func runBenchProcess(role string) {
	orders := make(chan order)
	go func() { // ends with the process
		in := json.NewDecoder(os.Stdin)
		for {
			var o order
			if in.Decode(&o) != nil {
				os.Exit(0)
			}
			orders <- o
		}
	}()
	var hello answer
	var do func(order) (answer, error)
	if role == "load" {
		l, err := newLoad()
		if err != nil {
			panic(err)
		}
		do = l.do
	} else {
		s, err := newBenchServer(role)
		if err != nil {
			panic(err)
		}
		hello.Addr, do = s.addr, s.do
	}
	out := json.NewEncoder(os.Stdout)
	out.Encode(hello)
	for o := range orders {
		a, err := do(o)
		if err != nil {
			a.Error = o.Do + ": " + err.Error()
		}
		out.Encode(a)
	}
}

// benchServer is the server in a benchmark process.
type benchServer struct {
	addr        string
	connections func() int   // returns the number of connections in the lobby
	ioUring     func() bool  // reports whether the server sends with io_uring
	failed      func() error // returns the first error since the start, or nil
}

// newBenchServer starts the server with that role:
//
//	bare       the baseline: accepts, and sends a message to all sockets in one loop of write(2)
//	direct     this package, on a TCP listener, with io_uring where the kernel allows it
//	write      direct, but without io_uring
//	goroutine  this package, with a goroutine per stream, because the listener hides the TCP socket
//	silent     direct, but each client receives only its first count
//	r3labs     r3labs/sse as its README shows it
func newBenchServer(role string) (*benchServer, error) {
	var config net.ListenConfig
	config.SetMultipathTCP(false) // as the command does
	l, err := config.Listen(context.Background(), "tcp", cmp.Or(os.Getenv("PRESENCE_BENCH_LISTEN"), "127.0.0.1:0"))
	if err != nil {
		return nil, err
	}
	s := &benchServer{addr: l.Addr().String(), connections: func() int { return 0 },
		ioUring: func() bool { return false }, failed: func() error { return nil }}
	switch role {
	case "bare":
		b := &bare{}
		s.connections, s.failed = b.connections, b.failed
		go b.serve(l)
		return s, nil
	case "r3labs":
		h := &http.Server{Handler: newR3labs(), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 32 << 10}
		go func() { panic(h.Serve(l)) }()
		return s, nil
	}
	key, err := auth.Secret(secret)
	if err != nil {
		return nil, err
	}
	authenticator, err := auth.New(auth.Config{Keys: []auth.Key{key}})
	if err != nil {
		return nil, err
	}
	settings := presence.Config{Authenticator: authenticator, Logger: slog.New(slog.DiscardHandler), MessageRate: -1, CostRate: -1, DisableIOUring: role == "write"}
	if role == "silent" {
		settings = presence.WithoutCounts(settings)
	}
	server, err := presence.New(settings)
	if err != nil {
		return nil, err
	}
	switch role {
	case "direct", "write", "silent":
	case "goroutine":
		l = covered{l}
	default:
		return nil, fmt.Errorf("unknown role %q", role)
	}
	token, err := auth.Mint(secret, auth.Claims{Sub: "stat"})
	if err != nil {
		return nil, err
	}
	s.ioUring = func() bool { return server.Stats().Streams.IOUring }
	s.connections = func() int {
		request := httptest.NewRequest(http.MethodGet, "/presence?limit=1", nil)
		request.Header.Set("Authorization", "Bearer "+token)
		recorder := httptest.NewRecorder()
		server.ServeHTTP(recorder, request)
		var page struct{ Connections int }
		if err := json.Unmarshal(recorder.Body.Bytes(), &page); err != nil {
			panic(err)
		}
		return page.Connections
	}
	h := &http.Server{Handler: server}
	go func() { panic(h.Serve(server.Harden(h, l))) }() // as the command does
	return s, nil
}

func (s *benchServer) do(o order) (a answer, err error) {
	switch o.Do {
	case "stat": // costs the server almost nothing
		a.IOUring = s.ioUring()
		err = a.measure()
	case "census": // costs a system call per descriptor
		a.Connections, a.IOUring = s.connections(), s.ioUring()
		err = errors.Join(a.measure(), a.countDescriptors())
	case "free":
		runtime.GC()
		debug.FreeOSMemory()
	default:
		err = fmt.Errorf("unknown order for a server: %q", o.Do)
	}
	return a, errors.Join(err, s.failed())
}

func (a *answer) measure() error {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		return err
	}
	a.CPU = time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	a.Goroutines = runtime.NumGoroutine()
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return err
	}
	var size int
	_, err = fmt.Sscan(string(statm), &size, &a.RSS)
	a.RSS *= os.Getpagesize()
	return err
}

func (a *answer) countDescriptors() error {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	descriptors, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	a.Threads, a.Descriptors = len(threads), len(descriptors)-1 // not counting the descriptor of the directory itself
	for _, d := range descriptors {
		if to, _ := os.Readlink("/proc/self/fd/" + d.Name()); to == "anon_inode:[eventpoll]" {
			a.Epolls++
		}
	}
	return nil
}

// benchMessage converts the body of a POST /messages to the id and the data of the event that
// [presence.Server] would send.
func benchMessage(seq int, body []byte) (id, data []byte) {
	id = fmt.Appendf(nil, "0123456789-%d", seq)
	text := bytes.TrimSuffix(bytes.TrimPrefix(body, []byte(`{"data":`)), []byte("}"))
	at := time.Now().UTC().Truncate(time.Millisecond).Format(time.RFC3339Nano)
	return id, fmt.Appendf(nil, `{"id":"%s","from":{"id":"sender","name":"Sender"},"data":%s,"at":"%s"}`, id, text, at)
}

// bare is the baseline: the minimum cost of sending the same bytes to the same sockets. One
// goroutine writes to one socket after the other, and does no other work.
type bare struct {
	mu      sync.Mutex // guards the fields below
	sockets []int      // non-blocking
	seq     int        // sequence number of the last message
	short   int        // short writes
}

func (s *bare) serve(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			panic(err)
		}
		go s.answer(c.(*net.TCPConn)) // ends when a sender disconnects, or after add
	}
}

func (s *bare) answer(c *net.TCPConn) {
	defer c.Close()
	head := make([]byte, 0, 2<<10)
	for !bytes.Contains(head, []byte("\r\n\r\n")) {
		n, err := c.Read(head[len(head):cap(head)])
		if err != nil {
			return
		}
		head = head[:len(head)+n]
	}
	if bytes.HasPrefix(head, []byte("GET ")) {
		s.add(c)
		return
	}
	r := bufio.NewReader(io.MultiReader(bytes.NewReader(head), c))
	for {
		request, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		body, err := io.ReadAll(request.Body)
		if err != nil {
			return
		}
		s.broadcast(body)
		io.WriteString(c, "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
	}
}

// add sends the response header and a sync to a client. It keeps a duplicate of the socket, because
// package net closes the original.
func (s *bare) add(c *net.TCPConn) {
	const head = "HTTP/1.1 200 OK\r\nCache-Control: no-store, no-transform\r\nConnection: close\r\nContent-Encoding: identity\r\nContent-Type: text/event-stream\r\n" +
		"X-Accel-Buffering: no\r\nDate: Sun, 22 Nov 2026 18:00:00 GMT\r\nTransfer-Encoding: chunked\r\n\r\n"
	socket, err := c.SyscallConn()
	if err != nil {
		panic(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	first := fmt.Sprintf("retry: 1756\n\nid: 0123456789-%d\ndata: {}\nevent: sync\n\n", s.seq)
	fmt.Fprintf(c, "%s%x\r\n%s\r\n", head, len(first), first)
	socket.Control(func(fd uintptr) {
		own, err := unix.Dup(int(fd))
		if err != nil {
			panic(err)
		}
		s.sockets = append(s.sockets, own)
	})
}

func (s *bare) broadcast(body []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seq++
	id, data := benchMessage(s.seq, body)
	event := fmt.Sprintf("id: %s\ndata: %s\nevent: message\n\n", id, data)
	chunk := fmt.Appendf(nil, "%x\r\n%s\r\n", len(event), event)
	for _, fd := range s.sockets {
		if n, _ := unix.Write(fd, chunk); n != len(chunk) {
			s.short++
		}
	}
}

func (s *bare) connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sockets)
}

func (s *bare) failed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.short > 0 {
		return fmt.Errorf("%d short writes, want none", s.short)
	}
	return nil
}

// newR3labs returns a server of r3labs/sse with a handler for POST /messages. The library assigns
// its own ids, which start at 0.
func newR3labs() http.Handler {
	server := sse.New()
	server.CreateStream("messages")
	mux := http.NewServeMux()
	mux.HandleFunc("/events", server.ServeHTTP)
	mux.HandleFunc("POST /messages", func(w http.ResponseWriter, r *http.Request) {
		var body strings.Builder
		if _, err := io.Copy(&body, r.Body); err != nil {
			return
		}
		_, data := benchMessage(1, []byte(body.String()))
		server.Publish("messages", &sse.Event{Event: []byte("message"), Data: data})
		w.WriteHeader(http.StatusAccepted)
	})
	return mux
}
