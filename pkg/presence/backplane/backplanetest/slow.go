package backplanetest

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/room"
)

// SlowConfig sets the delays and failures of a [SlowBus]. With the zero value, there are none.
type SlowConfig struct {
	Append  time.Duration // Delay before the engine accepts a message.
	Answer  time.Duration // Delay between acceptance and the return of Append.
	Read    time.Duration // Delay of Read and Last.
	Deliver time.Duration // Delay of each Handler call. The calls keep their order.

	LoseAnswers int // Every n-th Append is accepted but returns ErrUnavailable. 0 means never.
	FailReads   int // Every n-th Read returns ErrUnavailable. 0 means never.
}

// SlowBus is a bus whose calls are slow or fail. All methods are safe for concurrent use.
type SlowBus struct {
	backplane.Bus
	config SlowConfig

	appends, reads         atomic.Uint64
	loseAnswers, failReads atomic.Int64 // number of upcoming calls that fail

	running sync.WaitGroup // the goroutines of subscriptions
	mu      sync.Mutex     // guards subs and closed
	subs    map[*slowSubscription]struct{}
	closed  bool
}

// Slow returns a bus that wraps b and adds the delays and failures of c. Close closes b.
func Slow(b backplane.Bus, c SlowConfig) *SlowBus {
	return &SlowBus{Bus: b, config: c, subs: map[*slowSubscription]struct{}{}}
}

// LoseAnswers makes the next n Appends accept their messages but return ErrUnavailable.
func (s *SlowBus) LoseAnswers(n int) { s.loseAnswers.Store(int64(n)) }

// FailReads makes the next n Reads return ErrUnavailable.
func (s *SlowBus) FailReads(n int) { s.failReads.Store(int64(n)) }

// Append adds the message to the wrapped bus after a delay. It may return ErrUnavailable although
// the message was accepted.
func (s *SlowBus) Append(ctx context.Context, name room.Name, key string, data []byte) (position uint64, duplicate bool, err error) {
	if err := sleep(ctx, s.config.Append); err != nil {
		return 0, false, err
	}
	position, duplicate, err = s.Bus.Append(ctx, name, key, data)
	if err != nil {
		return 0, false, err
	}
	if err := sleep(ctx, s.config.Answer); err != nil {
		return 0, false, err
	}
	if s.loseAnswers.Add(-1) >= 0 || every(s.config.LoseAnswers, &s.appends) {
		return 0, false, backplane.ErrUnavailable
	}
	return position, duplicate, nil
}

// Read reads from the wrapped bus after a delay, or returns ErrUnavailable.
func (s *SlowBus) Read(ctx context.Context, name room.Name, after uint64) (entries []backplane.Entry, complete bool, err error) {
	if err := sleep(ctx, s.config.Read); err != nil {
		return nil, false, err
	}
	if !s.Status().Connected { // closed
		return s.Bus.Read(ctx, name, after)
	}
	if s.failReads.Add(-1) >= 0 || every(s.config.FailReads, &s.reads) {
		return nil, false, backplane.ErrUnavailable
	}
	return s.Bus.Read(ctx, name, after)
}

// Last calls Last of the wrapped bus after a delay.
func (s *SlowBus) Last(ctx context.Context, name room.Name) (position uint64, err error) {
	if err := sleep(ctx, s.config.Read); err != nil {
		return 0, err
	}
	return s.Bus.Last(ctx, name)
}

// Subscribe subscribes to the wrapped bus and delays each call of h.
func (s *SlowBus) Subscribe(topic room.Name, h backplane.Handler) (cancel func(), err error) {
	if s.config.Deliver <= 0 {
		return s.Bus.Subscribe(topic, h)
	}
	sub := &slowSubscription{calls: make(chan slowCall, 1024)}
	sub.ctx, sub.end = context.WithCancel(context.Background())
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, backplane.ErrClosed
	}
	inner, err := s.Bus.Subscribe(topic, sub.handler(h, s.config.Deliver))
	if err != nil {
		return nil, err
	}
	s.subs[sub] = struct{}{}
	s.running.Go(sub.run) // ends with cancel or Close
	return func() {
		inner()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.endLocked(sub)
	}, nil
}

// endLocked ends a subscription. Calling it again is a no-op.
func (s *SlowBus) endLocked(sub *slowSubscription) {
	if _, ok := s.subs[sub]; ok {
		delete(s.subs, sub)
		sub.end()
	}
}

// Close closes the wrapped bus and waits for running calls of handlers.
func (s *SlowBus) Close() {
	s.mu.Lock()
	s.closed = true
	for sub := range s.subs {
		s.endLocked(sub)
	}
	s.mu.Unlock()
	s.Bus.Close()
	s.running.Wait()
}

// every counts the calls and reports whether this call is an n-th one. If n is 0, it returns false.
func every(n int, calls *atomic.Uint64) bool {
	return n > 0 && calls.Add(1)%uint64(n) == 0
}
