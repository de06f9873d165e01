//go:build !race

package main

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// All streams of an application may have the same user. After a restart of the server all connect
// again, and none is refused, also not if another user floods the server meanwhile.
func TestFaultFairReconnect(t *testing.T) {
	for _, flood := range []bool{false, true} {
		t.Run(fmt.Sprintf("flood %v", flood), func(t *testing.T) {
			clients := sized(1500, 1500, 15_000)
			listen := "--listen=" + freeAddr(t)
			s := startAttacked(t, listen)
			f := startFleet(t, 1)
			all := loadOrder{Do: "open", Addrs: []string{s.addr}, Clients: clients, Users: 1,
				Browser: true, Lenient: true, InFlight: 256}
			began := time.Now()
			f.do(all)
			counted(t, f, "before", clients, began)
			attacking := func() {}
			if flood {
				attacking = s.flood()
			}
			used := s.use()
			began = time.Now()
			sendSignal(t, s.process, unix.SIGTERM)
			if err := s.process.Wait(); err != nil {
				t.Errorf("server: got %v at its exit, want status 0", err)
			}
			t.Logf("exit after %.1f s", time.Since(began).Seconds())
			s = startAttacked(t, listen)
			used.s, used.cpu, used.sent, used.at = s, 0, 0, time.Now()
			counted(t, f, "after the restart", clients, used.at)
			t.Logf("server: %s", used.since())
			attacking()
			if r := f.do(loadOrder{Do: "report"}); r.Full > 0 {
				t.Errorf("got %d goodbyes full, want 0", r.Full)
			}
		})
	}
}

// counted waits until all clients are connected and have their user count.
func counted(t *testing.T, f *fleet, when string, clients int, since time.Time) {
	t.Helper()
	r := f.do(loadOrder{Do: "await", Want: clients, Within: sized(patience, patience, 5*patience)})
	took := time.Since(since).Seconds()
	t.Logf("%s: %d streams of %d users are open after %.1f s, %d connections made again",
		when, r.Open, r.Users, took, r.Retries)
	if r.Open != clients || len(r.Wrong) > 0 || r.Users != 1 {
		t.Fatalf("%s: got %d streams, with the wrong count: %v, want %d", when, r.Open, r.Wrong, clients)
	}
}

// flood begins with joins into a room with a large sync, and with large messages to this room, by
// one user. It returns a function that ends the flood.
func (s *attacked) flood() (end func()) {
	s.t.Helper()
	members := startFleet(s.t, 1)
	members.do(loadOrder{Do: "open", Addrs: []string{s.addr}, From: 100_000, Clients: largeUsers,
		FirstRoom: 1, Info: largeInfo, Browser: true, Lenient: true})
	a := attack{Addr: s.addr, User: "attacker", Room: "room-1", Size: 64_000, Time: time.Hour}
	var attacking []*attackProcess
	for _, a.Do = range []string{"joins", "history"} {
		attacking = append(attacking, startAttack(s.t, a))
	}
	return func() {
		for _, p := range attacking {
			s.t.Logf("flood: %v", p.stop())
		}
		r := members.do(loadOrder{Do: "report"})
		s.t.Logf("flooded room: %d streams open, %d connections made again", r.Open, r.Retries)
	}
}
