//go:build !race

package main

import (
	"net/http"
	"testing"
	"time"
)

// fairDelay is the most that the 99th percentile of the delays of healthy streams may be beside an
// attack. Alone, it is some 10 ms. Other work may keep the machine busy beside the short tests.
func fairDelay() time.Duration {
	return sized(3*time.Second, 3*time.Second, 100*time.Millisecond)
}

// A user that repeats one kind of request as often as it can delays no message of another room, as
// the server limits each kind. A moderate sender is not limited.
func TestFaultFairRates(t *testing.T) {
	for _, c := range []struct {
		name    string
		attack  attack
		members int  // of the attacked room
		info    int  // of the members
		free    bool // no request may be limited
	}{
		{"none", attack{}, 0, 0, true},
		{"joins", attack{Do: "joins"}, largeUsers, largeInfo, false},
		{"states", attack{Do: "states"}, largeUsers, largeInfo, false},
		{"own states", attack{Do: "states"}, 0, 0, false},
		{"lists", attack{Do: "lists"}, 1000, 0, false},
		{"messages", attack{Do: "history", Size: 65_000}, sized(500, 500, 1500), 0, false},
		{"moderate", attack{Do: "moderate", Size: 1 << 10, Rate: 20}, sized(500, 500, 1500), 0, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := startAttacked(t, "--cost-burst="+sized("4MiB", "4MiB", "96MiB")) // 96MiB last for seconds
			lost := func() int { return 0 }
			if c.members > 0 {
				f := s.members(c.members, 0, c.info)
				lost = func() int { return f.do(loadOrder{Do: "report"}).Lost }
			}
			h := s.startHealthy("healthy", sized(50, 50, 100), 100, 100*time.Millisecond)
			c.attack.Addr, c.attack.User, c.attack.Room = s.addr, "attacker", largeRoom
			c.attack.Time = sized(700*time.Millisecond, 700*time.Millisecond, 10*time.Second)
			used := s.use()
			var done attackReport
			if c.attack.Do == "" {
				until(t, time.Now().Add(c.attack.Time))
			} else {
				done = startAttack(t, c.attack).wait()
			}
			server := used.since()
			d := h.finish()
			t.Logf("%v; server: %s; attack: %v; %d members lost", d, server, done, lost())
			if d.p99 > fairDelay() {
				t.Errorf("99th percentile of the healthy streams: got %v, want %v", d.p99, fairDelay())
			}
			limited := done.Statuses[http.StatusTooManyRequests] + done.Full
			if c.free && limited > 0 {
				t.Errorf("got %d requests limited, want 0", limited)
			}
			if !c.free && limited == 0 {
				t.Errorf("none of %d requests limited (429, or goodbye full)", done.Accepted)
			}
		})
	}
}
