package main

import (
	"bufio"
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// natsProxy is a network between one presence node and the NATS servers. It forwards bytes in
// order. It can be slow, it can be cut, and it can lose single publications of the node.
type natsProxy struct {
	urls      []string // one address for each NATS server
	listeners []net.Listener
	running   sync.WaitGroup

	mu     sync.Mutex                             // guards the fields below
	change chan struct{}                          // closed when one of them changes
	cut    bool                                   // no byte passes; connections stay open
	delay  time.Duration                          // of each byte, in each direction
	drop   func(subject string, data []byte) bool // nil: nothing is dropped
	links  map[*natsLink]bool
	ended  bool
}

// natsLink is one connection through a proxy.
type natsLink struct {
	proxy          *natsProxy
	client, server *net.TCPConn
}

// startNATSProxy starts a proxy that ends with the test.
func startNATSProxy(t testing.TB, servers []*natsNode) *natsProxy {
	t.Helper()
	p := &natsProxy{change: make(chan struct{}), links: map[*natsLink]bool{}}
	for _, s := range servers {
		l, err := net.Listen("tcp", "127.0.4.1:0")
		if err != nil {
			t.Fatal(err)
		}
		p.listeners = append(p.listeners, l)
		p.urls = append(p.urls, "nats://"+l.Addr().String())
		p.running.Go(func() { p.accept(l, s.addr) }) // ends when l is closed
	}
	t.Cleanup(func() {
		p.set(func() { p.ended = true })
		for _, l := range p.listeners {
			l.Close()
		}
		p.reset()
		p.running.Wait()
	})
	return p
}

// set changes fields of the proxy.
func (p *natsProxy) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	close(p.change)
	p.change = make(chan struct{})
}

// setCut cuts the network without a reset, or mends it. As in a real network, bytes that were sent
// during the cut arrive after it, unless the connection has ended.
func (p *natsProxy) setCut(cut bool)           { p.set(func() { p.cut = cut }) }
func (p *natsProxy) setDelay(by time.Duration) { p.set(func() { p.delay = by }) }

// setDrop loses the publications of the node for which drop returns true. It is called from one
// goroutine at a time per connection.
func (p *natsProxy) setDrop(drop func(subject string, data []byte) bool) {
	p.set(func() { p.drop = drop })
}

// reset resets all connections.
func (p *natsProxy) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.reset()
	}
}

// resetAtRandom resets all connections at random times, until the returned function is called. The
// mean time between two resets is every.
func (p *natsProxy) resetAtRandom(random *rand.Rand, every time.Duration) (stop func() (resets int)) {
	done, stopped, resets := make(chan struct{}), make(chan struct{}), 0
	go func() { // ends with done
		defer close(stopped)
		for {
			select {
			case <-done:
				return
			case <-time.After(time.Duration(random.ExpFloat64() * float64(every))):
				p.reset()
				resets++
			}
		}
	}()
	return func() int { close(done); <-stopped; return resets }
}

func (p *natsProxy) accept(l net.Listener, server string) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		link := &natsLink{proxy: p, client: conn.(*net.TCPConn)}
		p.running.Go(func() { link.run(server) })
	}
}

// reset closes both connections with a reset.
func (l *natsLink) reset() {
	for _, conn := range []*net.TCPConn{l.client, l.server} {
		if conn != nil {
			conn.SetLinger(0)
			conn.Close()
		}
	}
}

// run forwards a connection until one side ends it.
func (l *natsLink) run(server string) {
	p := l.proxy
	conn, err := net.Dial("tcp", server)
	if err == nil {
		l.server = conn.(*net.TCPConn)
	}
	p.mu.Lock()
	refused := err != nil || p.ended
	if !refused {
		p.links[l] = true
	}
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.links, l)
		l.reset()
	}()
	if refused {
		return
	}
	p.running.Go(func() { l.pump(l.client, bufio.NewReader(l.server), readChunk) })
	l.pump(l.server, bufio.NewReaderSize(l.client, 64<<10), l.readFrame)
}

// chunk is bytes in the network.
type chunk struct {
	data []byte
	sent time.Time
}

// pump forwards the bytes that read returns, with the delay of the proxy. It ends when one side
// fails, and then resets the connection.
func (l *natsLink) pump(to net.Conn, from *bufio.Reader, read func(*bufio.Reader) ([]byte, error)) {
	chunks := make(chan chunk, 10_000)
	l.proxy.running.Go(func() { // ends when chunks is closed
		defer l.reset()
		for c := range chunks {
			if l.pass(c.sent) {
				if _, err := to.Write(c.data); err != nil {
					l.reset() // so that the reader ends
				}
			}
		}
	})
	defer close(chunks)
	for {
		data, err := read(from)
		if len(data) > 0 {
			chunks <- chunk{data, time.Now()}
		}
		if err != nil {
			return
		}
	}
}

// pass waits until bytes that were sent at a time may arrive. It returns false if the connection
// has ended.
func (l *natsLink) pass(sent time.Time) bool {
	p := l.proxy
	for {
		p.mu.Lock()
		change, cut, ended, left := p.change, p.cut, p.ended, time.Until(sent.Add(p.delay))
		p.mu.Unlock()
		switch {
		case ended:
			return false
		case cut:
			<-change
		case left <= 0:
			return true
		default:
			select {
			case <-change:
			case <-time.After(left):
			}
		}
	}
}

func readChunk(r *bufio.Reader) ([]byte, error) {
	if _, err := r.Peek(1); err != nil {
		return nil, err
	}
	data := make([]byte, r.Buffered())
	_, err := io.ReadFull(r, data)
	return data, err
}

// readFrame reads a frame of the NATS protocol from a client. It returns nothing if the frame is a
// publication that the proxy drops.
func (l *natsLink) readFrame(r *bufio.Reader) ([]byte, error) {
	frame, err := r.ReadBytes('\n')
	if err != nil {
		return frame, err
	}
	fields := strings.Fields(string(frame))
	if len(fields) < 3 || fields[0] != "PUB" && fields[0] != "HPUB" {
		return frame, nil
	}
	size, err := strconv.Atoi(fields[len(fields)-1])
	if err != nil {
		return frame, err
	}
	head := len(frame)
	frame = append(frame, make([]byte, size+2)...) // the payload ends with \r\n
	if _, err := io.ReadFull(r, frame[head:]); err != nil {
		return nil, err
	}
	l.proxy.mu.Lock()
	drop := l.proxy.drop
	l.proxy.mu.Unlock()
	if drop != nil && drop(fields[1], bytes.TrimSuffix(frame[head:], []byte("\r\n"))) {
		return nil, nil
	}
	return frame, nil
}
