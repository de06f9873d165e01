package room_test

import (
	"fmt"
	"testing"
	"time"

	"example.com/presence/pkg/presence/room"
)

// A user has at most one scheduled end, even if rows and changes of its parts arrive many times.
// Presences that have left have none.
func TestOneEndPerUser(t *testing.T) {
	r := newNode("a")
	for i := range 100 {
		now := seconds(float64(i) / 100)
		for _, user := range []room.UserID{"alice", "bob"} {
			r.Ban(user, seconds(60), now)
			r.Apply("b", []room.Presence{{ID: user, Until: now.Add(5 * time.Second), Reason: room.Closed}}, now)
			r.Apply("c", []room.Presence{{ID: user, Reason: room.Closed}}, now)
		}
		r.Join(room.ConnID(i), room.User{ID: "carol"}, now)
		r.Leave(room.ConnID(i), "carol", room.Closed, now)
		r.Apply("c", []room.Presence{{ID: "dave", Reason: room.Closed}}, now)
		if got, want := r.Ends(), 3; got != want {
			t.Fatalf("after round %d: got %d ends, want %d: of two bans and of a grace period", i, got, want)
		}
	}
	for _, step := range []struct {
		at   float64
		ends int
		due  time.Time
	}{{5.985, 3, seconds(5.99)}, {5.99, 2, seconds(60)}, {59, 2, seconds(60)}, {60, 0, time.Time{}}} {
		r.Expire(seconds(step.at))
		if got, due := r.Ends(), r.Due(seconds(step.at)); got != step.ends || !due.Equal(step.due) {
			t.Errorf("after %v s: got %d ends, due %v; want %d, due %v", step.at, got, due, step.ends, step.due)
		}
	}
}

// The next end of a user is the earliest one, also if a later one was known before.
func TestEarliestEndFirst(t *testing.T) {
	r := newNode("a")
	r.Ban("alice", seconds(60), seconds(0))
	r.Apply("b", []room.Presence{{ID: "alice", Until: seconds(20), Reason: room.Closed}}, seconds(1))
	r.Apply("c", []room.Presence{{ID: "alice", Until: seconds(10), Reason: room.Timeout}}, seconds(2))
	var got string
	for _, at := range []float64{2, 10, 20, 60} {
		r.Expire(seconds(at))
		if due := r.Due(seconds(at)); !due.IsZero() {
			got += fmt.Sprint(due.Sub(start), " ")
		}
	}
	expectText(t, "ends", got, "10s 20s 1m0s ")
	r.Ban("alice", seconds(90), seconds(70))
	r.Apply("b", []room.Presence{{ID: "alice", Connections: 1, Since: seconds(70)}}, seconds(70))
	r.Lift("alice", seconds(71))
	if r.Ends() != 0 || r.Users() != 1 {
		t.Errorf("after the lift: got %d ends and %d members, want 0 and 1", r.Ends(), r.Users())
	}
}
