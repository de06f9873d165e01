// Package refusal counts the requests, streams and connections that the server refuses, and logs
// them: one warning per cause and minute, with a count and one example. A client can cause refusals
// at any rate, so a line for each of them would flood the log. It imports no other package of this
// module.
package refusal

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// interval is the minimum time between two log lines about the same cause.
const interval = time.Minute

// Recorder counts and logs refusals. Its methods are safe for concurrent use.
type Recorder struct {
	log    *slog.Logger
	counts map[Cause]*atomic.Uint64 // read-only map

	mu     sync.Mutex // guards lines and closed
	lines  map[key]*line
	closed bool
}

// key identifies the refusals that share a log line.
type key struct {
	cause  Cause
	reason string // divides Token, else ""
}

// line holds the refusals since the last log line.
type line struct {
	count   int
	ctx     context.Context // context of the example
	example []any
	timer   *time.Timer // logs the line; never nil
}

// New returns a Recorder that logs to log.
func New(log *slog.Logger) *Recorder {
	r := &Recorder{log: log, counts: map[Cause]*atomic.Uint64{}, lines: map[key]*line{}}
	for _, c := range Causes() {
		r.counts[c] = new(atomic.Uint64)
	}
	return r
}

// Add counts a refusal. The first one of a cause is logged immediately. The later ones are logged
// together, one interval after the last line. Different reasons of one cause have lines of their
// own; they must come from a closed list, because each is remembered. example returns the
// attributes of the log line, and is called only if this refusal is the example. It must return
// only values that do not change. ctx is the context of the request.
func (r *Recorder) Add(ctx context.Context, cause Cause, reason string, example func() []any) {
	r.counts[cause].Add(1)
	if quiet[cause] {
		return
	}
	k := key{cause, reason}
	if r.first(ctx, k, example) {
		r.write(ctx, k, 1, example())
	}
}

// first reports whether the refusal is the first since the last line of k has expired. If it is
// not, first adds it to the line.
func (r *Recorder) first(ctx context.Context, k key, example func() []any) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed { // the process is about to end
		return false
	}
	l := r.lines[k]
	if l == nil {
		l = &line{}
		l.timer = time.AfterFunc(interval, func() { r.due(k, l) })
		r.lines[k] = l
		return true
	}
	if l.count++; l.count == 1 {
		l.ctx, l.example = context.WithoutCancel(ctx), example()
	}
	return false
}

// due logs the refusals of a line. If there were none, it drops the line, and the next refusal is
// logged immediately.
func (r *Recorder) due(k key, l *line) {
	r.mu.Lock()
	last := *l
	switch {
	case r.closed:
		last.count = 0 // Close has logged it
	case l.count == 0:
		delete(r.lines, k)
	default:
		l.count, l.ctx, l.example = 0, nil, nil
		l.timer.Reset(interval)
	}
	r.mu.Unlock()
	if last.count > 0 {
		r.write(last.ctx, k, last.count, last.example)
	}
}

func (r *Recorder) write(ctx context.Context, k key, count int, example []any) {
	args := []any{"cause", string(k.cause)}
	if k.reason != "" {
		args = append(args, "reason", k.reason)
	}
	r.log.WarnContext(ctx, "request refused", append(append(args, "count", count), example...)...)
}

// Count returns the number of refusals with this cause.
func (r *Recorder) Count(cause Cause) uint64 { return r.counts[cause].Load() }

// Close logs the refusals that have not been logged, and stops the timers. Later refusals are
// counted, but not logged.
func (r *Recorder) Close() {
	r.mu.Lock()
	lines := r.lines
	r.lines, r.closed = nil, true
	r.mu.Unlock()
	for k, l := range lines {
		l.timer.Stop()
		if l.count > 0 {
			r.write(l.ctx, k, l.count, l.example)
		}
	}
}
