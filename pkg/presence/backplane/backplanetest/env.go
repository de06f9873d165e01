package backplanetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/room"
)

const (
	arrival   = 10 * time.Second // maximum wait for an expected event
	callTime  = 5 * time.Second  // timeout of one call
	retryTime = 200 * time.Millisecond
	tries     = 10 // maximum attempts per call, because calls may fail
)

// check tests one part of the contract.
type check struct {
	name string
	run  func(e *env)
}

// env is the environment of a check: the engine under test, and helpers that retry calls where the
// contract allows failures. Its methods must be called on the goroutine of the check, except those
// of recorders and those whose comment allows any goroutine.
type env struct {
	Engine
	recorders
	ctx      context.Context
	failures []string
	subs     []*recorder
	keys     atomic.Uint64
}

// failed is the panic value that stops a check after a fatal failure.
type failed struct{}

// try runs the check against an engine and returns the failures.
func (c check) try(ctx context.Context, engine Engine) []string {
	if engine.Settle == 0 {
		engine.Settle = 250 * time.Millisecond
	}
	e := &env{Engine: engine, ctx: ctx}
	e.changed = make(chan struct{})
	func() {
		defer func() {
			if r := recover(); r != nil && r != (failed{}) {
				panic(r)
			}
		}()
		switch {
		case len(e.Nodes) == 0:
			e.fatalf("Engine.Nodes is empty")
		case e.Messages < 5 || e.Messages > 100:
			e.fatalf("Engine.Messages is %d, want 5 to 100", e.Messages)
		case e.Recreate == nil || e.Drop == nil:
			e.fatalf("Engine.Recreate and Engine.Drop are required")
		}
		c.run(e)
		e.settle()
	}()
	for _, r := range e.subs {
		r.cancel()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return append(e.failures, e.faults...)
}

func (e *env) errorf(format string, args ...any) {
	e.failures = append(e.failures, fmt.Sprintf(format, args...))
}

func (e *env) fatalf(format string, args ...any) {
	e.errorf(format, args...)
	panic(failed{})
}

// settle waits long enough for unexpected calls to arrive.
func (e *env) settle() { time.Sleep(e.Settle) }

// await waits until cond is true. If this takes longer than arrival, it stops the check with a
// failure. It calls cond with the lock held.
func (e *env) await(cond func() bool, format string, args ...any) {
	if !e.wait(arrival, cond) {
		e.fatalf("timeout after %v waiting for "+format, append([]any{arrival}, args...)...)
	}
}

// locked calls f with the recorders' lock held.
func (e *env) locked(f func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f()
}

func (e *env) node(i int) backplane.Bus { return e.Nodes[i%len(e.Nodes)] }

// subscribe subscribes node i to a topic and records the calls of the subscription.
func (e *env) subscribe(i int, topic room.Name) *recorder { return e.subscribeAsk(i, topic, nil) }

func (e *env) subscribeAsk(i int, topic room.Name, ask func([]byte) []byte) *recorder {
	r := &recorder{all: &e.recorders, bus: e.node(i), name: fmt.Sprintf("node %d, topic %q", i, topic), probed: map[string]bool{}}
	r.epoch = r.bus.Status().Epoch
	cancel, err := e.node(i).Subscribe(topic, r.handler(ask))
	if err != nil {
		e.fatalf("Subscribe: %v", err)
	}
	r.cancel = cancel
	e.subs = append(e.subs, r)
	return r
}

// subscribeAll subscribes every node to a topic and returns one recorder per node.
func (e *env) subscribeAll(topic room.Name) (rs []*recorder) {
	for i := range e.Nodes {
		rs = append(rs, e.subscribe(i, topic))
	}
	return rs
}

// try calls f until it succeeds. After the maximum number of attempts, it stops the check with a
// failure.
func (e *env) try(name string, f func(ctx context.Context) error) {
	if err := e.attempt(f); err != nil {
		e.fatalf("%s: %v", name, err)
	}
}

// attempt is like try, but returns the last error instead of stopping the check. It does not retry
// after ErrClosed. It may be called on any goroutine. Between two attempts it waits for retryTime:
// an engine without contact fails at once.
func (e *env) attempt(f func(ctx context.Context) error) (err error) {
	for range tries {
		ctx, cancel := context.WithTimeout(e.ctx, callTime)
		err = f(ctx)
		cancel()
		if err == nil || errors.Is(err, backplane.ErrClosed) {
			return err
		}
		select {
		case <-time.After(retryTime):
		case <-e.ctx.Done():
			return err
		}
	}
	return err
}

// append adds a message with a new key and returns its position.
func (e *env) append(i int, name room.Name, data string) (position uint64) {
	position, duplicate, err := e.appendKey(i, name, e.newKey(), data)
	switch {
	case err != nil:
		e.fatalf("Append to %s: %v", name, err)
	case duplicate:
		e.errorf("Append to %s with a new key: duplicate", name)
	}
	return position
}

// newKey returns an unused idempotency key. It may be called on any goroutine.
func (e *env) newKey() string { return fmt.Sprint("key-", e.keys.Add(1)) }

// appendKey adds a message. It may be called on any goroutine. duplicate is true only if the first
// attempt reports a duplicate, because a later attempt may duplicate an earlier one that returned
// an error.
func (e *env) appendKey(i int, name room.Name, key, data string) (position uint64, duplicate bool, err error) {
	first := true
	err = e.attempt(func(ctx context.Context) (err error) {
		position, duplicate, err = e.node(i).Append(ctx, name, key, []byte(data))
		if err != nil {
			first = false
		}
		return err
	})
	return position, duplicate && first, err
}

func (e *env) read(i int, name room.Name, after uint64) (entries []backplane.Entry, complete bool) {
	e.try("Read", func(ctx context.Context) (err error) {
		entries, complete, err = e.node(i).Read(ctx, name, after)
		return err
	})
	return slices.DeleteFunc(entries, isProbe), complete
}

func (e *env) last(i int, name room.Name) (position uint64) {
	e.try("Last", func(ctx context.Context) (err error) {
		position, err = e.node(i).Last(ctx, name)
		return err
	})
	return position
}

func (e *env) publish(i int, topic room.Name, data string) {
	e.try("Publish", func(ctx context.Context) error { return e.node(i).Publish(ctx, topic, []byte(data)) })
}

func (e *env) put(i int, key, value string, ttl time.Duration) {
	e.try("Put", func(ctx context.Context) error { return e.node(i).Put(ctx, key, []byte(value), ttl) })
}

// receive waits for a value. If none arrives within arrival, it stops the check with a failure.
func (e *env) receive(c <-chan error, name string) error {
	timeout := time.NewTimer(arrival)
	defer timeout.Stop()
	select {
	case err := <-c:
		return err
	case <-timeout.C:
		e.fatalf("timeout after %v waiting for %s", arrival, name)
		return nil
	}
}

func (e *env) sleep(d time.Duration) { time.Sleep(d) }

// clear returns a function for try that calls Clear.
func (e *env) clear(name room.Name) func(context.Context) error {
	return func(ctx context.Context) error { return e.node(0).Clear(ctx, name) }
}
