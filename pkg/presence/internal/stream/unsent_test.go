package stream

import "testing"

// TestUnsentShares expects that a stream is over its share only if all streams together exceed the
// limit, and that the share is the same for all and has a minimum, which holds up to the reserve.
func TestUnsentShares(t *testing.T) {
	for _, c := range []struct {
		name    string
		streams []uint64
		want    []bool // over its share
	}{
		{"below the limit", []uint64{900}, []bool{false}},
		{"one stream", []uint64{1001}, []bool{true}},
		{"two streams", []uint64{1001, 100}, []bool{true, false}},
		{"at the share", []uint64{500, 501}, []bool{false, true}},
		{"without a backlog", []uint64{0, 1200}, []bool{false, true}},
		{"many streams: the minimum", []uint64{99, 100, 101, 101, 101, 101, 101, 101, 101, 101, 101, 101}, []bool{false, false, true}},
		{"above the reserve: no minimum", []uint64{99, 2 * unsentReserve}, []bool{false, true}},
	} {
		u, a := unsent{limit: 1000, least: 100}, new(Account)
		for _, held := range c.streams {
			u.add(a, 0, held)
		}
		for i, want := range c.want {
			if got := u.exceeds(a, c.streams[i]); got != want {
				t.Errorf("%s: stream %d with %d bytes is over its share: %t, want %t", c.name, i, c.streams[i], got, want)
			}
		}
		for _, held := range c.streams {
			u.add(a, held, 0)
		}
		if u.total.Load() != 0 || u.accounts.Load() != 0 || a.held.Load() != 0 || a.streams.Load() != 0 {
			t.Errorf("%s: %d bytes of %d accounts at the end, %d bytes of %d streams in one; want 0",
				c.name, u.total.Load(), u.accounts.Load(), a.held.Load(), a.streams.Load())
		}
	}
}

// TestUnsentAccounts expects that a user with many streams makes only its own streams exceed their
// share, above the reserve too, and that a stream may move to another account.
func TestUnsentAccounts(t *testing.T) {
	u := unsent{limit: 100_000, least: 100}
	var many, few Account
	for range 1000 {
		u.add(&many, 0, 200)
	}
	u.add(&few, 0, 30_000)
	u.add(&few, 0, 10_000)
	for _, c := range []struct {
		name string
		a    *Account
		held uint64
		want bool
	}{
		{"stream of the user with many", &many, 200, true},
		{"small stream of that user", &many, 100, false},
		{"large stream of the other user", &few, 30_000, false},
	} {
		if got := u.exceeds(c.a, c.held); got != c.want {
			t.Errorf("%s: over its share: %t, want %t", c.name, got, c.want)
		}
	}
	u.add(&many, 200, 2*unsentReserve)
	many.streams.Store(1 << 24)
	if !u.exceeds(&many, 50) || u.exceeds(&few, 30_000) {
		t.Error("above the reserve: want the streams of the user with many, below the smallest share too")
	}
	u.add(&few, 30_000, 0)
	u.add(&few, 10_000, 0)
	if u.accounts.Load() != 1 || few.held.Load() != 0 || few.streams.Load() != 0 {
		t.Errorf("at the end of a user: %d accounts, want 1, and none of its %d bytes", u.accounts.Load(), few.held.Load())
	}
}
