package refusal_test

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence/internal/logtest"
	"example.com/presence/pkg/presence/internal/refusal"
)

// output is the output of a log.
type output struct{ logtest.Buffer }

// lines returns the lines without their times, and removes them.
func (o *output) lines() (all []string) {
	for line := range strings.Lines(o.Take()) {
		_, line, _ = strings.Cut(strings.TrimSpace(line), " ")
		all = append(all, line)
	}
	return all
}

func (o *output) compare(t *testing.T, want ...string) {
	t.Helper()
	if got := o.lines(); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got these lines:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestAdd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out output
		r := refusal.New(slog.New(logtest.Handler{Handler: slog.NewTextHandler(&out, nil)}))
		add := func(cause refusal.Cause, reason, user string) {
			ctx, cancel := context.WithCancel(logtest.WithRequestID(t.Context(), "id-"+user))
			r.Add(ctx, cause, reason, func() []any { return []any{"user", user} })
			cancel() // the request ends before its line is logged
		}
		for _, user := range []string{"a", "b", "c"} {
			add(refusal.Rate, "", user)
			add(refusal.Token, "expired", user)
		}
		add(refusal.Token, "signature", "d")
		out.compare(t,
			`level=WARN msg="request refused" cause=rate count=1 user=a request=id-a`,
			`level=WARN msg="request refused" cause=token reason=expired count=1 user=a request=id-a`,
			`level=WARN msg="request refused" cause=token reason=signature count=1 user=d request=id-d`)

		time.Sleep(time.Minute - time.Nanosecond)
		synctest.Wait()
		add(refusal.Rate, "", "e")
		out.compare(t)
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		got := out.lines()
		if len(got) != 2 {
			t.Fatalf("after a minute: got %q, want 2 lines", got)
		}
		if strings.Contains(got[0], "cause=token") { // the timers run in any order
			got[0], got[1] = got[1], got[0]
		}
		for i, want := range []string{
			`level=WARN msg="request refused" cause=rate count=3 user=b request=id-b`,
			`level=WARN msg="request refused" cause=token reason=expired count=2 user=b request=id-b`,
		} {
			if got[i] != want {
				t.Errorf("after a minute: got %s, want %s", got[i], want)
			}
		}

		time.Sleep(time.Minute) // without a refusal: the next one is logged immediately
		synctest.Wait()
		add(refusal.Rate, "", "f")
		out.compare(t, `level=WARN msg="request refused" cause=rate count=1 user=f request=id-f`)
		add(refusal.Rate, "", "g")
		r.Close()
		out.compare(t, `level=WARN msg="request refused" cause=rate count=1 user=g request=id-g`)
		add(refusal.Rate, "", "h")
		time.Sleep(time.Hour)
		synctest.Wait()
		out.compare(t)
		for cause, want := range map[refusal.Cause]uint64{refusal.Rate: 7, refusal.Token: 4, refusal.Origin: 0} {
			if got := r.Count(cause); got != want {
				t.Errorf("%s: got %d refusals, want %d", cause, got, want)
			}
		}
	})
}

// Causes that clients or a shutdown trigger without a fault have no line.
func TestQuietCauses(t *testing.T) {
	var out output
	r := refusal.New(slog.New(slog.NewTextHandler(&out, nil)))
	defer r.Close()
	for _, cause := range refusal.Causes() {
		r.Add(t.Context(), cause, "", func() []any { return nil })
		if got := r.Count(cause); got != 1 {
			t.Errorf("%s: got %d refusals, want 1", cause, got)
		}
	}
	got := out.lines()
	for _, cause := range refusal.Causes() {
		line := `level=WARN msg="request refused" cause=` + string(cause) + " count=1"
		quiet := slices.Contains([]refusal.Cause{refusal.NotFound, refusal.Method, refusal.Draining, refusal.Internal}, cause)
		if logged := slices.Contains(got, line); logged == quiet {
			t.Errorf("%s: got logged %v, want %v", cause, logged, !quiet)
		}
	}
}

func TestAddConcurrently(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out output
		r := refusal.New(slog.New(slog.NewTextHandler(&out, nil)))
		var examples atomic.Int32
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for range 1000 {
					r.Add(t.Context(), refusal.Origin, "", func() []any { examples.Add(1); return nil })
				}
			})
		}
		all.Wait()
		r.Close()
		if n := examples.Load(); n != 2 {
			t.Errorf("got %d examples made, want 2, one for each line", n)
		}
		out.compare(t, `level=WARN msg="request refused" cause=origin count=1`, `level=WARN msg="request refused" cause=origin count=7999`)
	})
}
