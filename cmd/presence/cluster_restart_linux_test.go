//go:build !race

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"example.com/presence/pkg/presence/auth"
)

// The nodes of a cluster restart one after the other, behind a proxy that checks them. Their
// clients connect again as browsers do, before the next node stops. The first goodbye comes a
// quarter of the grace after the signal. No client gets a leave, no message is lost, and each node
// exits with status
// 0.
func TestClusterRestart(t *testing.T) {
	t.Parallel()
	heavy(t)
	clients := sized(30, 60, 1000)
	check := sized(250*time.Millisecond, 250*time.Millisecond, time.Second)
	grace := sized(2*time.Second, 2*time.Second, 8*time.Second)
	nats := startNATS(t)
	args := []string{"--shutdown-grace=" + grace.String(), "--member-limit=5000"}
	nodes, _ := startClusterNodes(t, 3, nats.url, args...)
	p := startBalancer(t, check)
	for _, n := range nodes {
		p.add(n.addr)
	}
	f := startFleet(t, 2)
	f.do(loadOrder{Do: "open", Addrs: []string{p.addr}, Clients: clients, Browser: true})
	f.awaitCount(clients, time.Now(), time.Second)

	posting := startPosting(t, p.addr)
	for i, n := range nodes {
		f.do(loadOrder{Do: "clear"})
		began := time.Now()
		if err := n.process.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		var err error
		var took time.Duration
		idle(t, func() { err, took = n.process.Wait(), time.Since(began) })
		if err != nil {
			t.Errorf("node %d: got %v at its exit, want status 0\n%s", i, err, n.log)
		}
		if took > grace {
			t.Errorf("node %d: exit after %v, want at most %v", i, took, grace)
		}
		p.remove(n.addr)
		nodes[i] = startClusterNode(t, i, nats.url, args...)
		p.add(nodes[i].addr)
		// If a client had not connected again yet, it could meet the next node before the proxy
		// knows that this drains too. It would then wait twice, longer than its grace period.
		idle(t, func() { f.awaitCount(clients, time.Now(), patience) })
		goodbye := time.Unix(0, f.do(loadOrder{Do: "report"}).Goodbye).Sub(began)
		if goodbye < grace/4 {
			t.Errorf("node %d: first goodbye %v after SIGTERM, want at least a quarter of %v", i, goodbye, grace)
		}
		t.Logf("node %d: first goodbye after %.1f s, exit after %.1f s, all clients are back after %.1f s", i, goodbye.Seconds(), took.Seconds(), time.Since(began).Seconds())
	}
	posted := posting.end(t)
	r := f.do(loadOrder{Do: "await", Want: clients, Messages: posted, Within: patience})
	if len(r.Wrong) > 0 || r.Open != clients || r.Unreceived > 0 || r.Messages != posted*clients {
		t.Errorf("%d messages to %d clients: got %d messages, %d clients without a message, %d clients with the wrong count %v",
			posted, clients, r.Messages, r.Unreceived, len(r.Wrong), r.Wrong)
	}
	if r.Retries < clients {
		t.Errorf("got %d connections made again, want at least %d", r.Retries, clients)
	}
	t.Logf("%d messages, %d of them repeated, to %d clients, which connected again %d times: %d joins, %d leaves",
		posted, posting.repeated, clients, r.Retries, r.Joins, r.Leaves)
}

// balancer is a TCP proxy in front of several nodes. It sends new connections to the nodes that are
// ready in turn, and checks them periodically.
type balancer struct {
	addr    string
	running sync.WaitGroup

	mu    sync.Mutex // guards the fields below
	ready map[string]bool
	order []string // the keys of ready
	next  int
	conns map[net.Conn]bool
}

func startBalancer(t *testing.T, check time.Duration) *balancer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.2.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &balancer{addr: l.Addr().String(), ready: map[string]bool{}, conns: map[net.Conn]bool{}}
	ctx, end := context.WithCancel(context.Background())
	b.running.Go(func() { b.check(ctx, check) })
	b.running.Go(func() { // ends when the listener is closed
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			b.running.Go(func() { b.forward(conn) })
		}
	})
	t.Cleanup(func() {
		end()
		l.Close()
		b.mu.Lock()
		for conn := range b.conns {
			conn.Close()
		}
		b.mu.Unlock()
		b.running.Wait()
	})
	return b
}

func (b *balancer) add(addr string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ready[addr] = true
	b.order = append(b.order, addr)
}

func (b *balancer) remove(addr string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.ready, addr)
	for i, other := range b.order {
		if other == addr {
			b.order = append(b.order[:i], b.order[i+1:]...)
			return
		}
	}
}

// check asks each node periodically whether it is ready.
func (b *balancer) check(ctx context.Context, every time.Duration) {
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		b.mu.Lock()
		addrs := append([]string(nil), b.order...)
		b.mu.Unlock()
		for _, addr := range addrs {
			resp, err := client.Get("http://" + addr + "/readyz")
			ready := err == nil && resp.StatusCode == http.StatusOK
			if err == nil {
				resp.Body.Close()
			}
			b.mu.Lock()
			if _, known := b.ready[addr]; known {
				b.ready[addr] = ready
			}
			b.mu.Unlock()
		}
	}
}

// pick returns the next ready node; "": none.
func (b *balancer) pick() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	for range b.order {
		b.next++
		if addr := b.order[b.next%len(b.order)]; b.ready[addr] {
			return addr
		}
	}
	return ""
}

// forward forwards a connection until one side ends it. If no node accepts it, it is reset.
func (b *balancer) forward(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", b.pick())
	if err != nil {
		client.(*net.TCPConn).SetLinger(0)
		return
	}
	defer server.Close()
	b.mu.Lock()
	b.conns[client], b.conns[server] = true, true
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.conns, client)
		delete(b.conns, server)
	}()
	b.running.Go(func() { // ends with either side
		io.Copy(server, client)
		server.(*net.TCPConn).CloseWrite()
	})
	io.Copy(client, server)
}

// posting posts numbered messages to room-0, one after the other. A message that is refused or
// unanswered is repeated with the same idempotency key.
type posting struct {
	cancel   context.CancelFunc
	done     chan struct{}
	posted   int
	repeated int
	err      error
}

func startPosting(t *testing.T, addr string) *posting {
	t.Helper()
	token, err := auth.Mint([]byte(secret), auth.Claims{Sub: "poster", Send: []string{"*"}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &posting{cancel: cancel, done: make(chan struct{})}
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	go func() { // ends with ctx
		defer close(p.done)
		ticker := time.NewTicker(20 * time.Millisecond)
		defer ticker.Stop()
		for ; ctx.Err() == nil && p.err == nil; <-ticker.C {
			var again bool
			if again, p.err = postNumber(client, addr, token, p.posted); again {
				p.repeated++
			} else if p.err == nil {
				p.posted++
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-p.done })
	return p
}

// postNumber posts the message with number n. again reports that it must be repeated.
func postNumber(client *http.Client, addr, token string, n int) (again bool, err error) {
	body := fmt.Sprintf(`{"data":%d,"id":"number-%d"}`, n, n)
	request, err := http.NewRequest("POST", "http://"+addr+"/messages?room=room-0", strings.NewReader(body))
	if err != nil {
		return false, err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(request)
	if err != nil {
		return true, nil
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body)
	switch resp.StatusCode {
	case http.StatusAccepted:
		return false, nil
	case http.StatusServiceUnavailable:
		return true, nil
	}
	return false, errors.New("POST /messages: got " + resp.Status + ", want 202 or 503")
}

// end stops the posts and returns the number of messages that were accepted.
func (p *posting) end(t *testing.T) int {
	t.Helper()
	p.cancel()
	<-p.done
	if p.err != nil {
		t.Fatal(p.err)
	}
	return p.posted
}
