package nats_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"example.com/presence/pkg/presence/nats"
)

// startServer starts a NATS server with JetStream until the end of the test.
func startServer(t *testing.T, change ...func(*server.Options)) *server.Server {
	t.Helper()
	s := newServer(t, change...)
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the NATS server did not start within 10 s")
	}
	return s
}

func newServer(t *testing.T, change ...func(*server.Options)) *server.Server {
	t.Helper()
	o := &server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true}
	for _, f := range change {
		f(o)
	}
	s, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(s) })
	return s
}

// fixedPorts has the ports that fixedPort has tried.
var fixedPorts sync.Map

// fixedPort returns an option for a server that is stopped and started again. Each port is returned
// only once, and outgoing connections use other ports, so none takes it meanwhile.
func fixedPort(t *testing.T) func(*server.Options) {
	t.Helper()
	for range 100 {
		port := 30_000 + rand.IntN(2000)
		if _, tried := fixedPorts.LoadOrStore(port, true); tried {
			continue
		}
		if l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", port)); err == nil {
			l.Close()
			return func(o *server.Options) { o.Port = port }
		}
	}
	t.Fatal("no free port")
	return nil
}

func stop(s *server.Server) {
	s.Shutdown()
	s.WaitForShutdown()
}

// startCluster starts three NATS servers, and waits until they have elected a leader. They do not
// advertise each other to their clients.
func startCluster(t *testing.T, change ...func(*server.Options)) []*server.Server {
	t.Helper()
	var routes []*url.URL
	var listeners []net.Listener
	for range 3 { // each server must know the addresses of the others at its start
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listeners = append(listeners, l)
		routes = append(routes, &url.URL{Scheme: "nats", Host: l.Addr().String()})
	}
	var all []*server.Server
	for i, l := range listeners {
		l.Close()
		s := newServer(t, func(o *server.Options) {
			o.ServerName = fmt.Sprint("server-", i)
			o.Cluster = server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port, NoAdvertise: true}
			o.Routes = routes
			for _, f := range change {
				f(o)
			}
		})
		s.Start()
		all = append(all, s)
	}
	await(t, "a leader of JetStream", func() bool {
		for _, s := range all {
			if s.JetStreamIsLeader() && len(s.JetStreamClusterPeers()) == len(all) {
				return true
			}
		}
		return false
	})
	return all
}

// config returns a configuration for one server.
func config(urls ...string) nats.Config {
	return nats.Config{URLs: urls, Replicas: 1, Messages: 10, Age: 5 * time.Minute, Bytes: 64 << 20}
}

// open opens a bus, and waits until it is connected: on a busy machine, Open can return before.
func open(t *testing.T, c nats.Config) *nats.Bus {
	t.Helper()
	b := openOnly(t, c)
	await(t, "contact", func() bool { return b.Status().Connected })
	return b
}

// openOnly opens a bus, which may not be connected yet.
func openOnly(t *testing.T, c nats.Config) *nats.Bus {
	t.Helper()
	b, err := nats.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// streams returns a client of a server that is not a node.
func streams(t *testing.T, url string) jetstream.JetStream {
	t.Helper()
	conn, err := natsgo.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// await waits until cond is true.
func await(t *testing.T, name string, cond func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !cond() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatalf("timeout waiting for %s", name)
		}
	}
}

// relay is a proxy in front of a NATS server. It can cut its connections, and drop messages of the
// server.
type relay struct {
	listener net.Listener
	target   string

	mu    sync.Mutex // guards the fields below
	cut   bool
	drop  func(subject string) bool // reports whether a message is dropped; may be nil
	conns map[net.Conn]struct{}
}

// startRelay starts a relay until the end of the test.
func startRelay(t *testing.T, s *server.Server) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{listener: l, target: s.Addr().String(), conns: map[net.Conn]struct{}{}}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { r.serve(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		r.setCut(true)
		running.Wait()
	})
	return r
}

func (r *relay) url() string { return "nats://" + r.listener.Addr().String() }

func (r *relay) serve(client net.Conn) {
	defer client.Close()
	srv, err := net.Dial("tcp", r.target)
	if err != nil {
		return
	}
	defer srv.Close()
	r.mu.Lock()
	if r.cut {
		r.mu.Unlock()
		return
	}
	r.conns[client], r.conns[srv] = struct{}{}, struct{}{}
	r.mu.Unlock()
	done := make(chan struct{})
	go func() { // ends when a connection is closed
		defer close(done)
		io.Copy(srv, client)
		srv.Close()
	}()
	r.forward(client, bufio.NewReader(srv))
	client.Close()
	<-done
}

// forward copies the protocol of the server, except the messages that are dropped.
func (r *relay) forward(client io.Writer, srv *bufio.Reader) {
	for {
		line, err := srv.ReadString('\n')
		if err != nil {
			return
		}
		var payload []byte
		fields := strings.Fields(line)
		if verb := fields[0]; verb == "MSG" || verb == "HMSG" {
			size, _ := strconv.Atoi(fields[len(fields)-1])
			payload = make([]byte, size+len("\r\n"))
			if _, err := io.ReadFull(srv, payload); err != nil {
				return
			}
			r.mu.Lock()
			dropped := r.drop != nil && r.drop(fields[1])
			r.mu.Unlock()
			if dropped {
				continue
			}
		}
		if _, err := client.Write(append([]byte(line), payload...)); err != nil {
			return
		}
	}
}

// setCut cuts all connections, and rejects new ones until it is called with false.
func (r *relay) setCut(cut bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut = cut
	for c := range r.conns {
		c.Close()
	}
	clear(r.conns)
}

func (r *relay) setDrop(drop func(subject string) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drop = drop
}
