package backplanetest

import (
	"fmt"
	"math"
	"slices"
	"sync"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/room"
)

// checkAppend checks that every node receives every entry of the room once and in log order. Read
// and the positions that Append returns must have the same order.
func checkAppend(e *env) {
	rs := append(e.subscribeAll("a"), e.subscribe(0, "a"))
	other := e.subscribe(0, "b")
	e.awaitLog(0, "a", rs...)
	start := e.last(0, "a")
	var mu sync.Mutex // guards data
	data := map[uint64]string{}
	var errs []error
	var callers sync.WaitGroup
	for i := range 4 {
		callers.Go(func() {
			for n := range e.Messages / 5 {
				text := fmt.Sprint(i, " ", n)
				position, _, err := e.appendKey(i, "a", e.newKey(), text)
				mu.Lock()
				if data[position] != "" {
					err = fmt.Errorf("position %d was returned twice", position)
				}
				if data[position] = text; err != nil {
					errs = append(errs, err)
				}
				mu.Unlock()
			}
		})
	}
	callers.Wait()
	if len(errs) > 0 {
		e.fatalf("Append: %v", errs[0])
	}
	for _, r := range rs {
		e.await(func() bool { return len(r.entries) >= len(data) }, "%s: all entries", r.name)
	}
	e.settle()
	e.locked(func() {
		for _, r := range rs {
			e.checkEntries(r.name, r.entries, data)
		}
		if len(other.entries) > 0 {
			e.errorf("another room received %d entries, want 0", len(other.entries))
		}
	})
	for i := range e.Nodes {
		entries, complete := e.read(i, "a", start)
		if e.checkEntries("Read", entries, data); !complete {
			e.errorf("Read from the start is not complete")
		}
		if last := e.last(i, "a"); last != entries[len(entries)-1].Position {
			e.errorf("Last: got %d, want %d, the position of the newest entry", last, entries[len(entries)-1].Position)
		}
	}
}

// checkEntries checks that entries contains exactly the messages in data, in the order of their
// positions.
func (e *env) checkEntries(name string, entries []backplane.Entry, data map[uint64]string) {
	for i, entry := range entries {
		switch want, ok := data[entry.Position]; {
		case i > 0 && entry.Position <= entries[i-1].Position:
			e.errorf("%s: position %d follows %d", name, entry.Position, entries[i-1].Position)
		case !ok || want != string(entry.Data):
			e.errorf("%s: entry %d is %q, want %q", name, entry.Position, entry.Data, want)
		case entry.At.IsZero():
			e.errorf("%s: entry %d has no time", name, entry.Position)
		}
	}
	if len(entries) != len(data) {
		e.fatalf("%s: %d entries, want %d", name, len(entries), len(data))
	}
}

// checkKeys checks that a key identifies one message of its room on every node.
func checkKeys(e *env) {
	r := e.subscribe(0, "a")
	e.awaitLog(0, "a", r)
	first, _, err := e.appendKey(0, "a", "key", "first")
	if err != nil {
		e.fatalf("Append: %v", err)
	}
	for i := range e.Nodes {
		if position, duplicate, err := e.node(i).Append(e.ctx, "a", "key", []byte("again")); err == nil && (position != first || !duplicate) {
			e.errorf("repeated key: got position %d, duplicate %v, want %d, true", position, duplicate, first)
		}
	}
	if _, duplicate, err := e.appendKey(0, "b", "key", "another room"); err != nil || duplicate {
		e.errorf("the key in another room: got duplicate %v, error %v, want false, nil", duplicate, err)
	}
	if second := e.append(0, "a", "second"); second <= first {
		e.errorf("position %d follows %d", second, first)
	}
	got := make([]uint64, 8)
	var callers sync.WaitGroup
	for i := range got {
		callers.Go(func() { got[i], _, _ = e.appendKey(i, "a", "concurrent", "third") })
	}
	callers.Wait()
	for _, position := range got {
		if position != got[0] {
			e.errorf("concurrent Appends with one key: got positions %d, want the same for all", got)
			break
		}
	}
	end := e.append(0, "a", "end")
	e.await(func() bool { return hasAll(r.positions(), []uint64{end}) }, "the last entry")
	e.settle()
	entries, _ := e.read(0, "a", 0)
	e.locked(func() {
		for name, entries := range map[string][]backplane.Entry{"Read": entries, "delivered": r.entries} {
			var texts []string
			for _, entry := range entries {
				texts = append(texts, string(entry.Data))
			}
			if want := []string{"first", "second", "third", "end"}; !slices.Equal(texts, want) {
				e.errorf("%s: got %q, want %q", name, texts, want)
			}
		}
	})
}

// checkNoKey checks that a message without a key is never a duplicate.
func checkNoKey(e *env) {
	positions := map[uint64]bool{}
	for range 3 {
		position, duplicate, err := e.node(0).Append(e.ctx, "a", "", []byte("the same"))
		if err != nil {
			continue // the message may have been accepted
		}
		if duplicate || positions[position] {
			e.errorf("message without a key: got position %d, duplicate %v, want a new position", position, duplicate)
		}
		positions[position] = true
	}
	entries, _ := e.read(0, "a", 0)
	for position := range positions {
		if !slices.ContainsFunc(entries, func(entry backplane.Entry) bool { return entry.Position == position }) {
			e.errorf("position %d is not in the log", position)
		}
	}
}

// checkKeyAge checks that an engine remembers a key for KeyAge, but not forever.
func checkKeyAge(e *env) {
	if !e.Patient {
		return
	}
	const margin = backplane.KeyAge / 12
	e.subscribe(0, "a") // keeps the log
	first, _, err := e.appendKey(0, "a", "key", "first")
	if err != nil {
		e.fatalf("Append: %v", err)
	}
	e.sleep(backplane.KeyAge - margin)
	if position, _, err := e.appendKey(0, "a", "key", "again"); err != nil || position != first {
		e.errorf("key shortly before KeyAge: got position %d, error %v, want %d", position, err, first)
	}
	e.sleep(3 * margin)
	if position, _, err := e.appendKey(0, "a", "key", "later"); err != nil || position <= first {
		e.errorf("key after KeyAge: got position %d, error %v, want a position above %d", position, err, first)
	}
}

// checkComplete checks that Read returns every entry above a position that the log still contains,
// and that the result is complete if none of these entries is missing.
func checkComplete(e *env) {
	r := e.subscribe(0, "a")
	e.awaitLog(0, "a", r)
	start := e.last(0, "a")
	var all []uint64
	for n := range e.Messages + 3 {
		all = append(all, e.append(n, "a", fmt.Sprint(n)))
		if n == 1 || n == e.Messages-1 {
			// A log at its limit need not know that it has removed nothing yet.
			entries, complete := e.read(0, "a", start)
			if !slices.Equal(positions(entries), all) || !complete && len(all) < e.Messages {
				e.errorf("Read of %d entries: got %d, complete %v, want %d, complete", len(all), positions(entries), complete, all)
			}
		}
	}
	e.await(func() bool { return hasAll(r.positions(), all) }, "all entries")
	entries, complete := e.read(0, "a", 0)
	kept := positions(entries)
	if complete || len(kept) != e.Messages || !slices.Equal(kept, all[3:]) {
		e.fatalf("Read from 0: got %d, complete %v, want %d, false", kept, complete, all[3:])
	}
	for i := range e.Nodes {
		for _, after := range all {
			e.checkRead(i, "a", after, all, kept)
			e.checkRead(i, "a", after+1, all, kept)
		}
		e.checkRead(i, "a", math.MaxUint64, all, kept)
	}
	if entries, complete := e.read(0, "unknown", e.last(0, "unknown")); len(entries) > 0 || !complete {
		e.errorf("Read of an unknown room from its last position: got %d entries, complete %v, want 0, complete", len(entries), complete)
	}
}

// checkRead compares Read with the expected result. The room has had the positions in all, and its
// log still contains those in kept.
func (e *env) checkRead(i int, name room.Name, after uint64, all, kept []uint64) {
	var want []uint64
	missing := after > all[len(all)-1]
	for _, position := range all {
		switch has := slices.Contains(kept, position); {
		case position > after && has:
			want = append(want, position)
		case position > after:
			missing = true
		}
	}
	entries, complete := e.read(i, name, after)
	if got := positions(entries); !slices.Equal(got, want) {
		e.errorf("Read after %d: got %d, want %d", after, got, want)
	}
	certain := slices.Contains(kept, after) || after == all[len(all)-1]
	if complete && missing || !complete && !missing && certain {
		e.errorf("Read after %d of %d, of which the log has %d: got complete %v", after, all, kept, complete)
	}
}

// checkClear checks that Clear removes the room's entries but keeps its last position and its keys.
func checkClear(e *env) {
	e.subscribe(0, "a")
	e.subscribe(0, "b")
	other := e.append(0, "b", "stays")
	first, _, err := e.appendKey(0, "a", "key", "one")
	if err != nil {
		e.fatalf("Append: %v", err)
	}
	second := e.append(0, "a", "two")
	e.try("Clear", e.clear("a"))
	for i := range e.Nodes {
		e.checkRead(i, "a", first, []uint64{first, second}, nil)
		e.checkRead(i, "a", second, []uint64{first, second}, nil)
		if last := e.last(i, "a"); last != second {
			e.errorf("Last after Clear: got %d, want %d", last, second)
		}
		if entries, _ := e.read(i, "b", 0); !slices.Equal(positions(entries), []uint64{other}) {
			e.errorf("another room after Clear: got %d, want %d", positions(entries), other)
		}
	}
	if position, _, err := e.appendKey(0, "a", "key", "again"); err != nil || position != first {
		e.errorf("key after Clear: got position %d, error %v, want %d", position, err, first)
	}
	third := e.append(0, "a", "three")
	if third <= second {
		e.errorf("position %d follows %d", third, second)
	}
	e.checkRead(0, "a", first, []uint64{first, second, third}, []uint64{third})
	e.checkRead(0, "a", second, []uint64{first, second, third}, []uint64{third})
}

// checkJoin checks that a subscription receives the entries that are accepted after Subscribe, and
// that the log contains the earlier entries.
func checkJoin(e *env) {
	for i := range e.Nodes {
		early := e.append(0, "a", "early")
		r := e.subscribe(i, "a")
		e.awaitLog(i, "a", r)
		late := e.append(i+1, "a", "late")
		e.await(func() bool { return hasAll(r.positions(), []uint64{late}) || r.lost > 0 }, "%s: the entry or Lost", r.name)
		entries, complete := e.read(i, "a", early)
		if !complete || !slices.Contains(positions(entries), late) {
			e.errorf("Read after %d: got %d, complete %v, want %d among them, complete", early, positions(entries), complete, late)
		}
		e.locked(func() {
			if len(r.entries) > 0 && r.entries[0].Position < late {
				e.errorf("%s: received entry %d, which was accepted before Subscribe", r.name, r.entries[0].Position)
			}
		})
	}
}
