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
	// slack is the number of rows above maxRows that the copy may have. Several calls of Put, also
	// on several nodes, can find space for one more row at the same time. The copy must have each
	// row that was stored.
	slack = 1000
	// markerTime is how long the server keeps the marker of a row that was deleted or has expired.
	// A node that was not connected for longer finds the deletion when it reads the table again.
	markerTime = time.Minute
)

// table is this node's copy of the rows in the bucket. NATS republishes each change. When a change
// may be missing, the node loads all rows.
type table struct {
	turn sync.Mutex // held during a change and its calls of the watchers; acquired before mu

	mu       sync.Mutex // guards the fields below
	rows     map[string]tableRow
	watchers map[*watcher]struct{}
	loading  bool          // deleted rows stay in rows, so that the load does not add them again
	revision uint64        // of the newest change in rows
	changed  chan struct{} // closed and replaced at each change of revision
}

// tableRow is a row, or a deleted one during a load.
type tableRow struct {
	backplane.Row
	revision uint64 // sequence number of the change in the bucket
}

func newTable() *table {
	return &table{rows: map[string]tableRow{}, watchers: map[*watcher]struct{}{}, changed: make(chan struct{})}
}

// watcher is the function of one call of Watch.
type watcher struct {
	ended atomic.Bool
	f     func(backplane.Row)
}

func (w *watcher) call(rows ...backplane.Row) {
	for _, r := range rows {
		if !w.ended.Load() {
			w.f(r)
		}
	}
}

// apply changes the copy, and calls the watchers. It ignores a change that is older than the row.
func (t *table) apply(r tableRow) {
	t.turn.Lock()
	defer t.turn.Unlock()
	t.mu.Lock()
	old, there := t.rows[r.Key]
	isNew := there && r.revision > old.revision || !there && len(t.rows) < maxRows+slack
	switch {
	case !isNew:
	case r.Deleted && !t.loading:
		delete(t.rows, r.Key)
	default:
		t.rows[r.Key] = r
	}
	t.reachLocked(r.revision)
	ws := t.watchersLocked()
	t.mu.Unlock()
	if isNew && (!r.Deleted || there && !old.Deleted) {
		for _, w := range ws {
			w.call(r.Row)
		}
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

// begin begins a load. recreated reports that the bucket is another one, whose revisions began
// again.
func (t *table) begin(recreated bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.loading = true
	if recreated {
		t.revision = 0
		for key, r := range t.rows {
			r.revision = 0
			t.rows[key] = r
		}
	}
}

// end ends a load that has found these keys. Other rows up to the revision were deleted.
func (t *table) end(keys map[string]bool, revision uint64) {
	t.mu.Lock()
	var gone []tableRow
	for key, r := range t.rows {
		if !keys[key] && r.revision <= revision {
			gone = append(gone, tableRow{backplane.Row{Key: key, Deleted: true}, r.revision})
		}
	}
	t.mu.Unlock()
	for _, r := range gone {
		t.remove(r)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stopLocked()
	t.reachLocked(revision)
}

// stop ends a load that may have failed.
func (t *table) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stopLocked()
}

func (t *table) stopLocked() {
	t.loading = false
	for key, r := range t.rows {
		if r.Deleted {
			delete(t.rows, key)
		}
	}
}

// remove deletes a row if it has not changed since.
func (t *table) remove(r tableRow) {
	t.turn.Lock()
	defer t.turn.Unlock()
	t.mu.Lock()
	old, there := t.rows[r.Key]
	there = there && old.revision == r.revision
	if there {
		delete(t.rows, r.Key)
	}
	ws := t.watchersLocked()
	t.mu.Unlock()
	if there && !old.Deleted {
		for _, w := range ws {
			w.call(r.Row)
		}
	}
}

// reached returns the revision of the newest change.
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
	t.turn.Lock()
	defer t.turn.Unlock()
	w := &watcher{f: f}
	t.mu.Lock()
	t.watchers[w] = struct{}{}
	rows := make([]backplane.Row, 0, len(t.rows))
	for _, r := range t.rows {
		if !r.Deleted {
			rows = append(rows, r.Row)
		}
	}
	t.mu.Unlock()
	w.call(rows...)
	return func() {
		w.ended.Store(true)
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.watchers, w)
	}
}
