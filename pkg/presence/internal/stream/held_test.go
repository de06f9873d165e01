package stream_test

import (
	"bufio"
	"fmt"
	"strings"
	"testing"
	"time"

	"example.com/presence/pkg/presence/internal/stream"
)

// TestOverloaded fills the backlogs of two streams. Only the one that holds more than its share is
// overloaded, and only until its clients have caught up.
func TestOverloaded(t *testing.T) {
	t.Parallel()
	const limit = 1 << 20
	each(t, stream.Config{MaxUnsent: 4 << 20, MaxUnsentTotal: limit, MinShare: 64 << 10, Heartbeat: time.Hour}, func(t *testing.T, g *rig) {
		t.Parallel()
		reader, conn := g.client()
		conn.SendThen(func() {}, []byte(filler))
		otherReader, otherConn := g.clientOf("/other")
		otherConn.SendThen(func() {}, []byte(filler))
		data := `"` + strings.Repeat("x", 16<<10) + `"`
		for i := range 4 {
			g.other.Publish(stream.Event{ID: fmt.Sprint("e-", i), Name: "message", Data: []byte(data)}, stream.Every)
		}
		sent := 0
		poll(t, "the first stream is overloaded", func() bool { // at 1.6 MB per second
			g.publish(stream.Reserved, fmt.Sprint("e-", sent), "message", data)
			sent++
			return g.shared.Overloaded()
		})
		if unsent := g.streams.Stats().Unsent; unsent < limit || unsent > 2*limit {
			t.Errorf("%d bytes unsent when the stream became overloaded, want little more than %d", unsent, limit)
		}
		if g.streams.Excess() <= 0 {
			t.Errorf("an excess of %d bytes while a stream is overloaded", g.streams.Excess())
		}
		if g.other.Overloaded() {
			t.Error("the other stream is overloaded too, below its share")
		}
		pastFiller(t, reader)
		for range sent {
			block(t, reader)
		}
		pastFiller(t, otherReader)
		for range 4 {
			block(t, otherReader)
		}
		poll(t, "the backlogs are empty", func() bool { return g.streams.Stats().Unsent == 0 })
		if g.shared.Overloaded() || conn.Held() != (stream.Held{}) {
			t.Errorf("after the client has caught up: overloaded %t, held %+v", g.shared.Overloaded(), conn.Held())
		}
	})
}

// TestStalled expects that a client that stops reading is stalled after stalledTime, that one that
// reads slowly but steadily is not, and that a stalled client that reads again no longer is.
func TestStalled(t *testing.T) {
	t.Parallel()
	const within = 2 * time.Second
	each(t, stream.Config{MaxUnsent: 4 << 20, Heartbeat: time.Second}.WithStalledTime(within), func(t *testing.T, g *rig) {
		t.Parallel()
		began := time.Now()
		stopped, stoppedConn := g.client()
		stoppedConn.SendThen(func() {}, []byte(filler))
		steady, steadyConn := g.client()
		steadyConn.SendThen(func() {}, []byte(filler))
		stop := make(chan struct{})
		defer close(stop)
		go readSteadily(steady, stop) // ends with the test
		poll(t, "the client that reads nothing is stalled", func() bool {
			if steadyConn.Held().Stalled {
				t.Fatal("a client that reads steadily is stalled")
			}
			return stoppedConn.Held().Stalled
		})
		if took := time.Since(began); took < within {
			t.Errorf("stalled after %v, want at least %v", took, within)
		}
		if steadyConn.Held().Stalled {
			t.Error("a client that reads steadily is stalled")
		}
		pastFiller(t, stopped)
		poll(t, "the client that reads again is not stalled", func() bool { return !stoppedConn.Held().Stalled })
	})
}

// readSteadily reads 640 KB per second until stop is closed.
func readSteadily(r *bufio.Reader, stop <-chan struct{}) {
	ticks := time.NewTicker(100 * time.Millisecond)
	defer ticks.Stop()
	for {
		select {
		case <-stop:
			return
		case <-ticks.C:
			if _, err := r.Discard(64 << 10); err != nil {
				return
			}
		}
	}
}

// poll waits until the condition is true.
func poll(t *testing.T, what string, is func() bool) {
	t.Helper()
	for within := time.Now().Add(patience); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(within) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}
