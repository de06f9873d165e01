package backplanetest

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/room"
)

const messages = 20

func memory(t *testing.T) (*backplane.Memory, Engine) {
	m := backplane.NewMemory(backplane.MemoryConfig{Messages: messages, Age: 5 * time.Minute, Bytes: 1 << 20})
	t.Cleanup(m.Close)
	return m, Engine{Nodes: []backplane.Bus{m}, Messages: messages, Recreate: m.Recreate, Drop: m.Lose}
}

func TestMemory(t *testing.T) {
	RunInBubble(t, func(t *testing.T) Engine {
		_, e := memory(t)
		return e
	})
}

func TestMemoryTwice(t *testing.T) {
	RunInBubble(t, func(t *testing.T) Engine {
		m, e := memory(t)
		e.Nodes = append(e.Nodes, m)
		return e
	})
}

// The checks also pass in real time, which engines with sockets require.
func TestMemoryInRealTime(t *testing.T) {
	Run(t, func(t *testing.T) Engine {
		_, e := memory(t)
		e.Settle = 20 * time.Millisecond
		return e
	})
}

func TestGaps(t *testing.T) {
	RunInBubble(t, func(t *testing.T) Engine {
		m, e := memory(t)
		e.Nodes = []backplane.Bus{Gaps(m), Gaps(m)}
		return e
	})
	for p := uint64(1); p < 5000; p++ {
		if d := widen(p) - widen(p-1); d < 1 || d > 2*gapStep-1 {
			t.Fatalf("position %d is %d above the previous one, want 1 to %d", p, d, 2*gapStep-1)
		}
		if below, exact := narrow(widen(p)); below != p || !exact {
			t.Fatalf("narrow(widen(%d)): got %d, %v, want %d, true", p, below, exact, p)
		}
		if below, exact := narrow(widen(p) - 1); below != p-1 || exact && widen(p-1) != widen(p)-1 {
			t.Fatalf("narrow(widen(%d)-1): got %d, %v, want %d, false", p, below, exact, p-1)
		}
	}
}

func TestSlow(t *testing.T) {
	for name, c := range map[string]SlowConfig{
		"nothing":      {},
		"late answers": {Answer: 50 * time.Millisecond, Read: 20 * time.Millisecond},
		"late entries": {Append: 5 * time.Millisecond, Deliver: 50 * time.Millisecond},
		"failures":     {LoseAnswers: 3, FailReads: 3, Deliver: time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			RunInBubble(t, func(t *testing.T) Engine {
				m, e := memory(t)
				s := Slow(m, c)
				t.Cleanup(s.Close)
				e.Nodes = []backplane.Bus{s, s}
				return e
			})
		})
	}
}

func TestEpochs(t *testing.T) {
	RunInBubble(t, func(t *testing.T) Engine {
		m, e := memory(t)
		b := Epochs(Gaps(m))
		t.Cleanup(b.Close)
		e.Nodes = []backplane.Bus{b, b}
		e.Recreate = func() {
			if err := b.Change(t.Context()); err != nil {
				t.Error(err)
			}
		}
		return e
	})
}

// lateBus is a bus whose subscriptions receive no entry in their first 300 ms. With messages, the
// same holds for publications.
type lateBus struct {
	backplane.Bus
	messages bool
}

func (b lateBus) Subscribe(topic room.Name, h backplane.Handler) (cancel func(), err error) {
	start := time.Now().Add(300 * time.Millisecond)
	if entry := h.Entry; entry != nil {
		h.Entry = func(e backplane.Entry) {
			if !time.Now().Before(start) {
				entry(e)
			}
		}
	}
	if message := h.Message; message != nil && b.messages {
		h.Message = func(data []byte) {
			if !time.Now().Before(start) {
				message(data)
			}
		}
	}
	return b.Bus.Subscribe(topic, h)
}

// The servers of a NATS cluster learn of a subscription at different times. Publications of the own
// server arrive from the start, which the check Cancel requires. [TestBroken] tests that the checks
// fail without Engine.Late.
func TestLate(t *testing.T) {
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, e := memory(t)
				b := lateBus{m, c.name != "Cancel"}
				e.Nodes, e.Late = []backplane.Bus{b, b}, true
				report(t, c, e)
			})
		})
	}
}

// The wrappers can be combined, because a test of the hub may need several faults.
func TestAllWrappers(t *testing.T) {
	RunInBubble(t, func(t *testing.T) Engine {
		m, e := memory(t)
		b := Gaps(Slow(m, SlowConfig{Answer: 10 * time.Millisecond, Deliver: 5 * time.Millisecond, LoseAnswers: 3, FailReads: 4}))
		t.Cleanup(b.Close)
		e.Nodes = []backplane.Bus{b, b}
		return e
	})
}

// Slow applies the configured delays and failures.
func TestSlowFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, _ := memory(t)
		s := Slow(m, SlowConfig{Append: time.Second, Answer: time.Minute, Read: time.Second, Deliver: 2 * time.Second})
		defer s.Close()
		start := time.Now()
		var delivered time.Duration
		if _, err := s.Subscribe("a", backplane.Handler{Entry: func(backplane.Entry) { delivered = time.Since(start) }}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		if _, _, err := s.Append(ctx, "a", "k", nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Append within 30s: got %v, want DeadlineExceeded", err)
		}
		synctest.Wait()
		if delivered != 3*time.Second {
			t.Errorf("delivered after %v, want 3s", delivered)
		}
		s.LoseAnswers(1)
		for i, want := range []error{backplane.ErrUnavailable, nil} {
			position, duplicate, err := s.Append(t.Context(), "a", "k", nil)
			if err != want || want == nil && (position != 1 || !duplicate) {
				t.Errorf("Append %d: got %d, %v, %v, want error %v or 1, true", i, position, duplicate, err, want)
			}
		}
		s.FailReads(2)
		for _, want := range []error{backplane.ErrUnavailable, backplane.ErrUnavailable, nil} {
			start := time.Now()
			entries, _, err := s.Read(t.Context(), "a", 0)
			if err != want || want == nil && len(entries) != 1 || time.Since(start) != time.Second {
				t.Errorf("Read: got %d entries, %v, after %v, want error %v after 1s", len(entries), err, time.Since(start), want)
			}
		}
	})
}

// Many calls are due at the same time as timers of the test. If Slow received from a timer that is
// due already, the race detector would crash here. See sleep.
func TestSlowBesideTimers(t *testing.T) {
	const subscriptions, entries = 10, 10
	for range 30 {
		synctest.Test(t, func(t *testing.T) {
			m, _ := memory(t)
			s := Slow(m, SlowConfig{Deliver: time.Second})
			defer s.Close()
			var delivered, fired atomic.Int64
			for range subscriptions {
				h := backplane.Handler{Entry: func(backplane.Entry) { delivered.Add(1) }}
				if _, err := s.Subscribe("a", h); err != nil {
					t.Fatal(err)
				}
			}
			for range entries {
				if _, _, err := s.Append(t.Context(), "a", "", nil); err != nil {
					t.Fatal(err)
				}
			}
			synctest.Wait()
			for range 300 {
				time.AfterFunc(time.Second, func() { fired.Add(1) })
			}
			time.Sleep(time.Second)
			synctest.Wait()
			if delivered.Load() != subscriptions*entries || fired.Load() != 300 {
				t.Errorf("got %d calls and %d timers, want %d and 300", delivered.Load(), fired.Load(), subscriptions*entries)
			}
		})
	}
}
