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

// A cutter is a TCP proxy that ends connections on command, as a network, a NAT or a restarted
// gateway does. It changes no byte: what it cuts is what the client sent and received.
type cutter struct {
	addr     string // it keeps the address of a listener that it closed
	upstream string

	running sync.WaitGroup // the accept loop and two goroutines per connection

	mu       sync.Mutex // guards the fields below
	listener net.Listener
	open     map[*forwarded]bool
	finished int             // connections that finishAfter ended
	answer   string          // if set, the answer to every new connection
	answered map[string]bool // the credentials of the requests that got it
	changed  chan struct{}   // closed when finished or answered has changed
}

// forwarded is a connection through the proxy.
type forwarded struct {
	client, server *net.TCPConn
	after          []byte // if set, it ends after these bytes; cutter.mu guards it
}

// newCutter starts a cutter in front of the server at upstream. The end of the test stops it.
func newCutter(t *testing.T, upstream string) *cutter {
	t.Helper()
	// A port of 127.0.0.1 could be taken by an outgoing connection while the listener is closed.
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

// refuse closes the listener and resets all connections: new ones are refused.
func (c *cutter) refuse() {
	c.mu.Lock()
	c.listener.Close()
	c.mu.Unlock()
	c.reset()
}

// reset ends all connections with a RST.
func (c *cutter) reset() {
	c.end(func(client *net.TCPConn) { client.SetLinger(0) })
}

// finish ends all connections with a FIN, in the middle of the response body.
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

// finishAfter ends the connections of now with a FIN, each right after it carried text to its
// client, and returns when all n have ended. The text, which send makes the server write, must be
// within one write of it.
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

// answerAll resets all connections, and gives the answer to new ones until requests with n
// credentials got it, as a gateway does whose server is away.
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

// until waits for a condition, which is asked under c.mu.
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
			t.Fatalf("%d connections have ended, %d got the answer", finished, answered)
		}
	}
}

// notifyLocked wakes until.
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
		client.SetLinger(0) // the server is away
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
