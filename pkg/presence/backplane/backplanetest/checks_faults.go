package backplanetest

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/room"
)

var epochForm = regexp.MustCompile(`^[0-9a-f]{10}$`)

// checkStatus checks that all nodes are connected and report the same epoch.
func checkStatus(e *env) {
	want := e.node(0).Status()
	if !epochForm.MatchString(want.Epoch) || !want.Connected {
		e.errorf("Status: got %+v, want an epoch of ten hex digits, connected", want)
	}
	for i := range e.Nodes {
		if got := e.node(i).Status(); got != want {
			e.errorf("Status of node %d: got %+v, want %+v", i, got, want)
		}
	}
}

// checkDrop checks that Lost is called after a loss, and that the log contains the lost entries.
func checkDrop(e *env) {
	r := e.subscribe(0, "a")
	e.awaitLog(0, "a", r)
	before := e.append(0, "a", "before")
	e.await(func() bool { return hasAll(r.positions(), []uint64{before}) }, "the first entry")
	all := []uint64{before}
	e.Drop(func() {
		for n := range 3 {
			ctx, cancel := context.WithTimeout(e.ctx, callTime)
			position, _, err := e.node(n+1).Append(ctx, "a", e.newKey(), []byte("lost"))
			if err == nil {
				all = append(all, position)
			}
			e.node(n+1).Publish(ctx, "a", []byte("lost"))
			cancel()
		}
	})
	e.await(func() bool { return r.lost > 0 }, "a call of Lost")
	var after uint64
	e.locked(func() { after = r.entries[len(r.entries)-1].Position })
	entries, complete := e.read(0, "a", after)
	if !complete || !hasAll(append([]uint64{before}, positions(entries)...), all) {
		e.errorf("Read after Lost: got %d, complete %v, want all of %d, complete", positions(entries), complete, all)
	}
	e.awaitLog(1, "a", r)
	e.awaitRoutes([]*recorder{r}, "a")
	last := e.append(1, "a", "after")
	e.publish(1, "a", "after")
	e.await(func() bool { return hasAll(r.positions(), []uint64{last}) && r.count("after") == 1 }, "the entry and the message after Drop")
	e.locked(func() {
		if n := r.count("lost"); n > 3 {
			e.errorf("received %d copies of 3 messages", n)
		}
	})
}

// checkRecreate checks that a recreated log has a new epoch, and contains no entry or key of the
// old log.
func checkRecreate(e *env) {
	rs := e.subscribeAll("a")
	e.awaitLog(0, "a", rs...)
	old := e.node(0).Status().Epoch
	var notified []backplane.Status // guarded by e.mu
	cancel := e.node(0).Notify(func(s backplane.Status) { e.record(func() { notified = append(notified, s) }) })
	defer cancel()
	for range 2 {
		if _, _, err := e.appendKey(0, "a", "key", "old"); err != nil {
			e.fatalf("Append: %v", err)
		}
	}
	e.append(0, "unsubscribed", "old")
	for _, r := range rs {
		e.await(func() bool { return len(r.entries) == 1 }, "%s: the entry", r.name)
	}
	e.Recreate()
	for _, r := range rs {
		e.await(func() bool { return r.lost > 0 && r.epoch != old }, "%s: a call of Lost in the new epoch", r.name)
	}
	e.await(func() bool {
		return len(notified) > 0 && notified[len(notified)-1].Epoch != old && notified[len(notified)-1].Connected
	}, "a notification of the new epoch")
	checkStatus(e)
	for _, name := range []room.Name{"a", "unsubscribed"} {
		if entries, _ := e.read(0, name, 0); len(entries) > 0 {
			e.errorf("room %s has %d entries of the old epoch", name, len(entries))
		}
	}
	if _, duplicate, err := e.appendKey(0, "a", "key", "new"); err != nil || duplicate {
		e.errorf("a key of the old epoch: duplicate %v, error %v", duplicate, err)
	}
	for i, r := range rs {
		e.await(func() bool { return len(r.entries) > 1 && string(r.entries[len(r.entries)-1].Data) == "new" }, "%s: the new entry", r.name)
		if entries, complete := e.read(i, "a", 0); len(entries) != 1 || !complete {
			e.errorf("Read of the new log: got %d entries, complete %v, want 1, complete", len(entries), complete)
		}
	}
}

// checkContext checks that a call has no effect if its ctx has ended, and that it returns the cause
// of ctx. Ask returns nil.
func checkContext(e *env) {
	r := e.subscribe(0, "a")
	cause := errors.New("the cause")
	ctx, cancel := context.WithCancelCause(e.ctx)
	cancel(cause)
	b := e.node(0)
	_, _, appended := b.Append(ctx, "a", "", nil)
	_, _, read := b.Read(ctx, "a", 0)
	_, last := b.Last(ctx, "a")
	for name, err := range map[string]error{
		"Append": appended, "Read": read, "Last": last, "Clear": b.Clear(ctx, "a"), "Publish": b.Publish(ctx, "a", nil),
		"Put": b.Put(ctx, "k", nil, 1e9), "Delete": b.Delete(ctx, "k"),
	} {
		if !errors.Is(err, cause) {
			e.errorf("%s after its ctx has ended: got %v, want the cause of ctx", name, err)
		}
	}
	if err := b.Ask(ctx, "a", nil, func([]byte) bool { return true }); err != nil {
		e.errorf("Ask after its ctx has ended: got %v, want nil", err)
	}
	e.settle()
	e.locked(func() {
		if r.calls > 0 {
			e.errorf("got %d calls of a subscription after ctx has ended, want 0", r.calls)
		}
	})
}

// checkClose checks that a closed handle rejects calls and calls no handler, and that the other
// handles still work.
func checkClose(e *env) {
	b := e.node(0)
	rs := e.subscribeAll("a")
	w := e.watch(0)
	b.Close()
	b.Close()
	_, _, appended := b.Append(e.ctx, "a", "", nil)
	_, _, read := b.Read(e.ctx, "a", 0)
	_, last := b.Last(e.ctx, "a")
	_, subscribed := b.Subscribe("a", backplane.Handler{})
	_, watched := b.Watch(func(backplane.Row) {})
	for name, err := range map[string]error{
		"Append": appended, "Read": read, "Last": last, "Clear": b.Clear(e.ctx, "a"), "Publish": b.Publish(e.ctx, "a", nil),
		"Put": b.Put(e.ctx, "k", nil, 1e9), "Delete": b.Delete(e.ctx, "k"), "Subscribe": subscribed, "Watch": watched,
		"Ask": b.Ask(e.ctx, "a", nil, func([]byte) bool { return true }),
	} {
		if !errors.Is(err, backplane.ErrClosed) {
			e.errorf("%s after Close: got %v, want ErrClosed", name, err)
		}
	}
	b.Notify(func(backplane.Status) {})()
	rest := slices.IndexFunc(e.Nodes, func(other backplane.Bus) bool { return other != b })
	if rest >= 0 {
		e.awaitLog(rest, "a", rs[rest])
		e.append(rest, "a", "rest")
		e.put(rest, "k", "1", 1e9)
		e.await(func() bool { return len(rs[rest].entries) == 1 }, "%s: an entry after another handle was closed", rs[rest].name)
	}
	e.settle()
	e.locked(func() {
		if rs[0].calls > 0 || len(w.rows) > 0 {
			e.errorf("calls after Close: %s", fmt.Sprint(rs[0].calls, w.rows))
		}
	})
	w.cancel()
}
