package backplanetest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"example.com/presence/pkg/presence/backplane"
)

// recorders contains the lock that guards the data of all recorders of a check.
type recorders struct {
	mu      sync.Mutex
	changed chan struct{} // closed and replaced at each change
	faults  []string      // calls of the bus that violate the contract
}

func (rs *recorders) record(f func()) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	f()
	close(rs.changed)
	rs.changed = make(chan struct{})
}

// wait reports whether cond becomes true within d. It calls cond with the lock held.
func (rs *recorders) wait(d time.Duration, cond func() bool) bool {
	timeout := time.NewTimer(d)
	defer timeout.Stop()
	for {
		rs.mu.Lock()
		done, changed := cond(), rs.changed
		rs.mu.Unlock()
		if done {
			return true
		}
		select {
		case <-changed:
		case <-timeout.C:
			return false
		}
	}
}

// recorder records the calls of one subscription.
type recorder struct {
	all    *recorders
	bus    backplane.Bus
	name   string
	cancel func()

	// Guarded by all.mu.
	running  bool
	entries  []backplane.Entry
	messages []string
	probed   map[string]bool // probes that were received
	asked    int
	lost     int
	epoch    string // at the last call of Lost, or at Subscribe if there was none
	start    int    // index of the first entry of that epoch
	calls    int
}

// during runs f as one call of the subscription. If two calls overlap, it records a fault.
func (r *recorder) during(f func()) {
	r.all.record(func() {
		if r.running {
			r.faultLocked("two calls overlap")
		}
		r.running = true
		r.calls++
	})
	r.bus.Status() // allowed within a call
	r.all.record(func() {
		f()
		r.running = false
	})
}

func (r *recorder) faultLocked(format string, args ...any) {
	r.all.faults = append(r.all.faults, r.name+": "+fmt.Sprintf(format, args...))
}

// handler returns a Handler that records its calls. ask answers requests; if ask is nil, requests
// are not answered.
func (r *recorder) handler(ask func([]byte) []byte) backplane.Handler {
	h := backplane.Handler{
		Entry:   func(e backplane.Entry) { r.during(func() { r.entryLocked(e) }) },
		Message: func(data []byte) { r.during(func() { r.messageLocked(string(data)) }) },
		Lost: func() {
			epoch := r.bus.Status().Epoch
			r.during(func() { r.lostLocked(epoch) })
		},
	}
	if ask != nil {
		h.Ask = func(request []byte) (answer []byte) {
			r.during(func() { r.asked++ })
			return ask(request)
		}
	}
	return h
}

func (r *recorder) messageLocked(m string) {
	if strings.HasPrefix(m, probe) {
		r.probed[m] = true
		return
	}
	r.messages = append(r.messages, m)
}

func (r *recorder) entryLocked(e backplane.Entry) {
	if isProbe(e) {
		r.probed[string(e.Data)] = true
		return
	}
	if len(r.entries) > r.start {
		if last := r.entries[len(r.entries)-1]; e.Position <= last.Position {
			r.faultLocked("entry %d after entry %d", e.Position, last.Position)
		}
	}
	r.entries = append(r.entries, e)
}

func (r *recorder) lostLocked(epoch string) {
	r.lost++
	if epoch != r.epoch {
		r.epoch, r.start = epoch, len(r.entries)
	}
}

// probe begins a publication of awaitRoutes and an entry of awaitLog. Recorders and env.read omit
// probes.
const probe = "probe "

func isProbe(e backplane.Entry) bool { return strings.HasPrefix(string(e.Data), probe) }

// positions returns the positions of the received entries. The caller must hold the lock.
func (r *recorder) positions() []uint64 { return positions(r.entries) }

func positions(entries []backplane.Entry) []uint64 {
	var ps []uint64
	for _, e := range entries {
		ps = append(ps, e.Position)
	}
	return ps
}

// count returns the number of received messages that equal m. The caller must hold the lock.
func (r *recorder) count(m string) (n int) {
	for _, got := range r.messages {
		if got == m {
			n++
		}
	}
	return n
}

// hasAll reports whether got contains all of want. got must be in ascending order.
func hasAll(got, want []uint64) bool {
	for _, w := range want {
		if _, found := slices.BinarySearch(got, w); !found {
			return false
		}
	}
	return true
}
