package hub_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/room"
)

// simRig is a simulated engine with nodes, for the tests of the engine itself.
type simRig struct {
	t      *testing.T
	engine *simEngine
	nodes  []*simBus
	start  time.Time
	trace  []string // guarded by the lock of the engine
}

// inSimRig runs f in a bubble with an engine of n nodes.
func inSimRig(t *testing.T, seed uint64, n int, f func(r *simRig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		r := &simRig{t: t, start: time.Now()}
		r.engine = newSimEngine(rnd, func(format string, args ...any) {
			r.trace = append(r.trace, fmt.Sprintf("%v ", time.Since(r.start))+fmt.Sprintf(format, args...))
		})
		defer r.engine.close()
		for i := range n {
			offset := time.Duration(i) * time.Hour
			r.nodes = append(r.nodes, r.engine.handle(string(rune('A'+i)), newSimClock(rnd, offset)))
		}
		f(r)
	})
}

// simSeen records the calls of one subscription or watcher.
type simSeen struct {
	mu    sync.Mutex // guards the fields below
	start time.Time
	texts []string
	at    []time.Duration // since the start
}

func (s *simSeen) add(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.texts = append(s.texts, fmt.Sprintf(format, args...))
	s.at = append(s.at, time.Since(s.start))
}

// all returns the calls so far, separated by spaces.
func (s *simSeen) all() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.texts, " ")
}

// take returns the calls so far and forgets them.
func (s *simSeen) take() (texts []string, at []time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	texts, at = s.texts, s.at
	s.texts, s.at = nil, nil
	return texts, at
}

func (s *simSeen) handler() backplane.Handler {
	return backplane.Handler{
		Entry:   func(e backplane.Entry) { s.add("%d:%s", e.Position, e.Data) },
		Message: func(data []byte) { s.add("%s", data) },
		Lost:    func() { s.add("lost") },
		Ask: func(request []byte) []byte {
			s.add("?%s", request)
			return append([]byte("re:"), request...)
		},
	}
}

// subscribe records the calls of a new subscription of the node.
func (r *simRig) subscribe(node int, topic room.Name) *simSeen {
	s := &simSeen{start: r.start}
	if _, err := r.nodes[node].Subscribe(topic, s.handler()); err != nil {
		r.t.Fatal(err)
	}
	return s
}

// watch records the rows that the node receives, such as "key=value" and "-key".
func (r *simRig) watch(node int) *simSeen {
	s := &simSeen{start: r.start}
	_, err := r.nodes[node].Watch(func(row backplane.Row) {
		if row.Deleted {
			s.add("-%s", row.Key)
		} else {
			s.add("%s=%s", row.Key, row.Value)
		}
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

// publish publishes a text and fails the test if Publish fails.
func (r *simRig) publish(node int, topic room.Name, text string) {
	if err := r.nodes[node].Publish(r.t.Context(), topic, []byte(text)); err != nil {
		r.t.Errorf("publish %s: %v", text, err)
	}
}

// append appends a text and fails the test if Append fails.
func (r *simRig) append(node int, name room.Name, text string) (position uint64) {
	position, _, err := r.nodes[node].Append(r.t.Context(), name, text, []byte(text))
	if err != nil {
		r.t.Errorf("append %s: %v", text, err)
	}
	return position
}

// put stores a row and fails the test if Put fails.
func (r *simRig) put(node int, key, value string, ttl time.Duration) {
	if err := r.nodes[node].Put(r.t.Context(), key, []byte(value), ttl); err != nil {
		r.t.Errorf("put %s: %v", key, err)
	}
}

// want compares the calls so far with the expected ones, and forgets them.
func (r *simRig) want(name string, s *simSeen, want ...string) {
	r.t.Helper()
	if texts, _ := s.take(); strings.Join(texts, " ") != strings.Join(want, " ") {
		r.t.Errorf("%s: got %q, want %q", name, texts, want)
	}
}
