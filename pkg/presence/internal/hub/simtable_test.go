package hub_test

import (
	"context"
	"errors"
	"time"

	"example.com/presence/pkg/presence/backplane"
)

// simTable contains the rows of the engine.
type simTable struct{ rows map[string]*simRow }

type simRow struct {
	value   []byte
	expires time.Time // by the time of the bubble
}

// simWatcher is a call of Watch. The mutex of the engine guards all fields.
type simWatcher struct {
	simReceiver
	f      func(backplane.Row)
	loaded bool                 // the existing rows have been sent
	start  time.Time            // when they arrive; no later change arrives before
	last   map[string]time.Time // when the last change of each key arrives; has every key sent so far
}

var errSimTTL = errors.New("time to live is not positive")

func (b *simBus) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	if ttl <= 0 {
		return errSimTTL
	}
	e := b.engine
	_, err := simAnswer(ctx, b, nil, func(simPlan) (none struct{}) {
		row := &simRow{value: value, expires: time.Now().Add(ttl)}
		e.setRowLocked(key, row)
		e.inLocked(ttl, func() {
			if e.table.rows[key] == row {
				e.setRowLocked(key, nil)
			}
		})
		return none
	})
	return err
}

func (b *simBus) Delete(ctx context.Context, key string) error {
	_, err := simAnswer(ctx, b, nil, func(simPlan) (none struct{}) {
		if b.engine.table.rows[key] != nil {
			b.engine.setRowLocked(key, nil)
		}
		return none
	})
	return err
}

// setRowLocked changes a row, or deletes it if row is nil, and sends it to all watchers.
func (e *simEngine) setRowLocked(key string, row *simRow) {
	if row == nil {
		delete(e.table.rows, key)
	} else {
		e.table.rows[key] = row
	}
	for _, b := range e.buses {
		for _, w := range b.watchers {
			if w.loaded && !b.cutOff {
				w.sendLocked(key, row)
			}
		}
	}
}

// sendLocked sends a row or its deletion to one watcher, behind all earlier changes of the key.
func (w *simWatcher) sendLocked(key string, row *simRow) {
	e := w.bus.engine
	at := time.Now().Add(e.delayLocked(e.dice) + between(e.dice, 0, e.faults.tableLag))
	for _, earlier := range []time.Time{w.start, w.last[key]} {
		if at.Before(earlier) {
			at = earlier
		}
	}
	w.last[key] = e.atLocked(at, &simEvent{bus: w.bus, run: func() { w.callLocked(key, row) }})
}

func (w *simWatcher) callLocked(key string, row *simRow) {
	r := backplane.Row{Key: key, Deleted: row == nil}
	if row != nil {
		r.Value, r.Expires = row.value, row.expires.Add(w.bus.clock.ahead())
	}
	w.bus.engine.callLocked(&w.simReceiver, func() { w.f(r) })
}

// repeatLocked sends the last state of each key.
func (w *simWatcher) repeatLocked() {
	rows := w.bus.engine.table.rows
	for _, key := range sortedKeys(rows) {
		w.sendLocked(key, rows[key])
	}
	for _, key := range sortedKeys(w.last) {
		if rows[key] == nil {
			w.sendLocked(key, nil)
		}
	}
}

// loadLocked returns a function that calls the watcher with every row that exists now.
func (w *simWatcher) loadLocked() (call func()) {
	rows := map[string]*simRow{}
	for key, row := range w.bus.engine.table.rows {
		rows[key] = row
		w.last[key] = time.Time{}
	}
	w.loaded = true
	return func() {
		for _, key := range sortedKeys(rows) {
			w.callLocked(key, rows[key])
		}
	}
}

// Watch calls f with every row before it returns. If the node is cut off, Watch returns without
// that, and f receives the rows at the end of the cut.
func (b *simBus) Watch(f func(backplane.Row)) (cancel func(), err error) {
	if err := b.enter(context.Background()); err != nil {
		return nil, err
	}
	e, loaded := b.engine, make(chan struct{})
	w := &simWatcher{simReceiver: simReceiver{bus: b}, f: f, last: map[string]time.Time{}}
	b.watchers = append(b.watchers, w)
	done := func() { close(loaded) }
	request := func() {
		if b.cutOff || w.loaded { // mend has loaded it, or does so later
			b.failLocked(done)
			return
		}
		call := w.loadLocked()
		w.start = b.toNodeLocked(e.delayLocked(e.dice), &simEvent{
			run: func() {
				call()
				e.callLocked(nil, done)
			},
			lost: func() {
				w.loaded = false
				b.failLocked(done)
			},
		})
	}
	if b.cutOff {
		done()
	} else {
		e.inLocked(e.delayLocked(b.dice), request)
	}
	e.mu.Unlock()
	select {
	case <-loaded:
	case <-b.done:
		return nil, backplane.ErrClosed
	}
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		w.ended = true
		b.watchers = without(b.watchers, w)
	}, nil
}
