package backplanetest

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/room"
)

type (
	busAppend = func(ctx context.Context, name room.Name, key string, data []byte) (uint64, bool, error)
	busRead   = func(ctx context.Context, name room.Name, after uint64) ([]backplane.Entry, bool, error)
	busAsk    = func(ctx context.Context, topic room.Name, request []byte, answer func([]byte) bool) error
)

// broken wraps a bus and replaces some methods with faulty ones. If a function is nil, the method
// of the wrapped bus is called.
type broken struct {
	backplane.Bus
	handler func(h backplane.Handler) backplane.Handler // changes the handler of each Subscribe
	sub     func(topic room.Name, h backplane.Handler) (func(), error)
	append  busAppend
	read    busRead
	last    func(uint64) uint64
	clear   func(ctx context.Context, name room.Name) error
	publish func(ctx context.Context, topic room.Name, data []byte) error
	ask     busAsk
	put     func(ctx context.Context, key string, value []byte, ttl time.Duration) error
	watch   func(f func(backplane.Row)) (func(), error)
	status  func(backplane.Status) backplane.Status
	notify  func(f func(backplane.Status)) func()
	close   func()
}

func (b *broken) Subscribe(topic room.Name, h backplane.Handler) (func(), error) {
	switch {
	case b.handler != nil:
		h = b.handler(h)
	case b.sub != nil:
		return b.sub(topic, h)
	}
	return b.Bus.Subscribe(topic, h)
}

func (b *broken) Append(ctx context.Context, name room.Name, key string, data []byte) (uint64, bool, error) {
	if b.append != nil {
		return b.append(ctx, name, key, data)
	}
	return b.Bus.Append(ctx, name, key, data)
}

func (b *broken) Read(ctx context.Context, name room.Name, after uint64) ([]backplane.Entry, bool, error) {
	if b.read != nil {
		return b.read(ctx, name, after)
	}
	return b.Bus.Read(ctx, name, after)
}

func (b *broken) Last(ctx context.Context, name room.Name) (uint64, error) {
	last, err := b.Bus.Last(ctx, name)
	if b.last != nil {
		last = b.last(last)
	}
	return last, err
}

func (b *broken) Clear(ctx context.Context, name room.Name) error {
	if b.clear != nil {
		return b.clear(ctx, name)
	}
	return b.Bus.Clear(ctx, name)
}

func (b *broken) Publish(ctx context.Context, topic room.Name, data []byte) error {
	if b.publish != nil {
		return b.publish(ctx, topic, data)
	}
	return b.Bus.Publish(ctx, topic, data)
}

func (b *broken) Ask(ctx context.Context, topic room.Name, request []byte, answer func([]byte) bool) error {
	if b.ask != nil {
		return b.ask(ctx, topic, request, answer)
	}
	return b.Bus.Ask(ctx, topic, request, answer)
}

func (b *broken) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	if b.put != nil {
		return b.put(ctx, key, value, ttl)
	}
	return b.Bus.Put(ctx, key, value, ttl)
}

func (b *broken) Watch(f func(backplane.Row)) (func(), error) {
	if b.watch != nil {
		return b.watch(f)
	}
	return b.Bus.Watch(f)
}

func (b *broken) Status() backplane.Status {
	if b.status != nil {
		return b.status(b.Bus.Status())
	}
	return b.Bus.Status()
}

func (b *broken) Notify(f func(backplane.Status)) func() {
	if b.notify != nil {
		return b.notify(f)
	}
	return b.Bus.Notify(f)
}

func (b *broken) Close() {
	if b.close != nil {
		b.close()
		return
	}
	b.Bus.Close()
}

// faults lists engines with one fault each, and the checks that must detect the fault. Each engine
// has one broken handle and one correct handle.
var faults = []struct {
	name   string
	change func(b *broken, m *backplane.Memory)
	failed []string // names of checks
}{
	{"an entry is lost", onEntry(func(n int, e backplane.Entry, entry func(backplane.Entry)) {
		if n != 3 {
			entry(e)
		}
	}), []string{"Append", "Keys", "Complete"}},
	{"the first entry is lost", onEntry(func(n int, e backplane.Entry, entry func(backplane.Entry)) {
		if n > 1 {
			entry(e)
		}
	}), []string{"Append", "Join"}},
	{"an entry is delivered twice", onEntry(func(n int, e backplane.Entry, entry func(backplane.Entry)) {
		if entry(e); n == 3 {
			entry(e)
		}
	}), []string{"Append"}},
	{"two entries are swapped", reorder, []string{"Append"}},
	{"entries have other data", onEntry(func(n int, e backplane.Entry, entry func(backplane.Entry)) {
		e.Data = bytes.ToUpper(append([]byte("x"), e.Data...))
		entry(e)
	}), []string{"Append", "Keys"}},
	{"Subscribe delivers earlier entries", func(b *broken, m *backplane.Memory) {
		b.sub = func(topic room.Name, h backplane.Handler) (func(), error) {
			entries, _, err := m.Read(context.Background(), topic, 0)
			for _, e := range entries {
				h.Entry(e)
			}
			cancel, _ := m.Subscribe(topic, h)
			return cancel, err
		}
	}, []string{"Join"}},
	{"a key is forgotten", onAppend(func(inner busAppend, ctx context.Context, name room.Name, key string, data []byte) (uint64, bool, error) {
		return inner(ctx, name, "", data)
	}), []string{"Keys", "Clear", "KeyAge"}},
	{"a duplicate is not reported", onAppend(func(inner busAppend, ctx context.Context, name room.Name, key string, data []byte) (uint64, bool, error) {
		position, _, err := inner(ctx, name, key, data)
		return position, false, err
	}), []string{"Keys"}},
	{"a duplicate has another position", onAppend(func(inner busAppend, ctx context.Context, name room.Name, key string, data []byte) (uint64, bool, error) {
		position, duplicate, err := inner(ctx, name, key, data)
		if duplicate {
			position++
		}
		return position, duplicate, err
	}), []string{"Keys"}},
	{"keys apply to every room and never expire", globalKeys, []string{"Keys", "KeyAge", "Recreate"}},
	{"the empty key is a key", onAppend(func(inner busAppend, ctx context.Context, name room.Name, key string, data []byte) (uint64, bool, error) {
		return inner(ctx, name, key+"!", data)
	}), []string{"NoKey"}},
	{"every position is the same", onAppend(func(inner busAppend, ctx context.Context, name room.Name, key string, data []byte) (uint64, bool, error) {
		_, duplicate, err := inner(ctx, name, key, data)
		return 7, duplicate, err
	}), []string{"Append"}},
	{"complete is always true", onRead(func(entries []backplane.Entry, complete bool) ([]backplane.Entry, bool) {
		return entries, true
	}), []string{"Complete", "Clear"}},
	{"complete is never true", onRead(func(entries []backplane.Entry, complete bool) ([]backplane.Entry, bool) {
		return entries, false
	}), []string{"Append", "Complete", "Join", "Drop", "Recreate", "Clear"}},
	{"complete is true if there are entries", onRead(func(entries []backplane.Entry, complete bool) ([]backplane.Entry, bool) {
		return entries, complete || len(entries) > 0
	}), []string{"Complete"}},
	{"complete is true if there are no entries", onRead(func(entries []backplane.Entry, complete bool) ([]backplane.Entry, bool) {
		return entries, complete || len(entries) == 0
	}), []string{"Complete", "Clear"}},
	{"Read omits the oldest entry", onRead(func(entries []backplane.Entry, complete bool) ([]backplane.Entry, bool) {
		return entries[min(1, len(entries)):], complete
	}), []string{"Append", "Complete", "Join", "Drop"}},
	{"Read returns entries in reverse order", onRead(func(entries []backplane.Entry, complete bool) ([]backplane.Entry, bool) {
		slices.Reverse(entries)
		return entries, complete
	}), []string{"Append", "Complete"}},
	{"Read includes the entry at after", func(b *broken, m *backplane.Memory) {
		b.read = func(ctx context.Context, name room.Name, after uint64) ([]backplane.Entry, bool, error) {
			entries, _, err := m.Read(ctx, name, max(after, 1)-1)
			_, complete, _ := m.Read(ctx, name, after)
			return entries, complete, err
		}
	}, []string{"Complete"}},
	{"Last is too high by 1", func(b *broken, _ *backplane.Memory) { b.last = func(p uint64) uint64 { return p + 1 } }, []string{"Append", "Clear"}},
	{"Clear does nothing", func(b *broken, _ *backplane.Memory) {
		b.clear = func(context.Context, room.Name) error { return nil }
	}, []string{"Clear"}},
	{"Clear also clears another room", func(b *broken, m *backplane.Memory) {
		b.clear = func(ctx context.Context, name room.Name) error { m.Clear(ctx, "b"); return m.Clear(ctx, name) }
	}, []string{"Clear"}},
	{"a message is lost", onMessage(func(n int, data []byte, message func([]byte)) {
		if n != 3 {
			message(data)
		}
	}), []string{"Publish"}},
	{"a message is delivered twice", onMessage(func(n int, data []byte, message func([]byte)) { message(data); message(data) }), []string{"Publish", "Drop"}},
	{"messages also reach another topic", func(b *broken, m *backplane.Memory) {
		b.publish = func(ctx context.Context, topic room.Name, data []byte) error {
			m.Publish(ctx, "b", data)
			return m.Publish(ctx, topic, data)
		}
	}, []string{"Publish"}},
	{"calls overlap", func(b *broken, _ *backplane.Memory) {
		b.handler = func(h backplane.Handler) backplane.Handler {
			message := h.Message
			h.Message = func(data []byte) { go message(data); message(data) }
			return h
		}
	}, []string{"Publish"}},
	{"a reply is delivered twice", func(b *broken, m *backplane.Memory) {
		b.ask = func(ctx context.Context, topic room.Name, request []byte, answer func([]byte) bool) error {
			return m.Ask(ctx, topic, request, func(data []byte) bool {
				if !answer(data) {
					return false
				}
				return answer(data)
			})
		}
	}, []string{"Ask"}},
	{"a reply is lost", func(b *broken, m *backplane.Memory) {
		b.ask = func(ctx context.Context, topic room.Name, request []byte, answer func([]byte) bool) error {
			return m.Ask(ctx, topic, request, func(data []byte) bool { return answer(data) && false })
		}
	}, []string{"Ask"}},
	{"a nil reply is delivered", func(b *broken, _ *backplane.Memory) {
		b.handler = func(h backplane.Handler) backplane.Handler {
			if ask := h.Ask; ask != nil {
				h.Ask = func(request []byte) []byte { return append([]byte{}, ask(request)...) }
			}
			return h
		}
	}, []string{"Ask"}},
	{"Ask returns the error of its ctx", func(b *broken, m *backplane.Memory) {
		b.ask = func(ctx context.Context, topic room.Name, request []byte, answer func([]byte) bool) error {
			m.Ask(ctx, topic, request, answer)
			return ctx.Err()
		}
	}, []string{"AskTimeout", "Context"}},
	{"Ask ignores its ctx", func(b *broken, m *backplane.Memory) {
		b.ask = func(_ context.Context, topic room.Name, request []byte, answer func([]byte) bool) error {
			return m.Ask(context.Background(), topic, request, answer)
		}
	}, []string{"AskTimeout"}},
	{"cancel does nothing", func(b *broken, m *backplane.Memory) {
		b.sub = func(topic room.Name, h backplane.Handler) (func(), error) {
			m.Subscribe(topic, h)
			return func() {}, nil
		}
	}, []string{"Cancel"}},
	{"Lost is not called", func(b *broken, _ *backplane.Memory) {
		b.handler = func(h backplane.Handler) backplane.Handler { h.Lost = nil; return h }
	}, []string{"Drop", "Recreate"}},
	{"the epoch does not change", func(b *broken, m *backplane.Memory) {
		epoch := m.Status().Epoch
		b.status = func(s backplane.Status) backplane.Status { s.Epoch = epoch; return s }
	}, []string{"Recreate"}},
	{"a room without subscriptions keeps its log in a new epoch", func(b *broken, m *backplane.Memory) {
		b.read = func(ctx context.Context, name room.Name, after uint64) ([]backplane.Entry, bool, error) {
			entries, complete, err := m.Read(ctx, name, after)
			if name == "unsubscribed" && len(entries) == 0 {
				entries = []backplane.Entry{{Position: 1, Data: []byte("old")}}
			}
			return entries, complete, err
		}
	}, []string{"Recreate"}},
	{"a node has another epoch", func(b *broken, _ *backplane.Memory) {
		b.status = func(s backplane.Status) backplane.Status { s.Epoch = "0123456789"; return s }
	}, []string{"Status"}},
	{"the epoch is not hexadecimal", func(b *broken, _ *backplane.Memory) {
		b.status = func(s backplane.Status) backplane.Status { s.Epoch = "one"; return s }
	}, []string{"Status"}},
	{"Notify does nothing", func(b *broken, _ *backplane.Memory) {
		b.notify = func(func(backplane.Status)) func() { return func() {} }
	}, []string{"Recreate"}},
	{"rows do not expire", func(b *broken, m *backplane.Memory) {
		b.put = func(ctx context.Context, key string, value []byte, _ time.Duration) error {
			return m.Put(ctx, key, value, time.Hour)
		}
	}, []string{"Expiry"}},
	{"rows expire early", func(b *broken, m *backplane.Memory) {
		b.put = func(ctx context.Context, key string, value []byte, ttl time.Duration) error {
			return m.Put(ctx, key, value, ttl/2)
		}
	}, []string{"Expiry"}},
	{"a row is stored only once", func(b *broken, m *backplane.Memory) {
		var mu sync.Mutex
		known := map[string]bool{}
		b.put = func(ctx context.Context, key string, value []byte, ttl time.Duration) error {
			mu.Lock()
			defer mu.Unlock()
			if known[key] {
				return nil
			}
			known[key] = true
			return m.Put(ctx, key, value, ttl)
		}
	}, []string{"Table", "Expiry"}},
	{"Watch omits existing rows", onRow(func(first bool, r backplane.Row, f func(backplane.Row)) {
		if !first {
			f(r)
		}
	}), []string{"Table"}},
	{"Watch omits changes", onRow(func(first bool, r backplane.Row, f func(backplane.Row)) {
		if first {
			f(r)
		}
	}), []string{"Table", "Expiry"}},
	{"Watch omits deletions", onRow(func(_ bool, r backplane.Row, f func(backplane.Row)) {
		if !r.Deleted {
			f(r)
		}
	}), []string{"Table", "Expiry"}},
	{"rows have no expiry time", onRow(func(_ bool, r backplane.Row, f func(backplane.Row)) {
		r.Expires = time.Time{}
		f(r)
	}), []string{"Table"}},
	{"Append ignores its ctx", onAppend(func(inner busAppend, _ context.Context, name room.Name, key string, data []byte) (uint64, bool, error) {
		return inner(context.Background(), name, key, data)
	}), []string{"Context"}},
	{"Close does nothing", func(b *broken, _ *backplane.Memory) { b.close = func() {} }, []string{"Close"}},
	{"Close also closes the other handles", func(*broken, *backplane.Memory) {}, []string{"Close"}},
}

// onEntry changes the entries that each subscription receives. n is the number of the entry, from
// 1.
func onEntry(f func(n int, e backplane.Entry, entry func(backplane.Entry))) func(*broken, *backplane.Memory) {
	return func(b *broken, _ *backplane.Memory) {
		b.handler = func(h backplane.Handler) backplane.Handler {
			entry, n := h.Entry, 0
			h.Entry = func(e backplane.Entry) { n++; f(n, e, entry) }
			return h
		}
	}
}

// reorder delivers the third entry of each subscription after the fourth.
func reorder(b *broken, _ *backplane.Memory) {
	b.handler = func(h backplane.Handler) backplane.Handler {
		entry, n := h.Entry, 0
		var held []backplane.Entry
		h.Entry = func(e backplane.Entry) {
			if n++; n == 3 {
				held = append(held, e)
				return
			}
			entry(e)
			for _, e := range held {
				entry(e)
			}
			held = nil
		}
		return h
	}
}

func onMessage(f func(n int, data []byte, message func([]byte))) func(*broken, *backplane.Memory) {
	return func(b *broken, _ *backplane.Memory) {
		b.handler = func(h backplane.Handler) backplane.Handler {
			message, n := h.Message, 0
			h.Message = func(data []byte) { n++; f(n, data, message) }
			return h
		}
	}
}

func onAppend(f func(inner busAppend, ctx context.Context, name room.Name, key string, data []byte) (uint64, bool, error)) func(*broken, *backplane.Memory) {
	return func(b *broken, m *backplane.Memory) {
		b.append = func(ctx context.Context, name room.Name, key string, data []byte) (uint64, bool, error) {
			return f(m.Append, ctx, name, key, data)
		}
	}
}

// globalKeys remembers keys forever and ignores the room.
func globalKeys(b *broken, m *backplane.Memory) {
	var mu sync.Mutex
	known := map[string]uint64{}
	b.append = func(ctx context.Context, name room.Name, key string, data []byte) (uint64, bool, error) {
		mu.Lock()
		defer mu.Unlock()
		if position, ok := known[key]; ok {
			return position, true, nil
		}
		position, duplicate, err := m.Append(ctx, name, key, data)
		known[key] = position
		return position, duplicate, err
	}
}

func onRead(f func(entries []backplane.Entry, complete bool) ([]backplane.Entry, bool)) func(*broken, *backplane.Memory) {
	return func(b *broken, m *backplane.Memory) {
		b.read = func(ctx context.Context, name room.Name, after uint64) ([]backplane.Entry, bool, error) {
			entries, complete, err := m.Read(ctx, name, after)
			entries, complete = f(entries, complete)
			return entries, complete, err
		}
	}
}

// onRow changes the rows that each watcher receives. first is true until Watch returns.
func onRow(f func(first bool, r backplane.Row, row func(backplane.Row))) func(*broken, *backplane.Memory) {
	return func(b *broken, m *backplane.Memory) {
		b.watch = func(row func(backplane.Row)) (func(), error) {
			first := true
			cancel, err := m.Watch(func(r backplane.Row) { f(first, r, row) })
			first = false
			return cancel, err
		}
	}
}

// The checks detect every fault, and every check detects at least one.
func TestBroken(t *testing.T) {
	found := map[string]bool{}
	for _, fault := range faults {
		for _, name := range fault.failed {
			found[name] = true
			i := slices.IndexFunc(checks, func(c check) bool { return c.name == name })
			t.Run(fault.name+"/"+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					m, e := memory(t)
					b := &broken{Bus: m}
					fault.change(b, m)
					e.Nodes, e.Patient = []backplane.Bus{b, m}, true
					failures := checks[i].try(t.Context(), e)
					if len(failures) == 0 {
						t.Fatal("the check passes, want a failure")
					}
					t.Log(failures[0])
				})
			})
		}
	}
	for _, c := range checks {
		if !found[c.name] {
			t.Errorf("check %s detects no fault", c.name)
		}
	}
}

// Every check fails if Engine lacks Nodes, Messages, Recreate or Drop.
func TestIncompleteEngine(t *testing.T) {
	for name, change := range map[string]func(*Engine){
		"no nodes": func(e *Engine) { e.Nodes = nil }, "no Messages": func(e *Engine) { e.Messages = 0 },
		"no Recreate": func(e *Engine) { e.Recreate = nil }, "no Drop": func(e *Engine) { e.Drop = nil },
	} {
		_, e := memory(t)
		change(&e)
		for _, c := range checks {
			if len(c.try(t.Context(), e)) != 1 {
				t.Errorf("%s: check %s: want one failure", name, c.name)
			}
		}
	}
}
