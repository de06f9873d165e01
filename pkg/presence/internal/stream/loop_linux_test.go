package stream

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
)

// openMany connects clients to one room. Before the test's cleanup closes the streams, the test
// must close each client or end its connection.
func openMany(t *testing.T, clients int) (streams *Streams, shared *Stream, conns []*Conn, bodies []io.Closer, open *sync.WaitGroup) {
	t.Helper()
	streams, open = Open(Config{}), new(sync.WaitGroup)
	t.Cleanup(streams.Close)
	shared = streams.Stream("lobby")
	attached := make(chan *Conn, clients)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := streams.Conn(w, r)
		defer func() { attached <- conn }()
		if err != nil {
			t.Error(err)
			return
		}
		open.Add(1)
		conn.Send([]byte("retry: 1000\n\n"))
		shared.Attach(conn)
		conn.Serve(r.Context(), func(End) { shared.Detach(conn); open.Done() })
	}))
	t.Cleanup(server.Close)
	for range clients {
		response, err := server.Client().Get(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { response.Body.Close() })
		bodies = append(bodies, response.Body)
		conns = append(conns, <-attached) // the response may arrive before the attach
	}
	return streams, shared, conns, bodies, open
}

// A loop that ends many connections handles other tasks after each slice.
func TestManyEndsAreDivided(t *testing.T) {
	const clients = 1000
	streams, _, conns, _, open := openMany(t, clients)
	l := streams.loops[0]
	var left int
	done := make(chan struct{})
	l.do(func() { // queues all ends before the loop can handle one
		for _, c := range conns {
			c.End("draining")
		}
		l.do(func() {
			defer close(done)
			for _, c := range l.conns {
				if c != nil {
					left++
				}
			}
		})
	})
	<-done
	if left == 0 {
		t.Error("all connections of the loop ended before its next task, want some left")
	}
	open.Wait()
	if n := l.size.Load(); n != 0 {
		t.Errorf("the loop has %d connections, want 0", n)
	}
}

// A loop keeps no reference to ended connections, or to the events of an idle room.
func TestLoopsKeepNothingOfEndedConnections(t *testing.T) {
	const clients, events = 20, 500
	streams, shared, _, bodies, open := openMany(t, clients)
	shares := slices.Clone(shared.shares)
	for range events {
		if err := shared.Reserve(context.Background()); err != nil {
			t.Fatal(err)
		}
		shared.Publish(Event{ID: "1", Name: "n", Data: []byte("0")}, Reserved)
	}
	streams.Drain()
	for _, b := range bodies {
		b.Close()
	}
	open.Wait()
	for _, sh := range shares {
		l := streams.loops[slices.IndexFunc(streams.loops, func(l *loop) bool { return l.inbox == sh.inbox })]
		for busy := true; busy; { // until the loop has delivered earlier events
			inTurn(l, func() { busy = len(l.fanOuts.active) > 0 })
		}
		inTurn(l, func() {
			if len(sh.conns) > 0 || sh.now != nil {
				t.Errorf("a share has %d connections, events %v, want 0, false", len(sh.conns), sh.now != nil)
			}
			for _, c := range l.conns {
				if c != nil {
					t.Errorf("index %d is in use, want none", c.index)
				}
			}
			if len(l.blocked) > 0 || len(l.free) != len(l.conns) || l.size.Load() != 0 {
				t.Errorf("a loop has %d blocked, %d of %d indexes free, %d connections, want all free", len(l.blocked), len(l.free), len(l.conns), l.size.Load())
			}
		})
	}
	if len(shares) == 0 || len(shared.shares) != 0 {
		t.Errorf("the stream had %d shares and has %d, want 1 or more and 0", len(shares), len(shared.shares))
	}
}

// inTurn calls f in a turn of the loop and waits for it. Each call runs in a later turn than the
// call before.
func inTurn(l *loop, f func()) {
	done := make(chan struct{})
	l.do(func() { defer close(done); f() })
	<-done
}
