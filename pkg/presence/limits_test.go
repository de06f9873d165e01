package presence_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"testing"
	"time"

	"example.com/presence/pkg/presence"
)

// Who finds no place is told so in a way that its browser comes back after, or
// with a problem, and is not counted. A place that becomes free is taken.
func TestFull(t *testing.T) {
	each(t, func(t *testing.T, open opener) {
		for _, status := range []int{http.StatusOK, http.StatusServiceUnavailable} {
			for name, c := range map[string]struct {
				config presence.Config
				refuse string // the path of what is refused, to alice
			}{
				"in all":   {presence.Config{MaxConnections: 2}, "/events"},
				"a user":   {presence.Config{MaxConnectionsPerUser: 1}, "/events?room=other"},
				"of rooms": {presence.Config{MaxRooms: 1}, "/events?room=other"},
			} {
				c.config.FullStatus, c.config.Linger = status, -1
				h := open(t, c.config)
				alice, bob := h.stream("/events", bearer(t, "alice")), h.stream("/events", bearer(t, "bob"))
				alice.until("user count", "2")
				for range 3 {
					answer := h.ask("GET", c.refuse, bearer(t, "alice"), "")
					if status == http.StatusServiceUnavailable {
						retry, err := strconv.Atoi(answer.Header.Get("Retry-After"))
						var problem struct{ Status int }
						if json.NewDecoder(answer.Body).Decode(&problem) != nil || err != nil || answer.StatusCode != status || problem.Status != status || retry < 10 || retry > 30 {
							t.Errorf("%s: got %s, Retry-After %q, problem %+v", name, answer.Status, answer.Header.Get("Retry-After"), problem)
						}
						continue
					}
					events := h.stream(c.refuse, bearer(t, "alice")).rest()
					if len(events) != 2 || events[1].name != "goodbye" || events[1].data != `{"reason":"full"}` {
						t.Fatalf("%s: got %+v", name, events)
					}
					if retry, err := strconv.Atoi(events[0].retry); err != nil || retry < 10_000 || retry > 30_000 {
						t.Errorf("%s: retry is %q", name, events[0].retry)
					}
				}
				if p := h.presence(); p.Connections != 2 {
					t.Errorf("%s: there are %d connections", name, p.Connections)
				}
				bob.close()
				alice.until("user count", "1")
				carol := h.stream("/events", bearer(t, "carol"))
				carol.next("user count")
			}
		}
	})
}

// A message to a room that there is no place for is refused.
func TestFullOfRooms(t *testing.T) {
	h := open(t, presence.Config{MaxRooms: 1})
	h.say("/messages", bearer(t, "alice"), `{"data":1}`)
	answer := h.ask("POST", "/messages?room=other", bearer(t, "alice"), "x", "Content-Type", "text/plain")
	if answer.StatusCode != http.StatusServiceUnavailable || answer.Header.Get("Retry-After") == "" {
		t.Errorf("got %s, Retry-After %q", answer.Status, answer.Header.Get("Retry-After"))
	}
	h.say("/messages", bearer(t, "alice"), `{"data":1}`)
}

// A user over its rate is told when to come back, is taken then, and nobody else
// is affected.
func TestTooFast(t *testing.T) {
	h := open(t, presence.Config{MessageRate: 1, MessageBurst: 2})
	c := h.stream("/events", bearer(t, "watcher"))
	alice := bearer(t, "alice")
	post := func() *http.Response {
		return h.ask("POST", "/messages", alice, "x", "Content-Type", "text/plain")
	}
	var answer *http.Response
	for sent := 0; ; sent++ {
		if answer = post(); answer.StatusCode != http.StatusAccepted {
			break
		}
		if sent > 10 {
			t.Fatal("it may send as fast as it likes")
		}
	}
	wait, err := strconv.Atoi(answer.Header.Get("Retry-After"))
	if answer.StatusCode != http.StatusTooManyRequests || err != nil || wait < 1 || wait > 2 {
		t.Fatalf("got %s, Retry-After %q", answer.Status, answer.Header.Get("Retry-After"))
	}
	at := time.After(time.Duration(wait) * time.Second)
	for i := range 10 {
		h.say("/messages", bearer(t, fmt.Sprint("user-", i)), `{"event":"other","data":1}`)
		c.next("other")
	}
	<-at
	if answer := post(); answer.StatusCode != http.StatusAccepted {
		t.Errorf("after that time: got %s", answer.Status)
	}
}
