package hub_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/internal/hub"
	"example.com/presence/pkg/presence/internal/loglimit"
	"example.com/presence/pkg/presence/internal/stream"
	"example.com/presence/pkg/presence/room"
)

// lateBus is one node's access to an engine that it reaches only later, and that it may lose again.
type lateBus struct {
	backplane.Bus

	mu       sync.Mutex // guards the fields below
	status   backplane.Status
	lost     []func()
	watch    func(backplane.Row)
	notified func(backplane.Status)
}

// reach connects the node to the engine, as an engine must: the rows of the table come first, then
// the status, and then the loss of all that was published before.
func (b *lateBus) reach() {
	synctest.Wait()
	b.mu.Lock()
	watch := b.watch
	b.watch = nil
	b.mu.Unlock()
	if watch != nil {
		b.Bus.Watch(watch) // ends with the engine
	}
	b.change(b.Bus.Status())
	b.mu.Lock()
	lost := b.lost
	b.mu.Unlock()
	for _, f := range lost {
		f()
	}
}

// lose disconnects the node from the engine.
func (b *lateBus) lose() {
	synctest.Wait()
	s := b.Status()
	s.Connected = false
	b.change(s)
}

func (b *lateBus) change(s backplane.Status) {
	b.mu.Lock()
	b.status = s
	f := b.notified
	b.mu.Unlock()
	if f != nil {
		f(s)
	}
}

func (b *lateBus) Status() backplane.Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.status
}

func (b *lateBus) Notify(f func(backplane.Status)) func() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.notified = f
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.notified = nil
	}
}

func (b *lateBus) Watch(f func(backplane.Row)) (func(), error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.status.Epoch != "" {
		return b.Bus.Watch(f)
	}
	b.watch = f
	return func() {}, nil
}

func (b *lateBus) Subscribe(topic room.Name, h backplane.Handler) (func(), error) {
	b.mu.Lock()
	if h.Lost != nil {
		b.lost = append(b.lost, h.Lost)
	}
	b.mu.Unlock()
	connected := func() bool { return b.Status().Connected }
	own := backplane.Handler{
		Entry: func(e backplane.Entry) {
			if h.Entry != nil && connected() {
				h.Entry(e)
			}
		},
		Message: func(data []byte) {
			if h.Message != nil && connected() {
				h.Message(data)
			}
		},
	}
	if h.Ask != nil {
		own.Ask = func(request []byte) []byte {
			if !connected() {
				return nil
			}
			return h.Ask(request)
		}
	}
	return b.Bus.Subscribe(topic, own)
}

func (b *lateBus) Publish(ctx context.Context, topic room.Name, data []byte) error {
	if !b.Status().Connected {
		return backplane.ErrUnavailable
	}
	return b.Bus.Publish(ctx, topic, data)
}

func (b *lateBus) Ask(ctx context.Context, topic room.Name, request []byte, answer func([]byte) bool) error {
	if !b.Status().Connected {
		return backplane.ErrUnavailable
	}
	return b.Bus.Ask(ctx, topic, request, answer)
}

func (b *lateBus) Append(ctx context.Context, name room.Name, key string, data []byte) (uint64, bool, error) {
	if !b.Status().Connected {
		return 0, false, backplane.ErrUnavailable
	}
	return b.Bus.Append(ctx, name, key, data)
}

func (b *lateBus) Read(ctx context.Context, name room.Name, after uint64) ([]backplane.Entry, bool, error) {
	if !b.Status().Connected {
		return nil, false, backplane.ErrUnavailable
	}
	return b.Bus.Read(ctx, name, after)
}

func (b *lateBus) Last(ctx context.Context, name room.Name) (uint64, error) {
	if !b.Status().Connected {
		return 0, backplane.ErrUnavailable
	}
	return b.Bus.Last(ctx, name)
}

func (b *lateBus) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	if !b.Status().Connected {
		return backplane.ErrUnavailable
	}
	return b.Bus.Put(ctx, key, value, ttl)
}

// logBuffer holds the lines of a log.
type logBuffer struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// use makes the hub log to the buffer.
func (b *logBuffer) use(c *hub.Config) {
	c.Log = slog.New(slog.NewTextHandler(b, nil))
	c.Warn = loglimit.New(c.Log)
}

// lines returns the lines so far that contain the text.
func (b *logBuffer) lines(text string) (found []string) {
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	for line := range strings.Lines(b.text.String()) {
		if strings.Contains(line, text) {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}

// A node that starts without contact admits clients at once and rejects messages at once. Its first
// contact ends both: its clients get reset, and then all messages and the true count.
func TestStartWithoutContact(t *testing.T) {
	for _, after := range []time.Duration{100 * time.Millisecond, time.Second, 4 * time.Second, time.Minute} {
		t.Run(after.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := sharedMemory()
				a := openNode(t, log, withRings)
				time.Sleep(2 * time.Second)
				alice := a.join("lobby", "alice", hub.Lease{}, "")
				first := a.send("lobby", "alice", "1")
				bus, lines := &lateBus{Bus: log}, &logBuffer{}
				b := openNode(t, bus, withRings, lines.use)
				start := time.Now()
				bob := b.join("lobby", "bob", hub.Lease{}, "")
				carol := b.join("lobby", "carol", hub.Lease{}, first)
				_, err := b.Send(t.Context(), "lobby", hub.Draft{Event: "message", Data: []byte("0")}, "bob", "")
				if d := time.Since(start); d > 0 || !errors.Is(err, backplane.ErrUnavailable) {
					t.Errorf("without contact: got %v after %v, want %v at once", err, d, backplane.ErrUnavailable)
				}
				time.Sleep(100 * time.Millisecond)
				bob.expect("sync user count:1 join user count:2")
				carol.expect(resetText + " sync user count:2")
				bob.mu.Lock()
				if bob.view.position != "0000000000-0" { // ten digits, as in every id
					t.Errorf("without contact: got the id %q", bob.view.position)
				}
				bob.mu.Unlock()
				if ever, down := b.Contact(); ever || !down {
					t.Errorf("without contact: got contact %v, down %v; want false, true", ever, down)
				}
				time.Sleep(after)
				a.send("lobby", "alice", "2")
				bus.reach()
				time.Sleep(2 * time.Second)
				for _, c := range []*fakeClient{bob, carol} {
					if got := c.take(); !strings.Contains(got, resetText) || strings.Contains(got, "message") {
						t.Errorf("%s got %q after the contact, want a reset and no message", c.user, got)
					}
				}
				a.send("lobby", "alice", "3")
				bob.expect("message:3")
				carol.expect("message:3")
				b.send("lobby", "bob", "4")
				bob.expect("message:4")
				alice.take()
				for _, n := range []*node{a, b} {
					if p, err := n.Members(t.Context(), "lobby", "", 10); err != nil || p.Connections != 3 || p.Users != 3 {
						t.Errorf("got %d connections, %d users, %v; want 3 and 3", p.Connections, p.Users, err)
					}
				}
				if ever, down := b.Contact(); !ever || down {
					t.Errorf("after the contact: got contact %v, down %v; want true, false", ever, down)
				}
				checkContactLog(t, lines, "engine not connected")
			})
		})
	}
}

// The first contact ends the streams of the users that were banned before.
func TestBanBeforeContact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := sharedMemory()
		a := openNode(t, log, withRings)
		time.Sleep(2 * time.Second)
		a.join("lobby", "bob", hub.Lease{}, "")
		if err := a.Kick(t.Context(), "lobby", "bob", time.Hour); err != nil {
			t.Fatal(err)
		}
		bus := &lateBus{Bus: log}
		b := openNode(t, bus, withRings)
		bob := b.join("lobby", "bob", hub.Lease{}, "")
		time.Sleep(5 * time.Second)
		if got := bob.end(); got != "" {
			t.Errorf("without contact: the stream of bob ended with %q", got)
		}
		bus.reach()
		synctest.Wait()
		if got := bob.end(); got != hub.EndRemoved {
			t.Errorf("after the contact: the stream of bob ended with %q, want %q", got, hub.EndRemoved)
		}
	})
}

// checkContactLog checks that the log has one line about the cut and one about its end.
func checkContactLog(t *testing.T, b *logBuffer, why string) {
	t.Helper()
	cut, back := b.lines("node cut off from backplane"), b.lines("node connected to backplane")
	if len(cut) != 1 || !strings.Contains(cut[0], why) || len(back) != 1 {
		t.Errorf("got %q and %q; want one line with %q, and one about its end", cut, back, why)
	}
}

// The log reports a cut if the engine reports it, and also if only the own heartbeats are missing.
// Once the node knows that it is cut off, it rejects messages at once.
func TestCutInLog(t *testing.T) {
	for _, test := range []struct {
		name, why string
		cut, mend func(late *lateBus, lossy *lossyBus)
	}{
		{"engine", "engine not connected", func(b *lateBus, _ *lossyBus) { b.lose() }, func(b *lateBus, _ *lossyBus) { b.reach() }},
		{"heartbeats", "own heartbeats not received", func(_ *lateBus, b *lossyBus) { b.change(func() { b.deaf = true }) },
			func(_ *lateBus, b *lossyBus) { b.change(func() { b.deaf = false }) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				late := &lateBus{Bus: sharedMemory()}
				late.status = late.Bus.Status()
				lossy, lines := &lossyBus{Bus: late}, &logBuffer{}
				a := openNode(t, lossy, withRings, lines.use)
				alice := a.join("lobby", "alice", hub.Lease{}, "")
				time.Sleep(5 * time.Second)
				if got := lines.lines("backplane"); len(got) > 0 {
					t.Fatalf("before the cut: got %q, want no line", got)
				}
				alice.take()
				for range 2 {
					test.cut(late, lossy)
					time.Sleep(3100 * time.Millisecond)
					start := time.Now()
					_, err := a.Send(t.Context(), "lobby", hub.Draft{Event: "message", Data: []byte("0")}, "alice", "")
					if d := time.Since(start); d > 0 || !errors.Is(err, backplane.ErrUnavailable) {
						t.Errorf("got %v after %v, want %v at once", err, d, backplane.ErrUnavailable)
					}
					if ever, down := a.Contact(); !ever || !down {
						t.Errorf("during the cut: got contact %v, down %v; want true, true", ever, down)
					}
					test.mend(late, lossy)
					time.Sleep(1100 * time.Millisecond)
					checkContactLog(t, lines, test.why)
					a.send("lobby", "alice", "1")
					alice.expect("message:1")
					lines.text.Reset()
				}
			})
		})
	}
}

// A cut that ends before the node misses its heartbeats is in the log too.
func TestShortCutInLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus, lines := &lateBus{Bus: sharedMemory()}, &logBuffer{}
		bus.status = bus.Bus.Status()
		a := openNode(t, bus, withRings, lines.use)
		alice := a.join("lobby", "alice", hub.Lease{}, "")
		time.Sleep(5 * time.Second)
		bus.lose()
		time.Sleep(100 * time.Millisecond)
		bus.reach()
		time.Sleep(100 * time.Millisecond)
		checkContactLog(t, lines, "engine not connected")
		alice.Drop(stream.Closed)
	})
}
