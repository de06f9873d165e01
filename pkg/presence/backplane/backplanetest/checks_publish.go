package backplanetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"example.com/presence/pkg/presence/backplane"
)

// checkPublish checks that each subscription of the topic receives each message once, in the order
// of its publisher, and that no other subscription receives it.
func checkPublish(e *env) {
	rs := append(e.subscribeAll("a"), e.subscribe(0, "a"))
	other, all := e.subscribe(0, "b"), e.subscribe(0, backplane.Nodes)
	e.awaitRoutes(rs, "a")
	const count = 50
	var publishers sync.WaitGroup
	errs := make([]error, len(e.Nodes))
	for i := range e.Nodes {
		publishers.Go(func() {
			for n := range count {
				errs[i] = e.attempt(func(ctx context.Context) error {
					return e.node(i).Publish(ctx, "a", fmt.Appendf(nil, "%d %03d", i, n))
				})
			}
		})
	}
	publishers.Wait()
	if i := slices.IndexFunc(errs, func(err error) bool { return err != nil }); i >= 0 {
		e.fatalf("Publish: %v", errs[i])
	}
	e.publish(0, backplane.Nodes, "to all")
	for _, r := range rs {
		e.await(func() bool { return len(r.messages) >= count*len(e.Nodes) }, "%s: all messages", r.name)
	}
	e.await(func() bool { return len(all.messages) > 0 }, "the message to all nodes")
	e.settle()
	e.locked(func() {
		for _, r := range rs {
			for i := range e.Nodes {
				e.checkPublisher(r, fmt.Sprint(i), count)
			}
		}
		if got := all.messages; !slices.Equal(got, []string{"to all"}) || len(other.messages) > 0 {
			e.errorf("other topics received %q and %q", got, other.messages)
		}
	})
}

// checkPublisher checks that r received the messages of one publisher once and in order.
func (e *env) checkPublisher(r *recorder, publisher string, count int) {
	n := 0
	for _, m := range r.messages {
		if m[:len(publisher)] != publisher {
			continue
		}
		if want := fmt.Sprintf("%s %03d", publisher, n); m != want {
			e.errorf("%s: got message %q, want %q", r.name, m, want)
			return
		}
		n++
	}
	if n != count {
		e.errorf("%s: got %d messages of publisher %s, want %d", r.name, n, publisher, count)
	}
}

// checkAsk checks that Ask returns one reply per subscription that answers, and that Ask stops when
// answer returns false.
func checkAsk(e *env) {
	answer := func(a string) func([]byte) []byte {
		return func(request []byte) []byte { return fmt.Append(nil, a, string(request)) }
	}
	var rs []*recorder
	for i := range e.Nodes {
		rs = append(rs, e.subscribeAsk(i, "a", answer(fmt.Sprint("node ", i))))
	}
	e.awaitRoutes(rs, "a")
	e.subscribeAsk(0, "a", func([]byte) []byte { return nil })
	e.subscribe(0, "a") // has no Handler.Ask, so it does not reply
	e.subscribeAsk(0, "b", answer("another room"))
	ask := func(request string, limit int) (got []string) {
		ctx, cancel := context.WithTimeout(e.ctx, 4*e.Settle)
		defer cancel()
		err := e.node(0).Ask(ctx, "a", []byte(request), func(data []byte) bool {
			got = append(got, string(data))
			return len(got) < limit
		})
		if err != nil {
			e.errorf("Ask: %v", err)
		}
		slices.Sort(got)
		return got
	}
	var want []string
	for i := range e.Nodes {
		want = append(want, fmt.Sprint("node ", i, "?"))
	}
	slices.Sort(want)
	if got := ask("?", 1000); !slices.Equal(got, want) {
		e.errorf("Ask: got %q, want %q", got, want)
	}
	if got := ask("?", 1); len(got) != 1 {
		e.errorf("Ask for one answer: got %q", got)
	}
	ctx, cancel := context.WithTimeout(e.ctx, e.Settle)
	defer cancel()
	err := e.node(0).Ask(ctx, "unsubscribed", nil, func([]byte) bool { return true })
	if err != nil && !errors.Is(err, backplane.ErrNoSubscription) {
		e.errorf("Ask of a topic without subscriptions: got %v, want nil or ErrNoSubscription", err)
	}
}

// checkAskTimeout checks that Ask returns nil when its ctx ends before a reply has arrived.
func checkAskTimeout(e *env) {
	release := make(chan struct{})
	defer close(release)
	r := e.subscribeAsk(len(e.Nodes)-1, "a", func([]byte) []byte { <-release; return nil })
	e.awaitRoutes([]*recorder{r}, "a")
	done := make(chan error, 2)
	ctx, cancel := context.WithTimeout(e.ctx, e.Settle)
	defer cancel()
	// The bus may run the handler on the goroutine of the first Ask, which then cannot return
	// before the handler does. Therefore the check needs a second Ask.
	go func() { done <- e.node(0).Ask(ctx, "a", nil, func([]byte) bool { return true }) }()
	e.await(func() bool { return r.asked > 0 }, "the request")
	go func() { done <- e.node(0).Ask(ctx, "a", nil, func([]byte) bool { return true }) }()
	if err := e.receive(done, "the return of Ask"); err != nil {
		e.errorf("Ask whose ctx has ended: got %v, want nil", err)
	}
}

// checkCancel checks that no call begins after cancel, and that cancel does not wait and may be
// called anywhere.
func checkCancel(e *env) {
	r, stays := e.subscribe(0, "a"), e.subscribe(0, "a")
	e.awaitLog(0, "a", r, stays)
	has := func(r *recorder, n int) bool { return len(r.messages) == n && len(r.entries) == n }
	e.publish(0, "a", "one")
	e.append(0, "a", "two")
	e.await(func() bool { return has(r, 1) && has(stays, 1) }, "a message and an entry")
	r.cancel()
	r.cancel()
	var calls int
	e.locked(func() { calls = r.calls })
	e.publish(0, "a", "three")
	e.append(0, "a", "four")
	e.await(func() bool { return has(stays, 2) }, "a message and an entry of the subscription that stays")
	e.settle()
	e.locked(func() {
		if r.calls != calls {
			e.errorf("got %d calls after cancel, want none", r.calls-calls)
		}
	})
	checkCancelWithin(e)
	checkCancelLocked(e)
}

// checkCancelWithin calls cancel from within the handler.
func checkCancelWithin(e *env) {
	var cancel func()
	ready, called := make(chan struct{}), make(chan error, 2)
	cancel, err := e.node(0).Subscribe("b", backplane.Handler{Message: func([]byte) {
		<-ready
		cancel()
		called <- nil
	}})
	if err != nil {
		e.fatalf("Subscribe: %v", err)
	}
	close(ready)
	e.publish(0, "b", "one")
	e.receive(called, "cancel within a call")
	e.publish(0, "b", "two")
	e.settle()
	if len(called) > 0 {
		e.errorf("got a call after cancel within a call, want none")
	}
}

// checkCancelLocked calls cancel while it holds a lock that a running handler waits for.
func checkCancelLocked(e *env) {
	var mu sync.Mutex
	begun, cancelled := make(chan error, 1), make(chan error, 1)
	cancel, err := e.node(0).Subscribe("c", backplane.Handler{Message: func([]byte) {
		begun <- nil
		mu.Lock()
		defer mu.Unlock()
	}})
	if err != nil {
		e.fatalf("Subscribe: %v", err)
	}
	mu.Lock()
	defer mu.Unlock()
	go e.node(0).Publish(e.ctx, "c", nil) // ends when mu is unlocked
	e.receive(begun, "a call")
	go func() { cancel(); cancelled <- nil }()
	e.receive(cancelled, "the return of cancel while a call waits for a lock")
}
