package backplanetest

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/room"
)

// SlowConfig holds the faults of a [SlowBus]. The zero value has none.
type SlowConfig struct {
	Append  time.Duration // Delay before the engine accepts a message.
	Answer  time.Duration // Delay between acceptance and the return of Append.
	Read    time.Duration // Delay of Read and Last.
	Deliver time.Duration // Delay of each call of a Handler. The calls keep their order.

	LoseAnswers int // Every n-th Append is accepted but returns ErrUnavailable. 0: none.
	FailReads   int // Every n-th Read returns ErrUnavailable. 0: none.
}

// SlowBus is a bus whose calls are slow or fail. All methods are safe for concurrent use.
type SlowBus struct {
	backplane.Bus
	config SlowConfig

	appends, reads         atomic.Uint64
	loseAnswers, failReads atomic.Int64 // number of next calls that fail

	running sync.WaitGroup // the goroutines of subscriptions
	mu      sync.Mutex     // guards subs and closed
	subs    map[*slowSubscription]struct{}
	closed  bool
}

// Slow returns a slow bus over b. Close closes b.
func Slow(b backplane.Bus, c SlowConfig) *SlowBus {
	return &SlowBus{Bus: b, config: c, subs: map[*slowSubscription]struct{}{}}
}

// LoseAnswers makes the next n Appends accept their messages but return ErrUnavailable.
func (s *SlowBus) LoseAnswers(n int) { s.loseAnswers.Store(int64(n)) }

// FailReads makes the next n Reads return ErrUnavailable.
func (s *SlowBus) FailReads(n int) { s.failReads.Store(int64(n)) }

// Append adds the message to the bus below after a delay. It may lose the answer.
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

// Read reads the bus below after a delay, or fails.
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

// Last calls Last of the bus below after a delay.
func (s *SlowBus) Last(ctx context.Context, name room.Name) (position uint64, err error) {
	if err := sleep(ctx, s.config.Read); err != nil {
		return 0, err
	}
	return s.Bus.Last(ctx, name)
}

// Subscribe subscribes to the bus below and delays each call of h.
func (s *SlowBus) Subscribe(topic room.Name, h backplane.Handler) (cancel func(), err error) {
	if s.config.Deliver <= 0 {
		return s.Bus.Subscribe(topic, h)
	}
	sub := &slowSubscription{calls: make(chan slowCall, 1024), ended: make(chan struct{})}
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

// endLocked ends a subscription. A second call does nothing.
func (s *SlowBus) endLocked(sub *slowSubscription) {
	if _, ok := s.subs[sub]; ok {
		delete(s.subs, sub)
		close(sub.ended)
	}
}

// Close closes the bus below and waits for the calls of handlers that have begun.
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

// every counts the call in calls and reports whether it is every n-th one. n = 0 means never.
func every(n int, calls *atomic.Uint64) bool {
	return n > 0 && calls.Add(1)%uint64(n) == 0
}

// sleep waits for d. If ctx ends first, it returns its cause.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 && ctx.Err() == nil {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
