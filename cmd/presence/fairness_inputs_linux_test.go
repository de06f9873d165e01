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

// The room of the members with a large info: their sync has some 558 KB.
const (
	largeRoom  = "room-0"
	largeUsers = 480
	largeInfo  = 1000
)

// A user that opens many streams and reads none takes no snapshot from other users: a new user with
// a slow line gets its own at the first try.
func TestFaultFairSnapshots(t *testing.T) {
	s := startAttacked(t)
	s.members(largeUsers, 0, largeInfo)
	rss := s.watchMemory()
	used := s.use()
	began := time.Now()
	attacking := startAttack(t, attack{Do: "snapshots", Addr: s.addr, User: "attacker",
		Room: largeRoom, Rate: 20, Time: sized(20*time.Second, 20*time.Second, 40*time.Second)})
	// The short test has one victim, which reads faster, as it does not wait so long.
	rate := sized(120_000, 120_000, 60_000)
	var victims []*steadyReader
	for _, after := range sized([]int{3}, []int{3}, []int{10, 20, 30}) {
		until(t, began.Add(time.Duration(after)*time.Second))
		user := fmt.Sprintf("victim-%d", after)
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
