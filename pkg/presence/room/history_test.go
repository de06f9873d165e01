package room_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/presence/pkg/presence/room"
)

// after says what the history has above seq: "3 4", or none.
func after(h *room.History, name room.Name, seq, end uint64, now time.Time) string {
	r, ok := h.After(name, seq, end, now)
	if !ok {
		return "none"
	}
	defer h.Release(r)
	var words []string
	for _, e := range r.Events() {
		words = append(words, strings.TrimRight(string(e), "."))
	}
	return strings.Join(words, " ")
}

// message is an event of that size that says its place.
func message(seq uint64, size int) []byte {
	e := fmt.Append(nil, seq)
	return append(e, strings.Repeat(".", max(0, size-len(e)))...)
}

func TestHistory(t *testing.T) { // promise 3
	h := room.NewHistory(room.HistoryConfig{Messages: 3, Age: time.Minute, Bytes: 1 << 20})
	for seq := uint64(1); seq <= 5; seq++ {
		h.Add("a", seq, message(seq, 0), at(time.Duration(seq)*time.Second))
	}
	h.Add("b", 1, message(1, 0), at(5*time.Second))
	for _, c := range []struct {
		seq, end uint64
		want     string
	}{{5, 5, ""}, {4, 5, "5"}, {2, 5, "3 4 5"}, {1, 5, "none"}, {0, 5, "none"}, {6, 5, "none"}, {1 << 63, 5, "none"}} {
		if got := after(&h, "a", c.seq, c.end, at(6*time.Second)); got != c.want {
			t.Errorf("after %d: got %q, want %q", c.seq, got, c.want)
		}
	}
	if got := after(&h, "a", 3, 5, at(64*time.Second)); got != "none" {
		t.Errorf("message 4 is a minute old, and the history has %q", got)
	}
	if got := after(&h, "a", 4, 5, at(64*time.Second)); got != "5" {
		t.Errorf("message 5 is not a minute old, and the history has %q", got)
	}
	h.Drop("a")
	if a, b := after(&h, "a", 4, 5, at(64*time.Second)), after(&h, "b", 0, 1, at(64*time.Second)); a != "none" || b != "1" {
		t.Errorf("after a was dropped: got %q of a and %q of b", a, b)
	}
}

// The bytes are those of all rooms: the oldest message goes, whosever it is.
func TestHistoryBytes(t *testing.T) {
	h := room.NewHistory(room.HistoryConfig{Messages: 100, Age: time.Hour, Bytes: 3000})
	h.Add("a", 1, message(1, 800), at(0))
	h.Add("b", 1, message(1, 800), at(1))
	h.Add("a", 2, message(2, 800), at(2))
	if got := after(&h, "a", 0, 2, at(3)); got != "1 2" {
		t.Fatalf("got %q, want all within 3,000 bytes", got)
	}
	h.Add("b", 2, message(2, 800), at(3))
	if a, b := after(&h, "a", 0, 2, at(4)), after(&h, "b", 0, 2, at(4)); a != "none" || b != "1 2" {
		t.Errorf("got %q of a and %q of b, want the first message of a to be gone", a, b)
	}
	h.Add("c", 1, message(1, 5000), at(5)) // larger than all that may be
	for _, name := range []room.Name{"a", "b", "c"} {
		if got := after(&h, name, 0, 1, at(6)); got != "none" {
			t.Errorf("%s still has %q", name, got)
		}
	}
}

// What replays hold of messages that the history has let go of is counted once,
// until the last of them is released.
func TestHistoryHeld(t *testing.T) {
	h := room.NewHistory(room.HistoryConfig{Messages: 2, Age: time.Minute, Bytes: 1 << 20})
	held := func(want int) {
		t.Helper()
		if got := h.Held(); got != want {
			t.Errorf("%d bytes are held, want %d", got, want)
		}
	}
	h.Add("a", 1, message(1, 100), at(0))
	h.Add("a", 2, message(2, 100), at(0))
	one, _ := h.After("a", 0, 2, at(0))
	two, _ := h.After("a", 1, 2, at(0))
	none, _ := h.After("a", 2, 2, at(0))
	if held(0); one.Late() || two.Late() || none.Late() {
		t.Error("they are late while all is there")
	}
	h.Add("a", 3, message(3, 100), at(0))
	if held(300); !one.Late() || two.Late() {
		t.Error("want one of them late, whose first message is gone")
	}
	h.Drop("a")
	held(600)
	h.Release(one)
	h.Release(one)
	held(300)
	if events := two.Events(); len(events) != 1 || events[0][0] != '2' {
		t.Errorf("two has %q", events)
	}
	h.Release(two)
	h.Release(none)
	held(0)
}

// Whatever is added, dropped and asked for, what comes is the whole run up to
// the end, and it is there whenever the bounds allow.
func TestHistoryAgainstReference(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	h := room.NewHistory(room.HistoryConfig{Messages: 20, Age: 10 * time.Second, Bytes: 40_000})
	type kept struct {
		room room.Name
		seq  uint64
		at   time.Time
		size int
	}
	var all []kept // the oldest first
	seqs := map[room.Name]uint64{}
	now := start
	for step := range 20_000 {
		name := room.Name(fmt.Sprint(rnd.IntN(5)))
		switch rnd.IntN(20) {
		case 0:
			now = now.Add(time.Duration(rnd.Int64N(int64(3 * time.Second))))
		case 1:
			h.Drop(name)
			var rest []kept
			for _, k := range all {
				if k.room != name {
					rest = append(rest, k)
				}
			}
			all = rest
		default:
			seqs[name]++
			size := 10 + rnd.IntN(2000)
			h.Add(name, seqs[name], message(seqs[name], size), now)
			all = append(all, kept{name, seqs[name], now, size + 200})
		}
		// The bounds, from the newest back.
		asked := room.Name(fmt.Sprint(rnd.IntN(5)))
		of, bytes, over := map[room.Name]int{}, 0, false
		var rest []kept
		var want []uint64
		for _, k := range slices.Backward(all) {
			of[k.room]++
			if of[k.room] > 20 || now.Sub(k.at) >= 10*time.Second {
				continue
			}
			if bytes += k.size; over || bytes > 40_000 {
				over = true
				continue
			}
			rest = append(rest, k)
			if k.room == asked {
				want = append(want, k.seq)
			}
		}
		all = rest
		slices.Reverse(all)
		slices.Reverse(want)
		end := seqs[asked]
		from := end - uint64(len(want))
		if got, want := after(&h, asked, from, end, now), strings.Trim(fmt.Sprint(want), "[]"); got != want {
			t.Fatalf("step %d: after %d of %d: got %q, want %q", step, from, end, got, want)
		}
		if from > 0 && after(&h, asked, from-1, end, now) != "none" {
			t.Fatalf("step %d: message %d is kept past its bounds", step, from)
		}
	}
}

func TestRetries(t *testing.T) {
	r := room.NewRetries(2*time.Minute, 3)
	r.Add("a", "alice", "1", 7, at(0))
	for _, c := range []struct {
		room  room.Name
		user  room.UserID
		id    string
		after time.Duration
		found bool
	}{
		{"a", "alice", "1", 0, true},
		{"a", "bob", "1", 0, false},
		{"b", "alice", "1", 0, false},
		{"a", "alice", "2", 0, false},
		{"a", "alice", "1", 2*time.Minute - 1, true},
		{"a", "alice", "1", 2 * time.Minute, false},
	} {
		seq, found := r.Find(c.room, c.user, c.id, at(c.after))
		if found != c.found || found && seq != 7 {
			t.Errorf("%+v: got %d, %v", c, seq, found)
		}
	}
	for i := range 3 {
		if r.Full(at(3 * time.Minute)) {
			t.Fatalf("full with %d of 3", i)
		}
		r.Add("a", "alice", fmt.Sprint("n", i), 1, at(3*time.Minute))
	}
	if !r.Full(at(4*time.Minute)) || r.Full(at(5*time.Minute)) {
		t.Error("want it full until the first is two minutes old")
	}
}

func TestBans(t *testing.T) {
	b := room.NewBans(2)
	if err := b.Add("a", "alice", at(time.Minute), at(0)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		room  room.Name
		user  room.UserID
		after time.Duration
		want  time.Time
	}{
		{"a", "alice", 0, at(time.Minute)},
		{"a", "alice", time.Minute - 1, at(time.Minute)},
		{"a", "alice", time.Minute, time.Time{}},
		{"a", "bob", 0, time.Time{}},
		{"b", "alice", 0, time.Time{}},
	} {
		if got := b.Until(c.room, c.user, at(c.after)); !got.Equal(c.want) {
			t.Errorf("%+v: got %v", c, got)
		}
	}
	if err := b.Add("a", "bob", at(time.Hour), at(0)); err != nil {
		t.Fatal(err)
	}
	if err := b.Add("a", "carol", at(time.Hour), at(0)); err != room.ErrBansFull {
		t.Errorf("a third of two: got %v", err)
	}
	if err := b.Add("a", "carol", at(time.Hour), at(time.Minute)); err != nil {
		t.Errorf("once the first has ended: got %v", err)
	}
}

func TestParsePosition(t *testing.T) {
	for id, want := range map[string]bool{
		"c0f36dcac9-0": true, "e-18446744073709551615": true,
		"": false, "-": false, "e-": false, "-1": false, "e": false, "e--1": false, "e-+1": false, "e-01": false, "e-1-2": false,
		"e-18446744073709551616": false, "e-1 ": false, "e-é": false,
	} {
		if p, ok := room.ParsePosition(id); ok != want || ok && p.String() != id {
			t.Errorf("ParsePosition(%q) = %v, %v", id, p, ok)
		}
	}
}
