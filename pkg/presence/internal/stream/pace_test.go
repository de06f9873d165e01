package stream

import (
	"fmt"
	"testing"
	"time"

	"example.com/presence/pkg/presence/internal/socket"
)

// step is one step of TestPace. It calls a method of the pace and returns the result: "slow",
// "timeout", "go on" or the deadline.
type step func(p *pace, now time.Duration) string

var defaults = Config{}.withDefaults()

func (p *pace) result(end End) string {
	switch {
	case end != "":
		return string(end)
	case p.deadline == 0:
		return "go on"
	}
	return fmt.Sprint("until ", p.deadline)
}

func blocked(unsent int, private bool) step {
	return func(p *pace, now time.Duration) string {
		p.blocked(&defaults, now, load{unsent, private})
		return p.result("")
	}
}

func begin(unsent int, private bool) step {
	return func(p *pace, now time.Duration) string {
		p.begin(&defaults, now, load{unsent, private})
		return p.result("")
	}
}

func queued(unsent int, private bool) step {
	return func(p *pace, now time.Duration) string {
		if !p.queued(&defaults, now, load{unsent, private}) {
			return p.result(Slow)
		}
		return p.result("")
	}
}

func wrote(n int) step {
	return func(p *pace, _ time.Duration) string { p.wrote(n); return p.result("") }
}

func wroteAll(p *pace, _ time.Duration) string { p.wroteAll(); return p.result("") }

func end(p *pace, now time.Duration) string { p.end(now, 2*time.Second); return p.result("") }

func late(p *pace, now time.Duration) string { return fmt.Sprint("late: ", p.late(now)) }

// observe returns a step that observes a client with a small backlog.
func observe(acked, written uint64) step { return observeLoad(acked, written, load{unsent: 1}, false) }

// observeLost returns a step that observes a client that did not acknowledge retransmitted data.
func observeLost(acked, written uint64) step {
	return observeLoad(acked, written, load{unsent: 1}, true)
}

func observeLoad(acked, written uint64, l load, lost bool) step {
	return func(p *pace, now time.Duration) string {
		liveness := socket.Liveness{Acked: acked, Written: written}
		if lost {
			liveness.Silent, liveness.Sent = time.Minute, time.Second
		}
		return p.result(p.observe(&defaults, now, liveness, l))
	}
}

func TestPace(t *testing.T) { // promises 4 and 5
	const (
		max  = 256 << 10
		more = max + 1
	)
	type scenario []struct {
		at   float64 // in seconds
		do   step
		want string
	}
	for name, steps := range map[string]scenario{
		"below MaxUnsent, it must read something in 15 s": {
			{1, blocked(1000, false), "until 16s"}, {10, blocked(1000, false), "until 16s"},
			{15, late, "late: false"}, {16, late, "late: true"},
		},
		"below MaxUnsent, any byte moves the deadline": {
			{1, blocked(1000, false), "until 16s"}, {10, wrote(1), "until 16s"}, {10, blocked(1000, false), "until 25s"},
		},
		"at MaxUnsent, it has 15 s": {{1, blocked(max, false), "until 16s"}, {2, queued(max, false), "until 16s"}},
		"above MaxUnsent, it must read 32 KiB per second": {
			{1, blocked(more, false), "until 2s"},
			{1.5, wrote(31 << 10), "until 2s"}, {1.5, blocked(more, false), "until 2s"}, {2, late, "late: true"},
		},
		"above MaxUnsent, a piece moves the deadline": {
			{1, blocked(more, false), "until 2s"},
			{1, wrote(31 << 10), "until 2s"}, {1, wrote(1 << 10), "until 2s"},
			{1.5, blocked(more, false), "until 2.5s"}, {2, wrote(1), "until 2.5s"}, {2, blocked(more, false), "until 2.5s"},
		},
		"above MaxUnsent, an acknowledgement does not count": {
			{1, blocked(more, false), "until 2s"}, {2, observeLoad(9, 10, load{more, false}, false), "until 2s"},
		},
		"it has 1 s from the event that exceeds MaxUnsent": {
			{1, blocked(max, false), "until 16s"}, {5, queued(more, false), "until 6s"}, {6, queued(more, false), "until 6s"},
		},
		"it has 1 s from the write that exceeds MaxUnsent": {{1, blocked(max, false), "until 16s"}, {5, blocked(more, false), "until 6s"}},
		"back below MaxUnsent, it has 15 s again after it read something": {
			{1, blocked(more, false), "until 2s"}, {1, blocked(max, false), "until 2s"},
			{1, wrote(1), "until 2s"}, {1, blocked(max, false), "until 16s"},
		},
		"above 16 times MaxUnsent, it is slow immediately": {
			{1, queued(16*max, false), "go on"}, {1, queued(16*max+1, false), "slow"}, {1, queued(16*max+1, true), "slow"},
		},
		"during a replay, it must read something in 15 s": {
			{1, blocked(16*max, true), "until 16s"}, {2, queued(16*max, true), "until 16s"},
			{9, wrote(1), "until 16s"}, {9, blocked(16*max, true), "until 24s"},
			{20, observeLoad(9, 10, load{16 * max, true}, false), "until 35s"},
		},
		"an acknowledgement moves the deadline": {
			{1, blocked(1000, false), "until 16s"}, {5, observe(10, 99), "until 20s"}, {6, observe(10, 99), "until 20s"}, {9, observe(11, 99), "until 24s"},
		},
		"a client without a backlog has no deadline": {
			{1, observe(10, 99), "go on"}, {2, queued(more, false), "go on"}, {3, blocked(1, false), "until 18s"}, {4, wroteAll, "go on"},
			{5, late, "late: false"}, {5, blocked(1, false), "until 20s"},
		},
		"between two writes the deadline does not pass": {
			{1, begin(more, false), "until 2s"}, {1, begin(more, false), "until 2s"}, {3, begin(more, false), "until 4s"},
		},
		"the deadline of the goodbye does not move": {
			{1, blocked(1000, false), "until 16s"}, {2, end, "until 4s"}, {2, wrote(piece), "until 4s"}, {3, blocked(1000, false), "until 4s"},
			{3, observe(10, 99), "until 4s"}, {2.5, queued(more, false), "until 4s"}, {3, wroteAll, "until 4s"}, {5, begin(1, false), "until 4s"}, {5, late, "late: true"},
		},
		"vanished: a ping is not acknowledged in 12 parts of a heartbeat": {
			{15, observe(10, 10), "go on"}, {16, observe(10, 30), "go on"},
			{27, observeLost(10, 30), "go on"}, {28, observeLost(10, 30), "timeout"},
		},
		"vanished during the goodbye": {
			{16, observe(10, 30), "go on"}, {17, end, "until 19s"}, {28, observeLost(10, 30), "timeout"},
		},
		"it has time to acknowledge, however long nothing was sent before": {
			{15, observe(10, 10), "go on"}, {60, observeLost(10, 30), "go on"}, {61, observeLost(10, 30), "go on"},
			{70, observe(30, 30), "go on"}, {71, observeLost(30, 50), "go on"},
		},
		"it acknowledges something every 14 s": {
			{15, observe(10, 99), "go on"}, {29, observe(11, 99), "go on"}, {43, observe(12, 99), "go on"}, {57, observe(13, 99), "go on"}, {71, observe(13, 99), "go on"},
		},
		"it acknowledges none of the data in the kernel for 15 s": {
			{15, observe(10, 30), "go on"}, {29, observe(10, 30), "go on"}, {30, observe(10, 40), "slow"},
		},
		"it acknowledges none of the data in the kernel, during the goodbye": {
			{15, observe(10, 30), "go on"}, {16, end, "until 18s"}, {30, observe(10, 40), "until 18s"},
		},
		"the kernel holds no data for it, however long": {
			{15, observe(10, 10), "go on"}, {99, observe(10, 10), "go on"}, {999, observeLost(10, 10), "go on"},
		},
		"the kernel no longer has statistics for it": {{15, observe(10, 30), "go on"}, {30, observe(0, 0), "go on"}},
		"the kernel's statistics are unknown":        {{1, observe(0, 0), "go on"}, {999, observe(0, 0), "go on"}},
	} {
		p := pace{debt: &debt{}}
		for i, s := range steps {
			if got := s.do(&p, time.Duration(s.at*1000)*time.Millisecond); got != s.want {
				t.Errorf("%s: step %d, at %v s: got %q, want %q", name, i, s.at, got, s.want)
			}
		}
	}
}

// A client that does not read enough has vanished if it did not acknowledge retransmitted data.
// Otherwise, it is a slow consumer.
func TestTooSlow(t *testing.T) { // promise 5
	for liveness, want := range map[socket.Liveness]End{
		{}:                       Slow,
		{Acked: 10, Written: 30}: Slow,
		{Acked: 10, Written: 30, Silent: 2 * time.Second, Sent: time.Second}:        Timeout,
		{Acked: 10, Written: 30, Silent: 900 * time.Millisecond, Sent: time.Second}: Slow,
		{Acked: 10, Written: 30, Silent: 2 * time.Second, Probes: 2}:                Timeout,
	} {
		if got := defaults.tooSlow(liveness); got != want {
			t.Errorf("%+v: got %q, want %q", liveness, got, want)
		}
	}
}
