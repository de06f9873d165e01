package fair

import (
	"strconv"
	"testing"
)

// TestBudgetShares lets n users take as much as they can, in small pieces, and expects that each
// gets 1/(n+1) of the limit, and that a newcomer still finds as much.
func TestBudgetShares(t *testing.T) {
	const limit, piece = 1 << 20, 64
	for _, n := range []int{1, 2, 10, 100} {
		b := NewBudget(limit)
		for taken := true; taken; {
			taken = false
			for i := range n {
				if user := strconv.Itoa(i); b.Fits(user, piece) {
					b.Hold(user, piece)
					b.Grow(piece)
					taken = true
				}
			}
		}
		share := limit / (n + 1)
		for i := range n {
			if held := b.Held(strconv.Itoa(i)); held < share-(n+1)*piece || held > share+piece {
				t.Errorf("%d users: user %d holds %d, want %d", n, i, held, share)
			}
		}
		if free := limit - b.Total(); free < share-(n+1)*piece || !b.Fits("newcomer", piece) {
			t.Errorf("%d users: %d are left for a newcomer, want %d", n, free, share)
		}
	}
}

// TestBudgetShared expects that a piece that several users share counts once in the total, and for
// each of them.
func TestBudgetShared(t *testing.T) {
	b := NewBudget(100)
	b.Hold("alice", 40)
	b.Grow(40)
	for _, c := range []struct {
		user string
		n    int
		fits bool
	}{
		{"alice", 21, false}, // 61 for one user, and 60 free
		{"alice", 20, true},
		{"alice", 0, true}, // another user holds it already
		{"bob", 0, true},
		{"bob", 60, true},
		{"bob", 61, false},
	} {
		if got := b.Fits(c.user, c.n); got != c.fits {
			t.Errorf("Fits(%s, %d) is %t, want %t", c.user, c.n, got, c.fits)
		}
	}
	b.Grow(70)
	if !b.Fits("alice", 0) || b.Fits("bob", 1) || !b.Exceeds() {
		t.Error("above the limit: want only holdings that make the total no larger")
	}
	b.Grow(-70)
	b.Hold("bob", 40)
	b.Grow(-40)
	b.Hold("alice", -40)
	b.Hold("bob", -40)
	if b.Total() != 0 || len(b.users) != 0 || b.Exceeds() {
		t.Errorf("after the end of all: total %d, %d users", b.Total(), len(b.users))
	}
}
