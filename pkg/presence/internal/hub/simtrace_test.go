package hub_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/presence/pkg/presence/internal/hub"
	"example.com/presence/pkg/presence/internal/loglimit"
)

// simRecorder collects the failures of a simulation instead of reporting them, because a failing
// simulation is run again and again until its script is short.
type simRecorder struct {
	testing.TB
	start time.Time
	trace bool

	mu       sync.Mutex // guards the fields below, and the lines of the trace
	failures []string
	kinds    map[string]bool // formats of the failures
}

func newSimRecorder(t testing.TB, trace bool) *simRecorder {
	return &simRecorder{TB: t, start: time.Now(), trace: trace, kinds: map[string]bool{}}
}

func (r *simRecorder) Helper() {}

func (r *simRecorder) Error(args ...any) { r.Errorf("%s", fmt.Sprint(args...)) }

func (r *simRecorder) Errorf(format string, args ...any) {
	failure := fmt.Sprintf(format, args...)
	r.tracef("", "FAILURE: %s", failure)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kinds[format] = true
	if len(r.failures) < maxFailures {
		r.failures = append(r.failures, fmt.Sprintf("%.3fs: %s", time.Since(r.start).Seconds(), failure))
	}
}

// Fatal ends the process, because the simulation cannot continue.
func (r *simRecorder) Fatal(args ...any) { panic(fmt.Sprint(args...)) }

// Fatalf ends the process, because the simulation cannot continue.
func (r *simRecorder) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

func (r *simRecorder) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.failures) > 0
}

// maxFailures bounds the failures that a run reports. The first ones matter.
const maxFailures = 12

// tracef prints a line of the trace, for example
//
//	12.345s  B   alice joins lobby (tab 7, last id "")
func (r *simRecorder) tracef(node, format string, args ...any) {
	if !r.trace {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintf(os.Stdout, "%9.3fs  %-3s %s\n", time.Since(r.start).Seconds(), node, fmt.Sprintf(format, args...))
}

// engineTrace returns the function that the engine calls for each of its events, or nil.
func (r *simRecorder) engineTrace() func(string, ...any) {
	if !r.trace {
		return nil
	}
	return func(format string, args ...any) { r.tracef("", format, args...) }
}

// logTo adds the log of a node to the trace.
func (r *simRecorder) logTo(c *hub.Config, node string) {
	if r.trace {
		c.Log = slog.New(simLogger{r, node})
		c.Warn = loglimit.New(c.Log)
	}
}

type simLogger struct {
	r    *simRecorder
	node string
}

func (l simLogger) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }
func (l simLogger) WithAttrs([]slog.Attr) slog.Handler               { return l }
func (l simLogger) WithGroup(string) slog.Handler                    { return l }
func (l simLogger) Handle(_ context.Context, record slog.Record) error {
	var b strings.Builder
	record.Attrs(func(a slog.Attr) bool {
		fmt.Fprintf(&b, " %v", a)
		return true
	})
	l.r.tracef(l.node, "%v: %s%s", record.Level, record.Message, &b)
	return nil
}
