package load

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestSequence(t *testing.T) {
	tests := []struct {
		name    string
		base    int64
		numbers []int64
		want    []arrival
		end     int64
		excused []span
		missing int64
	}{
		{name: "all", base: 0, numbers: []int64{1, 2, 3}, want: []arrival{inOrder, inOrder, inOrder}, end: 3},
		{name: "nothing sent", base: 4, end: 4},
		{name: "none received", base: 4, end: 6, missing: 2},
		{name: "on its way at the start", base: 5, numbers: []int64{4, 5, 6}, want: []arrival{inOrder, inOrder, inOrder}, end: 6},
		{name: "first one lost", base: 5, numbers: []int64{7}, want: []arrival{inOrder}, end: 7, missing: 1},
		{name: "lost after one on its way", base: 5, numbers: []int64{4, 6}, want: []arrival{inOrder, inOrder}, end: 6, missing: 1},
		{name: "tail lost", base: 0, numbers: []int64{1, 2}, want: []arrival{inOrder, inOrder}, end: 5, missing: 3},
		{name: "out of order", base: 0, numbers: []int64{1, 3, 2}, want: []arrival{inOrder, inOrder, outOfOrder}, end: 3},
		{name: "middle of a gap", base: 0, numbers: []int64{1, 9, 5}, want: []arrival{inOrder, inOrder, outOfOrder}, end: 9, missing: 6},
		{name: "duplicate", base: 0, numbers: []int64{1, 2, 2, 1}, want: []arrival{inOrder, inOrder, duplicate, duplicate}, end: 2},
		{name: "late and again", base: 0, numbers: []int64{2, 1, 1}, want: []arrival{inOrder, outOfOrder, duplicate}, end: 2},
		{name: "excused", base: 0, numbers: []int64{1, 6}, want: []arrival{inOrder, inOrder}, end: 8, excused: []span{{3, 4}, {8, 8}}, missing: 3},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var s sequence
			s.start(test.base)
			for i, n := range test.numbers {
				if got := s.add(n); got != test.want[i] {
					t.Errorf("add(%d): got %v, want %v", n, got, test.want[i])
				}
			}
			missing := s.missing(test.end).count(test.excused)
			if missing != test.missing {
				t.Errorf("got %d missing numbers, want %d", missing, test.missing)
			}
			if got, want := s.complete(test.end), s.last == test.end || test.base == test.end; got != want {
				t.Errorf("complete: got %v, want %v", got, want)
			}
		})
	}
}

func TestSequenceRestart(t *testing.T) {
	var s sequence
	if lost := s.start(3).count(nil); lost != 0 {
		t.Errorf("first start: got %d lost numbers, want 0", lost)
	}
	s.add(4)
	s.add(7)
	if lost := s.start(20).count([]span{{5, 5}}); lost != 1 {
		t.Errorf("got %d lost numbers, want 1 (6)", lost)
	}
	if got := s.add(21); got != inOrder || s.missing(21).count(nil) != 0 {
		t.Errorf("after the restart: got %v and %d missing numbers", got, s.missing(21).count(nil))
	}
}

// TestSequenceBound checks that a client that misses every second number keeps a bounded number of
// gaps, and counts the others all the same.
func TestSequenceBound(t *testing.T) {
	var s sequence
	s.start(0)
	for n := int64(2); n <= 2000; n += 2 {
		s.add(n)
	}
	if len(s.gaps) != maxGaps || s.missing(2000).count(nil) != 1000 {
		t.Errorf("got %d gaps with %d numbers, want %d with 1000", len(s.gaps), s.missing(2000).count(nil), maxGaps)
	}
}

// TestSequenceRandom compares a sequence with a set of numbers.
func TestSequenceRandom(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for run := range 2000 {
		base := random.Int64N(5)
		var s sequence
		s.start(base)
		received, first, last := map[int64]bool{}, int64(-1), int64(-1)
		log := []string{}
		for range random.IntN(30) {
			n := 1 + random.Int64N(20)
			log = append(log, fmt.Sprint(n))
			if first < 0 {
				first, last = n, min(n-1, base)
				base = last
			}
			want := inOrder
			switch {
			case n > last:
				last = n
			case received[n] || n <= base:
				want = duplicate
			default:
				want = outOfOrder
			}
			received[n] = true
			if got := s.add(n); got != want {
				t.Fatalf("run %d: %v: got %v, want %v", run, log, got, want)
			}
		}
		want := int64(0)
		for n := base + 1; n <= 25; n++ {
			if !received[n] {
				want++
			}
		}
		if got := s.missing(25).count(nil); got != want {
			t.Fatalf("run %d: base %d: %v: got %d missing, want %d", run, base, log, got, want)
		}
		if !slices.IsSortedFunc(s.gaps, func(a, b span) int { return int(a.first - b.first) }) {
			t.Fatalf("run %d: gaps not sorted: %v", run, s.gaps)
		}
	}
}
