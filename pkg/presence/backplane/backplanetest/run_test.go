package backplanetest

import (
	"testing"
	"time"

	"example.com/presence/pkg/presence/backplane"
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

// In real time, as engines with sockets are tested.
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
			t.Fatalf("position %d is %d after the one before", p, d)
		}
		if below, exact := narrow(widen(p)); below != p || !exact {
			t.Fatalf("narrow(widen(%d)) = %d, %v", p, below, exact)
		}
		if below, exact := narrow(widen(p) - 1); below != p-1 || exact && widen(p-1) != widen(p)-1 {
			t.Fatalf("narrow(widen(%d)-1) = %d, %v", p, below, exact)
		}
	}
}

func TestSlow(t *testing.T) {
	for name, c := range map[string]SlowConfig{
		"nothing":      {},
		"late answers": {Answer: 50 * time.Millisecond, Read: 20 * time.Millisecond},
		"late entries": {Append: 5 * time.Millisecond, Deliver: 50 * time.Millisecond},
		"failures":     {LoseAnswers: 2, FailReads: 2, Deliver: time.Millisecond},
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
