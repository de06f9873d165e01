package rates

import (
	"strconv"
	"testing"
	"time"
)

var start = time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC)

func TestRates(t *testing.T) {
	r := NewTable(10, 20)
	for _, step := range []struct {
		at   time.Duration
		user string
		cost int
		wait time.Duration
	}{
		{0, "alice", 20, 0},
		{0, "alice", 1, 100 * time.Millisecond}, // the bucket is empty
		{0, "bob", 1, 0},                        // another user has its own
		{100 * time.Millisecond, "alice", 51, 0},
		{100 * time.Millisecond, "alice", 1, 5100 * time.Millisecond}, // 50 tokens in debt
		{5100 * time.Millisecond, "alice", 1, 100 * time.Millisecond},
		{5200 * time.Millisecond, "alice", 1, 0},
		{time.Hour, "alice", 0, 0},
	} {
		if wait := r.Take(step.user, step.cost, start.Add(step.at)); wait.Round(time.Microsecond) != step.wait {
			t.Fatalf("after %v: Take(%s, %d) returns %v, want %v", step.at, step.user, step.cost, wait, step.wait)
		}
	}
	r.Charge("alice", 30, start.Add(time.Hour))
	r.Charge("alice", 30, start.Add(time.Hour))
	if wait := r.Wait("alice", start.Add(time.Hour)).Round(time.Microsecond); wait != 4100*time.Millisecond {
		t.Errorf("after charges of 60 to a bucket of 20: Wait returns %v, want 4.1s", wait)
	}
	if wait := NewTable(-1, 1).Take("alice", 1<<40, start); wait != 0 {
		t.Errorf("without a limit: Take returns %v, want 0", wait)
	}
}

// TestRatesEvict fills the table, and expects that it replaces the bucket that was not used for the
// longest time, and refuses no user.
func TestRatesEvict(t *testing.T) {
	r := NewTable(1e-9, 1)
	for i := range MaxUsers {
		r.Take(strconv.Itoa(i), 1, start)
	}
	if r.Take("0", 1, start) == 0 {
		t.Fatal("the first user has a token, want none")
	}
	if wait := r.Take("newcomer", 1, start); wait != 0 {
		t.Errorf("a newcomer waits %v, want 0", wait)
	}
	if r.Take("0", 1, start) == 0 {
		t.Error("the first user has a new bucket although it was used recently")
	}
	if r.Take("1", 1, start) != 0 {
		t.Error("the second user has no token, want a new bucket")
	}
	if n := len(r.users); n != MaxUsers || r.recent.Len() != n {
		t.Errorf("the table has %d users and a list of %d, want %d", n, r.recent.Len(), MaxUsers)
	}
}

// TestRatesFree expects that full buckets are freed when new ones are made.
func TestRatesFree(t *testing.T) {
	r := NewTable(1, 2)
	for i := range 1000 {
		r.Take(strconv.Itoa(i), 1, start)
	}
	for i := range 600 {
		r.Take(strconv.Itoa(-1-i), 1, start.Add(time.Minute))
	}
	if n := len(r.users); n != 600 || r.recent.Len() != n {
		t.Errorf("%d users, want the last 600: the buckets of the others are full", n)
	}
}
