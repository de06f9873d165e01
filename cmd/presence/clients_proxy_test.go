//go:build unix

package main

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"regexp"
	"sync"
	"testing"
	"time"
)

// cutter is a TCP proxy that closes connections on command. It simulates a network failure, a NAT
// timeout or a gateway restart. It forwards bytes without changing them.
type cutter struct {
	addr     string // stays the same while the listener is closed
	upstream string

	running sync.WaitGroup // the accept loop and two goroutines per connection

	mu       sync.Mutex // guards the fields below
	listener net.Listener
	open     map[*forwarded]bool
	finished int             // number of connections that finishAfter closed
	answer   string          // if set, the response to the request of every new connection
	answered map[string]bool // credentials of the requests that received the response
	changed  chan struct{}   // closed when finished or answered changes
}

// forwarded is a connection that the proxy forwards.
type forwarded struct {
	client, server *net.TCPConn
	after          []byte // if set, the proxy closes the connection after these bytes; guarded by cutter.mu
}

// newCutter starts a cutter in front of the server at upstream, and stops it when the test ends.
func newCutter(t *testing.T, upstream string) *cutter {
	t.Helper()
	// Do not listen on 127.0.0.1, because an outgoing connection could take the port there while
	// the listener is closed.
	c := &cutter{addr: "127.0.0.5:0", upstream: upstream, open: make(map[*forwarded]bool), changed: make(chan struct{})}
	c.accept(t)
	t.Cleanup(func() {
		c.refuse()
		c.running.Wait()
	})
	return c
}

// accept opens the listener.
func (c *cutter) accept(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", c.addr)
	if err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	c.listener, c.addr = l, l.Addr().String()
	c.mu.Unlock()
	c.running.Go(func() { // ends when the listener is closed
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			c.running.Go(func() { c.connect(conn.(*net.TCPConn)) })
		}
	})
}

// refuse closes the listener and resets all connections, so that new connections are refused.
func (c *cutter) refuse() {
	c.mu.Lock()
	c.listener.Close()
	c.mu.Unlock()
	c.reset()
}

// reset closes all connections with a RST.
func (c *cutter) reset() {
	c.end(func(client *net.TCPConn) { client.SetLinger(0) })
}

// finish closes all connections with a FIN, in the middle of the response body.
func (c *cutter) finish() {
	c.end(func(*net.TCPConn) {})
}

func (c *cutter) end(how func(client *net.TCPConn)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for f := range c.open {
		how(f.client)
		f.client.Close()
		f.server.Close()
	}
}

// finishAfter closes each current connection with a FIN, immediately after the proxy has forwarded
// text to the client. It returns when all n connections are closed. send makes the server write the
// text, which must be within one write.
func (c *cutter) finishAfter(t *testing.T, text string, n int, send func()) {
	t.Helper()
	c.mu.Lock()
	c.finished = 0
	for f := range c.open {
		f.after = []byte(text)
	}
	c.mu.Unlock()
	send()
	c.until(t, func() bool { return c.finished == n })
}

// answerAll resets all connections and responds to new ones itself, like a gateway whose server is
// down. It returns when requests with n different credentials have received the response.
func (c *cutter) answerAll(t *testing.T, answer string, n int) {
	t.Helper()
	c.mu.Lock()
	c.answer, c.answered = answer, make(map[string]bool)
	c.mu.Unlock()
	c.reset()
	c.until(t, func() bool { return len(c.answered) == n })
	c.mu.Lock()
	c.answer = ""
	c.mu.Unlock()
}

// until waits for a condition, which it evaluates while it holds c.mu.
func (c *cutter) until(t *testing.T, condition func() bool) {
	t.Helper()
	for late := time.After(patience); ; {
		c.mu.Lock()
		met, changed := condition(), c.changed
		finished, answered := c.finished, len(c.answered)
		c.mu.Unlock()
		if met {
			return
		}
		select {
		case <-changed:
		case <-late:
			t.Fatalf("condition not met: %d connections closed, %d received the response", finished, answered)
		}
	}
}

// notifyLocked wakes up until.
func (c *cutter) notifyLocked() {
	close(c.changed)
	c.changed = make(chan struct{})
}

var credential = regexp.MustCompile(`(?i)(?:bearer |presence_token=)([\w.-]+)`)

func (c *cutter) connect(client *net.TCPConn) {
	defer client.Close()
	c.mu.Lock()
	answer := c.answer
	c.mu.Unlock()
	if answer != "" {
		request, err := http.ReadRequest(bufio.NewReader(client))
		if err != nil {
			return
		}
		io.WriteString(client, answer)
		if found := credential.FindStringSubmatch(request.Header.Get("Authorization") + request.Header.Get("Cookie")); found != nil {
			c.mu.Lock()
			c.answered[found[1]] = true
			c.notifyLocked()
			c.mu.Unlock()
		}
		return
	}
	conn, err := net.Dial("tcp", c.upstream)
	if err != nil {
		client.SetLinger(0) // a RST: the server is down
		return
	}
	server := conn.(*net.TCPConn)
	defer server.Close()
	f := &forwarded{client: client, server: server}
	c.mu.Lock()
	c.open[f] = true
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.open, f)
		c.mu.Unlock()
	}()
	c.running.Go(func() { // ends when either side is closed
		io.Copy(server, client)
		server.Close()
	})
	buffer := make([]byte, 64<<10)
	for {
		n, err := server.Read(buffer)
		c.mu.Lock()
		after := f.after
		c.mu.Unlock()
		if i := bytes.Index(buffer[:n], after); len(after) > 0 && i >= 0 {
			client.Write(buffer[:i+len(after)])
			c.mu.Lock()
			c.finished++
			c.notifyLocked()
			c.mu.Unlock()
			return
		}
		if _, failed := client.Write(buffer[:n]); failed != nil || err != nil {
			return
		}
	}
}
