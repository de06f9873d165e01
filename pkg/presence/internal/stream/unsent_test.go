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
		{"above the reserve: every backlog", []uint64{1, 1001 + unsentReserve}, []bool{true, true}},
	} {
		u := unsent{limit: 1000, least: 100}
		for _, held := range c.streams {
			u.add(0, held)
		}
		for i, want := range c.want {
			if got := u.exceeds(c.streams[i]); got != want {
				t.Errorf("%s: stream %d with %d bytes is over its share: %t, want %t", c.name, i, c.streams[i], got, want)
			}
		}
		for _, held := range c.streams {
			u.add(held, 0)
		}
		if u.total.Load() != 0 || u.streams.Load() != 0 {
			t.Errorf("%s: %d bytes of %d streams at the end, want 0 and 0", c.name, u.total.Load(), u.streams.Load())
		}
	}
}
