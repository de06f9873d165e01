package presence_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence"
)

// Promise 2: a joiner receives its sync and count immediately or at the end of the flush interval.
// In each case, the first count of alice, an earlier client, starts the interval.
func TestPromise2JoinsAtOnce(t *testing.T) {
	info := func(user string, size int) presence.User {
		u := testUser(user)
		u.Info = json.RawMessage(`"` + strings.Repeat("x", size-2) + `"`)
		return u
	}
	for name, c := range map[string]struct {
		early     string                           // events of alice before the interval ends
		limit     int                              // Config.MemberLimit
		before    int                              // users in addition to alice, each with an info of 1,000 bytes
		join      func(b *bubble) *clientStream    // within the interval; returns the joiner to check
		after     func(b *bubble, a *clientStream) // after join, within the interval
		immediate string                           // events of the joiner before the interval ends
		end       string                           // events of the joiner at the end of the interval
		alice     string                           // events of alice at the end of the interval
	}{
		"a connection of a member": {
			join:      func(b *bubble) *clientStream { return b.stream("/events", "", testUser("alice")) },
			immediate: " sync user count:2", end: "user count:2", alice: "user count:2",
		},
		"the count is again the last published one": {
			join:      func(b *bubble) *clientStream { return b.stream("/events", "", testUser("alice")) },
			after:     func(b *bubble, a *clientStream) { a.close() },
			immediate: " sync user count:2", end: "user count:1",
		},
		"the second of two joiners has the published count": {
			join: func(b *bubble) *clientStream {
				first := b.stream("/events", "", testUser("alice"))
				b.stream("/events", "", testUser("alice"))
				return first
			},
			after:     func(b *bubble, a *clientStream) { a.close(); b.stream("/events", "", testUser("alice")).close() },
			immediate: " sync user count:2", end: "user count:2",
		},
		"a new member": {
			join: func(b *bubble) *clientStream { return b.stream("/events", "", testUser("bob")) },
			end:  " sync user count:2", alice: "join user count:2",
		},
		"a member change is pending": {
			join: func(b *bubble) *clientStream {
				b.ask("PUT", "/state", `{"a":1}`, testUser("alice"))
				return b.stream("/events", "", testUser("alice"))
			},
			end: " sync user count:2", alice: "update user count:2",
		},
		"a snapshot of over 4 KiB": {
			before: 4,
			join:   func(b *bubble) *clientStream { return b.stream("/events", "", testUser("alice")) },
			end:    " sync user count:6", alice: "user count:6",
		},
		"a snapshot of under 4 KiB": {
			before:    3,
			join:      func(b *bubble) *clientStream { return b.stream("/events", "", testUser("alice")) },
			immediate: " sync user count:5", end: "user count:5", alice: "user count:5",
		},
		"a room that sends counts only": {
			limit: 5, before: 5,
			join:      func(b *bubble) *clientStream { return b.stream("/events", "", info("bob", 1000)) },
			immediate: " sync user count:7", end: "user count:7", alice: "user count:7",
		},
		"the member limit is crossed": {
			limit: 2, before: 1,
			join:      func(b *bubble) *clientStream { return b.stream("/events", "", testUser("bob")) },
			immediate: " sync user count:3", early: "sync", end: "user count:3", alice: "user count:3",
		},
	} {
		t.Run(name, func(t *testing.T) {
			config := presence.Config{Coalesce: 750 * time.Millisecond, MemberLimit: c.limit}
			inBubble(t, config, func(t *testing.T, b *bubble) {
				for i := range c.before {
					b.stream("/events", "", info(fmt.Sprint("user-", i), 1000))
				}
				time.Sleep(2 * time.Second)
				alice := b.stream("/events", "", testUser("alice"))
				alice.take()
				joiner := c.join(b)
				if got := names(joiner.take()); strings.TrimPrefix(got, " ") != strings.TrimPrefix(c.immediate, " ") {
					t.Errorf("joiner before the interval ends: got %q, want %q", got, c.immediate)
				}
				if got := names(alice.take()); got != c.early {
					t.Errorf("alice before the interval ends: got %q, want %q", got, c.early)
				}
				if c.after != nil {
					c.after(b, alice)
				}
				time.Sleep(750*time.Millisecond - 1)
				if got := names(append(joiner.take(), alice.take()...)); got != "" {
					t.Errorf("1 ns before the interval ends: got %q, want no event", got)
				}
				time.Sleep(time.Nanosecond)
				if got := names(joiner.take()); got != strings.TrimPrefix(c.end, " ") {
					t.Errorf("joiner at the end of the interval: got %q, want %q", got, c.end)
				}
				if got := names(alice.take()); got != c.alice {
					t.Errorf("alice at the end of the interval: got %q, want %q", got, c.alice)
				}
			})
		})
	}
}

// Promises 2 and 6: while a room falls below the member limit, a joiner receives a sync without
// members and the count immediately. Later it receives the members at the same time as all other
// clients, in a sync that is encoded only once.
func TestPromise2And6JoinAtTheCrossing(t *testing.T) {
	config := presence.Config{Coalesce: 750 * time.Millisecond, MemberLimit: 10, Linger: -1}
	inBubble(t, config, func(t *testing.T, b *bubble) {
		var streams []*clientStream
		for i := range 11 {
			u := testUser(fmt.Sprint("user-", i))
			u.Info = json.RawMessage(`"` + strings.Repeat("x", 1000) + `"`)
			streams = append(streams, b.stream("/events", "", u))
		}
		time.Sleep(11 * time.Second)
		stays := streams[0]
		if got := names(stays.take()); !strings.HasSuffix(got, "sync user count:11") {
			t.Fatalf("got %q, want sync and the count 11 last", got)
		}
		for _, c := range streams[8:] { // the first count is sent immediately and starts the interval
			c.close()
		}
		stays.take()
		joiner := b.stream("/events", "", testUser("user-1"))
		if got := joiner.take(); names(got) != " sync user count:9" || !strings.Contains(got[1].data, `"complete":false`) {
			t.Errorf("joiner before the interval ends: got %+v, want sync without members and the count 9", got)
		}
		before := b.Stats().Snapshots
		time.Sleep(750 * time.Millisecond)
		for _, c := range []*clientStream{joiner, stays} {
			if got := c.take(); names(got) != "sync user count:9" || !strings.Contains(got[0].data, `"complete":true`) || len(got[0].data) < 8000 {
				t.Errorf("at the end of the interval: got %+v, want sync with members and the count 9", got)
			}
		}
		if n := b.Stats().Snapshots - before; n != 1 {
			t.Errorf("got %d encoded snapshots, want 1", n)
		}
	})
}

// A user leaves at the end of its grace period, even while a pending change of the room waits for
// the end of a flush interval.
func TestLingerEndsWithinAnInterval(t *testing.T) {
	config := presence.Config{Coalesce: 750 * time.Millisecond, MemberLimit: 10, Linger: 5 * time.Second}
	inBubble(t, config, func(t *testing.T, b *bubble) {
		var streams []*clientStream
		for i := range 12 {
			streams = append(streams, b.stream("/events", "", testUser(fmt.Sprint("user-", i))))
		}
		time.Sleep(20 * time.Second) // so that the room sends members again as soon as enough users leave
		for _, c := range streams[:4] {
			c.close()
		}
		time.Sleep(300 * time.Millisecond)
		streams[4].close()
		time.Sleep(4600 * time.Millisecond)
		b.stream("/events", "", testUser("user-11")) // an interval begins
		// Four users leave after 100 ms, so that a sync with members is pending. The fifth user
		// leaves after 400 ms.
		time.Sleep(400 * time.Millisecond)
		synctest.Wait()
		members, err := b.Members(t.Context(), "lobby")
		if err != nil || len(members) != 7 {
			t.Errorf("got %d members, %v; want 7: the grace period of five has ended", len(members), err)
		}
	})
}
