package backplanetest

import (
	"context"
	"time"

	"example.com/presence/pkg/presence/backplane"
)

// slowSubscription delays the calls of one handler. Its run method makes all calls on one
// goroutine.
type slowSubscription struct {
	calls chan slowCall
	ctx   context.Context // ends with the subscription
	end   context.CancelFunc
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
		case <-sub.ctx.Done():
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
			case <-sub.ctx.Done():
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
			if sleep(sub.ctx, time.Until(c.at)) != nil || sub.ctx.Err() != nil {
				return
			}
			c.f()
		case <-sub.ctx.Done():
			return
		}
	}
}

// sleep waits for d. If ctx ends first, it returns the cause of ctx.
//
// It makes no timer that is due already. In a bubble of testing/synctest, a goroutine that receives
// from such a timer uses state of the race detector that the bubble may use at the same time. Then
// the test crashes in __sanitizer::StackDepotBase (Go 1.26).
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 || ctx.Err() != nil {
		return context.Cause(ctx)
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
