package backplanetest

import (
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/room"
)

// slowSubscription delays the calls of one handler. Its goroutine makes them.
type slowSubscription struct {
	calls chan slowCall
	ended chan struct{}
}

type slowCall struct {
	at time.Time
	f  func()
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

// endLocked ends a subscription; a second time it does nothing.
func (s *SlowBus) endLocked(sub *slowSubscription) {
	if _, ok := s.subs[sub]; ok {
		delete(s.subs, sub)
		close(sub.ended)
	}
}

// Close closes the bus below, and waits for the calls of handlers that have begun.
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

// handler returns h with its calls delayed.
func (sub *slowSubscription) handler(h backplane.Handler, delay time.Duration) backplane.Handler {
	later := func(f func()) {
		select {
		case sub.calls <- slowCall{time.Now().Add(delay), f}:
		case <-sub.ended:
		}
	}
	var slow backplane.Handler
	if h.Entry != nil {
		slow.Entry = func(e backplane.Entry) { later(func() { h.Entry(e) }) }
	}
	if h.Message != nil {
		slow.Message = func(data []byte) { later(func() { h.Message(data) }) }
	}
	if h.Lost != nil {
		slow.Lost = func() { later(h.Lost) }
	}
	if h.Ask != nil {
		slow.Ask = func(request []byte) []byte {
			answer := make(chan []byte, 1)
			later(func() { answer <- h.Ask(request) })
			select {
			case a := <-answer:
				return a
			case <-sub.ended:
				return nil
			}
		}
	}
	return slow
}

// run makes the calls, each at its time.
func (sub *slowSubscription) run() {
	for {
		select {
		case c := <-sub.calls:
			timer := time.NewTimer(time.Until(c.at))
			select {
			case <-timer.C:
			case <-sub.ended:
				timer.Stop()
				return
			}
			select {
			case <-sub.ended:
				return
			default:
				c.f()
			}
		case <-sub.ended:
			return
		}
	}
}
