package nats

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"example.com/presence/pkg/presence/backplane"
)

const (
	// maxRows is the maximum number of rows in the table.
	maxRows = 100_000
	// markerTime is how long the server keeps the marker of a row that was deleted or has expired.
	// A node that was not connected for longer finds the deletion when it reads the table again.
	markerTime = time.Minute
)

// table is this node's copy of the rows in the bucket. One goroutine at a time feeds it.
type table struct {
	mu       sync.Mutex // guards the fields below
	rows     map[string]backplane.Row
	watchers map[*watcher]struct{}
	revision uint64        // of the newest change in rows
	changed  chan struct{} // closed and replaced at each change of revision
}

func newTable() *table {
	return &table{rows: map[string]backplane.Row{}, watchers: map[*watcher]struct{}{}, changed: make(chan struct{})}
}

// watcher is the function of one call of Watch.
type watcher struct {
	ended atomic.Bool
	mu    sync.Mutex // held while f is called
	f     func(backplane.Row)
}

func (w *watcher) callLocked(rows ...backplane.Row) {
	for _, r := range rows {
		if !w.ended.Load() {
			w.f(r)
		}
	}
}

// apply changes the copy, and calls the watchers. The row is nil if the key was deleted.
func (t *table) apply(key string, row *backplane.Row, revision uint64) {
	t.mu.Lock()
	_, there := t.rows[key]
	change := backplane.Row{Key: key, Deleted: true}
	if row != nil {
		t.rows[key], change = *row, *row
	} else {
		delete(t.rows, key)
	}
	var ws []*watcher
	if row != nil || there {
		ws = t.watchersLocked()
	}
	t.reachLocked(revision)
	t.mu.Unlock()
	for _, w := range ws {
		w.mu.Lock()
		w.callLocked(change)
		w.mu.Unlock()
	}
}

func (t *table) watchersLocked() (ws []*watcher) {
	for w := range t.watchers {
		ws = append(ws, w)
	}
	return ws
}

func (t *table) reachLocked(revision uint64) {
	if revision > t.revision {
		t.revision = revision
		close(t.changed)
		t.changed = make(chan struct{})
	}
}

// retain deletes all rows but those with the given keys.
func (t *table) retain(keys map[string]bool, revision uint64) {
	t.mu.Lock()
	var gone []string
	for key := range t.rows {
		if !keys[key] {
			gone = append(gone, key)
		}
	}
	t.mu.Unlock()
	for _, key := range gone {
		t.apply(key, nil, 0)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.revision > revision { // the bucket was created anew
		t.revision = 0
	}
	t.reachLocked(revision)
}

func (t *table) reached() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.revision
}

// isFull reports whether a new key is one too many.
func (t *table) isFull(key string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, there := t.rows[key]
	return !there && len(t.rows) >= maxRows
}

// await waits until the copy has reached a revision.
func (t *table) await(ctx context.Context, revision uint64) bool {
	for {
		t.mu.Lock()
		done, changed := t.revision >= revision, t.changed
		t.mu.Unlock()
		if done {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// watch calls f with all rows of the copy, and then with each change until cancel.
func (t *table) watch(f func(backplane.Row)) (cancel func()) {
	w := &watcher{f: f}
	w.mu.Lock()
	defer w.mu.Unlock()
	t.mu.Lock()
	t.watchers[w] = struct{}{}
	rows := make([]backplane.Row, 0, len(t.rows))
	for _, r := range t.rows {
		rows = append(rows, r)
	}
	t.mu.Unlock()
	w.callLocked(rows...)
	return func() {
		w.ended.Store(true)
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.watchers, w)
	}
}
