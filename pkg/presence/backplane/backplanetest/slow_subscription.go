package backplanetest

import (
	"time"

	"example.com/presence/pkg/presence/backplane"
)

// slowSubscription delays the calls of one handler. Its run method makes all calls on one
// goroutine.
type slowSubscription struct {
	calls chan slowCall
	ended chan struct{}
}

type slowCall struct {
	at time.Time
	f  func()
}

// handler returns a Handler that delays each call of h.
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

// run makes each call when its delay has passed. It returns when the subscription ends.
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
