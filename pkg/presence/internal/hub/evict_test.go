package hub_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence/internal/hub"
	"example.com/presence/pkg/presence/internal/stream"
)

// withoutGrace makes users leave 0.5 s after their last connection, and limits the rooms of the
// node.
func withoutGrace(rooms int) func(*hub.Config) {
	return func(c *hub.Config) { c.Linger, c.MaxRooms = 0, rooms }
}

// A node still repeats the totals of a room that it has evicted, also if it opens the room again.
// So a peer that has lost the last change finds out within seconds.
func TestLossBeforeEviction(t *testing.T) {
	for _, test := range []struct {
		name     string
		deaf     time.Duration // after the last change
		reopened bool
		after    time.Duration // when the peer knows the change
	}{
		{"one repeat is lost", 800 * time.Millisecond, false, 1100 * time.Millisecond},
		{"three repeats are lost", 2500 * time.Millisecond, false, 4100 * time.Millisecond},
		{"the room is opened again", 2500 * time.Millisecond, true, 4100 * time.Millisecond},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				bus := sharedMemory()
				deaf := &lossyBus{Bus: bus}
				a, b := openNode(t, bus, withoutGrace(1)), openNode(t, deaf, withoutGrace(10))
				time.Sleep(2 * time.Second)
				bob := b.join("lobby", "bob", hub.Lease{}, "")
				alice := a.join("lobby", "alice", hub.Lease{}, "")
				time.Sleep(6 * time.Second)
				bob.take()
				deaf.change(func() { deaf.deaf = true })
				start := time.Now()
				alice.Drop(stream.Closed)
				time.Sleep(700 * time.Millisecond)
				carol := a.join("den", "carol", hub.Lease{}, "")
				if a.RoomOf("lobby") != nil {
					t.Fatal("the lobby was not evicted")
				}
				if test.reopened {
					carol.Drop(stream.Closed)
					time.Sleep(time.Second)
					a.list("lobby")
				}
				time.Sleep(time.Until(start.Add(test.deaf)))
				bob.take()
				deaf.change(func() { deaf.deaf = false })
				time.Sleep(time.Until(start.Add(test.after)))
				bob.expect("leave user count:1")
			})
		})
	}
}

// A node still announces a message of a room that it has evicted. A peer to which the message was
// not delivered reads the log.
func TestAnnouncementAfterEviction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := sharedMemory()
		a, _ := openShared(t, log, withoutGrace(1))
		b, bus := openShared(t, &lossyBus{Bus: log})
		time.Sleep(2 * time.Second)
		bob := b.join("lobby", "bob", hub.Lease{}, "")
		time.Sleep(time.Minute)
		a.list("lobby")
		bob.take()
		lossy := bus.Bus.(*lossyBus)
		lossy.change(func() { lossy.deaf = true })
		bus.silently(func() {
			a.send("lobby", "alice", "1")
			time.Sleep(500 * time.Millisecond)
		})
		a.join("den", "carol", hub.Lease{}, "")
		if a.RoomOf("lobby") != nil {
			t.Fatal("the lobby was not evicted")
		}
		lossy.change(func() { lossy.deaf = false })
		time.Sleep(time.Second)
		bob.expect("message:1")
	})
}

// A room stays while the log has not answered, even if its message has arrived, because the room
// must still announce it.
func TestEvictionDuringAppend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := sharedMemory()
		a, sender := openShared(t, log, withoutGrace(1))
		b, bus := openShared(t, log)
		time.Sleep(2 * time.Second)
		bob := b.join("lobby", "bob", hub.Lease{}, "")
		time.Sleep(time.Minute)
		bob.take()
		sender.answerLate(700 * time.Millisecond)
		bus.silently(func() { go a.send("lobby", "alice", "1") })
		if _, err := a.Connect(t.Context(), "den", "carol", hub.Lease{}); !errors.Is(err, hub.ErrTooManyRooms) {
			t.Errorf("before the answer of the log: got %v, want ErrTooManyRooms", err)
		}
		time.Sleep(701 * time.Millisecond)
		a.join("den", "carol", hub.Lease{}, "")
		time.Sleep(time.Second)
		bob.expect("message:1")
	})
}

// A room whose peers may lack its last frame is evicted only if there is no other.
func TestEvictionPrefersSettledRooms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := sharedMemory()
		a, b := openNode(t, bus, withoutGrace(2)), openNode(t, bus)
		time.Sleep(2 * time.Second)
		for _, name := range []string{"den", "lobby"} {
			b.join(name, "bob", hub.Lease{}, "")
		}
		a.join("lobby", "alice", hub.Lease{}, "").Drop(stream.Closed)
		time.Sleep(time.Second)
		a.list("den") // used later than the lobby
		time.Sleep(time.Second)
		attic := a.join("attic", "carol", hub.Lease{}, "")
		if a.RoomOf("lobby") == nil || a.RoomOf("den") != nil {
			t.Errorf("rooms before the repeats: got lobby %v, den %v; want only the lobby", a.RoomOf("lobby") != nil, a.RoomOf("den") != nil)
		}
		attic.Drop(stream.Closed)
		time.Sleep(2500 * time.Millisecond) // the repeats of the lobby have ended
		a.join("den", "dave", hub.Lease{}, "")
		if a.RoomOf("lobby") != nil || a.RoomOf("attic") == nil {
			t.Errorf("rooms after them: got lobby %v, attic %v; want only the attic", a.RoomOf("lobby") != nil, a.RoomOf("attic") != nil)
		}
		a.join("cellar", "erin", hub.Lease{}, "")
		if a.RoomOf("attic") != nil {
			t.Error("the attic was not evicted")
		}
	})
}

// A room that could not be evicted while it was opened can be evicted afterwards.
func TestEvictionAfterOpening(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := sharedMemory()
		lossy := &lossyBus{Bus: bus}
		a, b := openNode(t, bus, withoutGrace(1)), openNode(t, lossy)
		time.Sleep(2 * time.Second)
		b.join("lobby", "bob", hub.Lease{}, "")
		time.Sleep(time.Second)
		lossy.set(func(string) fate { return fate{mute: lossy.asked == 2} }) // the question for the parts
		go a.list("lobby")
		time.Sleep(100 * time.Millisecond)
		if _, err := a.Connect(t.Context(), "den", "carol", hub.Lease{}); !errors.Is(err, hub.ErrTooManyRooms) {
			t.Errorf("while the lobby is opened: got %v, want %v", err, hub.ErrTooManyRooms)
		}
		time.Sleep(time.Second)
		a.join("den", "carol", hub.Lease{}, "")
	})
}

// A room that could not be evicted before it had published its last change can be evicted
// afterwards.
func TestEvictionAfterLastChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := sharedMemory()
		a, _ := openNode(t, bus, withoutGrace(1)), openNode(t, bus)
		time.Sleep(2 * time.Second)
		a.join("lobby", "alice", hub.Lease{}, "")
		time.Sleep(10 * time.Millisecond)
		if err := a.Kick(t.Context(), "lobby", "alice", time.Minute); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if _, err := a.Connect(t.Context(), "den", "carol", hub.Lease{}); !errors.Is(err, hub.ErrTooManyRooms) {
			t.Errorf("before the frame: got %v, want %v", err, hub.ErrTooManyRooms)
		}
		time.Sleep(batch)
		a.join("den", "carol", hub.Lease{}, "")
	})
}
