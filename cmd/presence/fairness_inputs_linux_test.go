//go:build !race

package main

// The tests in this file run one attack each of users that stay within the limits of the server,
// beside honest clients, which must not notice it. A server that shares its resources by the order
// of arrival fails them. The full sizes need PRESENCE_TEST_LONG=1:
//
//	PRESENCE_TEST_LONG=1 go test -count=1 -v -timeout 1h -run TestFaultFair ./cmd/presence
//
// The tests are not parallel, because they measure delays.

import (
	"fmt"
	"testing"
	"time"
)

// The room of the members with a large info: their sync has some 540 KB.
const (
	largeRoom  = "room-0"
	largeUsers = 480
	largeInfo  = 1 << 10
)

// A user that opens many streams and reads none takes no snapshot from other users: a new user with
// a slow line gets its own at the first try.
func TestFaultFairSnapshots(t *testing.T) {
	s := startAttacked(t)
	// The short test has one victim, which reads faster. So that it meets enough unread snapshots,
	// the attacker opens streams in three rooms.
	rooms, rate := sized(3, 3, 1), sized(120_000, 120_000, 60_000)
	for room := range rooms {
		s.members(largeUsers, room, largeInfo)
	}
	rss, used, began := s.watchMemory(), s.use(), time.Now()
	attacking := startAttack(t, attack{Do: "snapshots", Addr: s.addr, User: "attacker",
		Room: "room", Rooms: rooms, Rate: 20 * float64(rooms), Time: 40 * time.Second})
	var victims []*steadyReader
	for _, after := range sized([]float64{0.5}, []float64{0.5}, []float64{10, 20, 30}) {
		until(t, began.Add(time.Duration(after*float64(time.Second))))
		user := fmt.Sprintf("victim-%v", after)
		victims = append(victims, s.open(&steadyReader{user: user, room: largeRoom, rate: rate}))
	}
	for _, v := range victims {
		ok := v.joined(patience)
		t.Logf("%v, %.1f s after the start of the attack", v, time.Since(began).Seconds())
		if !ok {
			t.Errorf("%s: no sync and user count at the first try", v.user)
		}
	}
	t.Logf("attack: %v", attacking.stop())
	t.Logf("server: %s", used.since())
	_, text := rss.report()
	t.Log(text)
}

// unsentBound is the most that the memory of the server may grow for the messages that a few users
// do not read: --max-unsent-total, the requests on their way, and the garbage of both.
const unsentBound = 192 << 20

// Users that read slowly hold a bounded part of the memory, and delay no message of another room.
// Some read just as fast as a client with a large backlog must. Others keep a small backlog in each
// of many rooms, and read hardly anything.
func TestFaultFairUnsent(t *testing.T) {
	for _, c := range []attack{
		{Do: "unsent", Rooms: 16, Rate: 36_000, Time: 2 * time.Second},
		{Do: "hoard", Count: 4, Rate: 1000, Buffer: 4096, Time: 4 * time.Second},
	} {
		t.Run(c.Do, func(t *testing.T) {
			s := startAttacked(t, "--history=0")
			h := s.startHealthy("calm", 10, 1<<10, sized(time.Second/4, time.Second/4, time.Second))
			before, rss, used := residentSet(t, s.process), s.watchMemory(), s.use()
			c.Addr, c.Size = s.addr, 64_000
			c.Time = sized(c.Time, c.Time, time.Minute)
			s.hold(c, sized(24, 24, 3))
			d := h.finish()
			peak, text := rss.report()
			t.Logf("%v; server: %s; %s, before: %d MB", d, used.since(), text, before>>20)
			if most := sized(3*time.Second, 3*time.Second, time.Second); d.max > most {
				t.Errorf("calm room: got a message after %v, want at most %v", d.max, most)
			}
			if grown := peak<<20 - before; grown > unsentBound {
				t.Errorf("memory grew by %d MB, want at most %d MB", grown>>20, unsentBound>>20)
			}
		})
	}
}

// hold runs the attack by several users until it ends, and logs the unsent bytes of the server.
func (s *attacked) hold(a attack, users int) {
	s.t.Helper()
	var attacking []*attackProcess
	for i := range users {
		a.User = fmt.Sprintf("attacker-%d", i)
		a.Room = a.User
		attacking = append(attacking, startAttack(s.t, a))
	}
	until(s.t, time.Now().Add(a.Time-time.Second/2))
	m := s.metrics()
	s.t.Logf("unsent near the end: %.1f MB in %v connections; %v streams ended as slow",
		m["presence_backlog_bytes"]/1e6, m["presence_backlogged_connections"],
		m[`presence_streams_ended_total{reason="slow"}`])
	for i, p := range attacking {
		if done := p.wait(); i == 0 {
			s.t.Logf("attack, one of %d: %v", users, done)
		}
	}
}

// A user that opens streams in as many rooms as it can leaves room for the rooms of other users.
func TestFaultFairRooms(t *testing.T) {
	for _, do := range []string{"hold", "reopen"} {
		t.Run(do, func(t *testing.T) {
			s := startAttacked(t, "--max-rooms=300")
			attacking := startAttack(t, attack{Do: do, Addr: s.addr, User: "attacker", Room: "doc",
				Time: time.Hour})
			seconds := sized(2*time.Second, 2*time.Second, 5*time.Second)
			until(t, time.Now().Add(seconds))
			refused, late := 0, 0
			for user := range 10 {
				for room := range 5 {
					v := s.open(&steadyReader{user: fmt.Sprintf("victim-%d", user),
						room: fmt.Sprintf("own-%d-%d", user, room)})
					if v.joined(patience) {
						continue
					}
					if refused++; v.has("goodbye") == 0 {
						late++
					}
				}
			}
			t.Logf("attack: %v; the server has %v rooms", attacking.stop(),
				s.metrics()["presence_rooms"])
			if refused > 0 {
				t.Errorf("%d of 50 streams refused, %d of them without a goodbye", refused, late)
			}
		})
	}
}

// With the default limit, the rooms that one user makes with messages, or with streams that it
// closes at once, take little memory.
func TestFaultFairManyRooms(t *testing.T) {
	for _, do := range []string{"posts", "reopen"} {
		t.Run(do, func(t *testing.T) {
			s := startAttacked(t)
			before, rss := residentSet(t, s.process), s.watchMemory()
			done := startAttack(t, attack{Do: do, Addr: s.addr, User: "attacker", Room: "doc",
				Size: 100, Time: sized(time.Second, time.Second, 10*time.Second)}).wait()
			peak, text := rss.report()
			rooms := int(s.metrics()["presence_rooms"])
			t.Logf("attack: %v; the server has %d rooms; %s", done, rooms, text)
			bound := 16<<20 + rooms*(3<<10) // an unused room needs at most 3 KB
			if grown := peak<<20 - before; grown > bound {
				t.Errorf("memory grew by %d MB, want at most %d MB", grown>>20, bound>>20)
			}
		})
	}
}

// A user that sends large messages to its own rooms does not push the few small messages of another
// room out of the history.
func TestFaultFairHistory(t *testing.T) {
	const messages = 50
	s := startAttacked(t, "--history-bytes="+sized("4MiB", "4MiB", "64MiB"))
	v := s.open(&steadyReader{user: "victim", room: "small"})
	if !v.joined(patience) {
		t.Fatalf("not joined: %v", v)
	}
	if done := startAttack(t, attack{Do: "history", Addr: s.addr, User: "sender", Room: "small",
		Size: 100, Count: messages, Time: patience}).wait(); done.Accepted != messages {
		t.Fatalf("got %v, want %d messages", done, messages)
	}
	all := func() bool { return v.has("message") == messages }
	eventually(t, patience, "the victim has its messages", all)
	v.close()

	done := startAttack(t, attack{Do: "history", Addr: s.addr, User: "attacker", Room: "flood",
		Rooms: 2, Size: 65_000, Count: sized(90, 90, 1080), Time: 2 * patience}).wait()
	m := s.metrics()
	t.Logf("attack: %v; history: %.1f MB, %v evictions", done, m["presence_history_bytes"]/1e6,
		m["presence_history_evictions_total"])
	again := s.open(&steadyReader{user: "victim", room: "small", resume: v.first})
	if !again.joined(patience) {
		t.Fatalf("not joined: %v", again)
	}
	t.Log(again)
	if got, resets := again.has("message"), again.has("reset"); got != messages-1 || resets > 0 {
		t.Errorf("got %d messages and %d resets, want %d and 0", got, resets, messages-1)
	}
}
