package presence_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"example.com/presence/pkg/presence"
	"example.com/presence/pkg/presence/internal/rates"
)

// A user that has exceeded its cost rate waits until the cost is paid. Others do not, and neither
// does an admin. A request costs the bytes that it causes.
func TestCosts(t *testing.T) {
	const rate = 128 << 10
	text := func(size int) string { return `{"data":"` + strings.Repeat("x", size-2) + `"}` }
	for _, c := range []struct {
		name, method, path, body string
		cost                     int
	}{
		{"message to four clients", "POST", "/messages", text(60 << 10), 4 * 60 << 10},
		{"message to an empty room", "POST", "/messages?room=empty", text(60 << 10), 60 << 10},
		{"state in a room of four", "PUT", "/state", `{}`, 64 << 10},
		{"page of four members", "GET", "/presence", "", 4 << 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, presence.Config{CostRate: rate, CostBurst: 64 << 10, MessageRate: -1}, func(t *testing.T, b *bubble) {
				alice, bob := testUser("alice"), testUser("bob")
				for _, user := range []presence.User{alice, bob, testUser("carol"), testUser("dave")} {
					b.stream("/events", "", user)
				}
				spent := 0
				var refused bool
				for range 40 {
					answer := b.ask(c.method, c.path, c.body, alice)
					if refused = answer.Code == http.StatusTooManyRequests; refused {
						seconds := max(1, (spent-64<<10+rate)/rate)
						if got := answer.Header().Get("Retry-After"); got != fmt.Sprint(seconds) {
							t.Errorf("Retry-After: got %s, want %d for a debt of %d bytes", got, seconds, spent-64<<10)
						}
						time.Sleep(time.Duration(seconds) * time.Second)
						break
					}
					if answer.Code >= 300 {
						t.Fatalf("got %d %s", answer.Code, answer.Body)
					}
					spent += c.cost
				}
				if want := (64<<10 + c.cost - 1) / c.cost * c.cost; !refused || spent != want {
					t.Fatalf("refused %t after a cost of %d, want after %d", refused, spent, want)
				}
				admin := bob
				admin.Admin = true
				for _, user := range []presence.User{bob, admin, admin, admin, alice} {
					if answer := b.ask(c.method, c.path, c.body, user); answer.Code >= 300 {
						t.Errorf("%s, admin %t: got %d, want success", user.ID, user.Admin, answer.Code)
					}
				}
			})
		})
	}
}

// manyNames joins twenty users with long names, so that the snapshot is larger than 4 KiB, and
// returns its room.
func manyNames(b *bubble) (room string) {
	for i := range 20 {
		long := testUser(fmt.Sprint(strings.Repeat("x", 240), i))
		long.Name = "" // at most 128 bytes
		b.stream("/events?room=crowd", "", long)
	}
	time.Sleep(time.Second)
	return "crowd"
}

// A join costs the bytes of a large snapshot, and is refused while its user is in debt. A join with
// a small snapshot is always accepted.
func TestJoinCost(t *testing.T) {
	for _, status := range []int{http.StatusOK, http.StatusServiceUnavailable} {
		inBubble(t, presence.Config{CostRate: 1000, CostBurst: 64 << 10, FullStatus: status}, func(t *testing.T, b *bubble) {
			room, alice := manyNames(b), testUser("alice")
			accepted := 0
			for ; ; accepted++ {
				s := b.stream("/events?room="+room, "", alice)
				time.Sleep(time.Second)
				if got := names(s.take()); !strings.Contains(got, "sync") {
					answer := b.ask("GET", "/events?room="+room, "", alice)
					switch {
					case status == http.StatusServiceUnavailable && (answer.Code != http.StatusTooManyRequests || len(answer.Header().Get("Retry-After")) != 2): // 10 to 99 s
						t.Errorf("with FullStatus 503: got %d, Retry-After %q; want 429", answer.Code, answer.Header().Get("Retry-After"))
					case status == http.StatusOK && !strings.Contains(got, `goodbye:{"reason":"full"}`):
						t.Errorf("got %q, want goodbye full", got)
					}
					break
				}
				s.close()
				if accepted > 20 {
					t.Fatal("20 joins of some 6 KB are within a limit of 64 KiB")
				}
			}
			if accepted < 5 {
				t.Errorf("%d joins of some 6 KB were accepted, want about 10", accepted)
			}
			if got := names(b.stream("/events?room=small", "", alice).take()); got != " sync user count:1" {
				t.Errorf("small room: got %q", got)
			}
			bob := b.stream("/events?room="+room, "", testUser("bob"))
			time.Sleep(time.Second)
			if got := names(bob.take()); !strings.Contains(got, "sync") {
				t.Errorf("another user: got %q", got)
			}
		})
	}
}

// The default cost rate never limits 20 messages of 1 KiB per second to 1,500 clients, and limits
// messages of 64 KB to as many.
func TestDefaultCostRate(t *testing.T) {
	perSecond, burst := presence.DefaultCosts()
	for _, c := range []struct {
		size    int
		limited bool
	}{{1026, false}, {64 << 10, true}} {
		table, now, refused := rates.NewTable(float64(perSecond), burst), time.Now(), 0
		for i := range 20 * 60 {
			if table.Take("alice", c.size*1500, now.Add(time.Duration(i)*time.Second/20)) > 0 {
				refused++
			}
		}
		if got := refused > 0; got != c.limited {
			t.Errorf("messages of %d bytes: %d of 1,200 refused, want limited %t", c.size, refused, c.limited)
		}
	}
}

// A page of many members is encoded once per flush interval. A small page is always new.
func TestPageCache(t *testing.T) {
	inBubble(t, presence.Config{CostRate: -1}, func(t *testing.T, b *bubble) {
		for i := range 120 {
			b.stream("/events", "", testUser(fmt.Sprintf("user-%03d", i)))
		}
		time.Sleep(time.Second)
		users := func(query string) (page struct {
			Users   int
			Members []struct{ ID string }
		}) {
			answer := b.ask("GET", "/presence?"+query, "", testUser("alice"))
			if err := json.Unmarshal(answer.Body.Bytes(), &page); err != nil || answer.Code != http.StatusOK {
				t.Fatalf("got %d %v", answer.Code, err)
			}
			return page
		}
		if got := users("limit=1000"); got.Users != 120 || len(got.Members) != 120 {
			t.Errorf("got %d users and %d members, want 120", got.Users, len(got.Members))
		}
		b.stream("/events", "", testUser("zoe"))
		if got := users("limit=1000"); got.Users != 120 {
			t.Errorf("large page within the flush interval: got %d users, want the 120 of the kept page", got.Users)
		}
		if got := users("limit=99"); got.Users != 121 || len(got.Members) != 99 {
			t.Errorf("small page: got %d users and %d members, want 121 and 99", got.Users, len(got.Members))
		}
		if got := users("limit=1000&after=user-000"); got.Users != 121 || len(got.Members) != 120 {
			t.Errorf("another page: got %d users and %d members, want 121 and 120", got.Users, len(got.Members))
		}
		time.Sleep(300 * time.Millisecond)
		if got := users("limit=1000"); got.Users != 121 || len(got.Members) != 121 {
			t.Errorf("after the flush interval: got %d users and %d members, want 121", got.Users, len(got.Members))
		}
	})
}
