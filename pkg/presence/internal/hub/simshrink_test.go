package hub_test

import (
	"slices"
	"testing"
	"time"
)

// shrinkTime bounds the time in which a failing script is shortened.
const shrinkTime = 20 * time.Second

// shrinkScript removes steps from a failing script as long as it fails with one of the same kinds
// of failures: first halves, then quarters, and so on down to single steps. It returns the script
// and its failures.
func shrinkScript(t *testing.T, s simScript, kinds map[string]bool) (simScript, []string) {
	t.Helper()
	end := time.Now().Add(shrinkTime)
	failures, _ := simulate(t, s, false)
	for size := max(1, len(s.Steps)/2); ; {
		removed := false
		for at := 0; at < len(s.Steps) && time.Now().Before(end); {
			shorter := s
			shorter.Steps = withoutSteps(s.Steps, at, min(at+size, len(s.Steps)))
			if f, k := simulate(t, shorter, false); isSameKind(k, kinds) {
				s, failures, removed = shorter, f, true
			} else {
				at += size
			}
		}
		if !removed && size == 1 || !time.Now().Before(end) {
			return s, failures
		}
		size = max(1, size/2)
	}
}

// withoutSteps removes the steps from start to end, but not their waiting time: half of it moves to
// the next step.
func withoutSteps(steps []simStep, start, end int) []simStep {
	rest := slices.Clone(steps[end:])
	if len(rest) > 0 {
		var wait simMillis
		for _, s := range steps[start:end] {
			wait += s.After
		}
		rest[0].After += wait / 2
	}
	return append(slices.Clone(steps[:start]), rest...)
}

func isSameKind(a, b map[string]bool) bool {
	for kind := range a {
		if b[kind] {
			return true
		}
	}
	return false
}
