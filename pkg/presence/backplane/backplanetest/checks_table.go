package backplanetest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"example.com/presence/pkg/presence/backplane"
)

// watcher records the rows that Watch delivers.
type watcher struct {
	rows   []backplane.Row // guarded by env.mu
	cancel func()
}

func (e *env) watch(i int) *watcher {
	w := &watcher{}
	running := false
	cancel, err := e.node(i).Watch(func(r backplane.Row) {
		e.record(func() {
			if running {
				e.faults = append(e.faults, "two calls of a watcher overlap")
			}
			running = true
		})
		e.node(i).Status() // allowed within a call
		e.record(func() {
			w.rows = append(w.rows, r)
			running = false
		})
	})
	if err != nil {
		e.fatalf("Watch: %v", err)
	}
	w.cancel = cancel
	return w
}

// of returns the values that the watcher received for a key, with "-" for a deletion, such as "1 2
// -". The caller must hold the lock.
func (w *watcher) of(key string) string {
	var words []string
	for _, r := range w.rows {
		switch {
		case r.Key != key:
		case r.Deleted:
			words = append(words, "-")
		default:
			words = append(words, string(r.Value))
		}
	}
	return strings.Join(words, " ")
}

// checkTable checks that Watch delivers every existing row before it returns, and each change after
// that.
func checkTable(e *env) {
	for n := range 20 {
		e.put(n, fmt.Sprint("key ", n), "1", time.Hour)
	}
	e.settle() // until the other nodes have received the rows
	var ws []*watcher
	for i := range e.Nodes {
		w := e.watch(i)
		e.locked(func() {
			for n := range 20 {
				if got := w.of(fmt.Sprint("key ", n)); got != "1" {
					e.errorf("key %d when Watch has returned: got %q, want 1", n, got)
				}
			}
			for _, r := range w.rows {
				if d := time.Until(r.Expires); !r.Deleted && (d < 50*time.Minute || d > 70*time.Minute) {
					e.errorf("row %q expires in %v, want an hour", r.Key, d)
				}
			}
		})
		ws = append(ws, w)
	}
	e.put(0, "key 0", "2", time.Hour)
	e.put(0, "new.*> \x00é", "1", time.Hour)
	for _, key := range []string{"key 1", "absent"} {
		e.try("Delete", func(ctx context.Context) error { return e.node(1).Delete(ctx, key) })
	}
	e.put(0, "key 0", "3", time.Hour)
	for i, w := range ws {
		for key, want := range map[string]string{"key 0": "1 2 3", "new.*> \x00é": "1", "key 1": "1 -", "key 2": "1"} {
			e.await(func() bool { return w.of(key) == want }, "node %d: key %q is %s", i, key, want)
		}
		w.cancel()
		w.cancel()
	}
	e.put(0, "key 3", "2", time.Hour)
	e.settle()
	e.locked(func() {
		for _, w := range ws {
			if got := w.of("key 3"); got != "1" {
				e.errorf("watcher after cancel: got %q, want 1", got)
			}
		}
	})
}

// checkExpiry checks that a row is deleted when its time to live ends, and that a later Put extends
// its time to live.
func checkExpiry(e *env) {
	var ws []*watcher
	for i := range e.Nodes {
		w := e.watch(i)
		defer w.cancel()
		ws = append(ws, w)
	}
	start := time.Now()
	e.put(0, "short", "1", 2*time.Second)
	e.put(0, "prolonged", "1", 2*time.Second)
	e.put(0, "prolonged", "2", time.Hour)
	for i, w := range ws {
		e.await(func() bool { return w.of("short") == "1 -" }, "node %d: the end of a row", i)
	}
	if d := time.Since(start); d < 2*time.Second-50*time.Millisecond || d > 5*time.Second {
		e.errorf("row with a time to live of 2s ended after %v", d)
	}
	e.settle()
	e.locked(func() {
		for i, w := range ws {
			if got := w.of("prolonged"); got != "1 2" {
				e.errorf("node %d: extended row: got %q, want %q", i, got, "1 2")
			}
		}
	})
	late := e.watch(0)
	defer late.cancel()
	e.locked(func() {
		if i := slices.IndexFunc(late.rows, func(r backplane.Row) bool { return r.Key == "short" && !r.Deleted }); i >= 0 {
			e.errorf("a new watcher received an expired row")
		}
	})
	if err := e.node(0).Put(e.ctx, "never", nil, 0); err == nil {
		e.errorf("Put with a time to live of 0: got no error")
	}
}
