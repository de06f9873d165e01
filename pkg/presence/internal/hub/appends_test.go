package hub_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/internal/hub"
	"example.com/presence/pkg/presence/room"
)

// A node reads the log if its own message is accepted, but not delivered.
func TestOwnMessageLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, bus := openShared(t, sharedMemory())
		alice := n.join("lobby", "alice", hub.Lease{}, "")
		n.idle()
		alice.take()
		var mu sync.Mutex             // guards the variables below
		var announced []time.Duration // when a frame announced the message
		var id string
		start := time.Now()
		cancel, err := bus.Bus.Subscribe("lobby", backplane.Handler{Message: func(frame []byte) {
			mu.Lock()
			defer mu.Unlock()
			if id != "" && strings.Contains(string(frame), fmt.Sprintf(`"acked":[%d]`, seqOf(id))) {
				announced = append(announced, time.Since(start))
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		defer cancel()
		bus.silently(func() {
			sent := n.send("lobby", "alice", "1")
			mu.Lock()
			defer mu.Unlock()
			id = sent
		})
		time.Sleep(250 * time.Millisecond)
		if got := alice.take(); got != "message:1" {
			t.Errorf("got %q", got)
		}
		if n := len(n.streams.last().slots); n != 0 {
			t.Errorf("%d slots reserved, want 0", n)
		}
		time.Sleep(5 * time.Second)
		mu.Lock()
		defer mu.Unlock()
		if want := []time.Duration{0, time.Second}; !slices.Equal(announced, want) {
			t.Errorf("announced after %v, want %v", announced, want)
		}
	})
}

// Send repeats a failed append with the same key, so that the message is accepted once.
func TestAppendTriesAgain(t *testing.T) {
	for _, c := range []struct {
		name     string
		key      string
		accepted int // attempt that is accepted although it fails
		hangs    bool
	}{{"not accepted", "", 0, false}, {"accepted", "", 1, false}, {"accepted, with a key", "mine", 1, false}, {"accepted and hanging", "", 2, true}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, bus := openShared(t, sharedMemory())
				alice := n.join("lobby", "alice", hub.Lease{}, "")
				n.idle()
				alice.take()
				attempt := 0
				bus.append = func(ctx context.Context, accept func() error) error {
					if attempt++; attempt == c.accepted {
						accept()
					}
					if attempt < 3 && c.hangs {
						<-ctx.Done()
						return ctx.Err()
					}
					if attempt < 3 {
						return backplane.ErrUnavailable
					}
					return accept()
				}
				id, err := n.Send(t.Context(), "lobby", hub.Draft{Event: "message", Data: []byte("1")}, "alice", c.key)
				if err != nil || attempt != 3 {
					t.Fatalf("got %v after %d attempts, want success after 3", err, attempt)
				}
				if bus.keys[0] == "" || bus.keys[0] != bus.keys[1] || bus.keys[1] != bus.keys[2] {
					t.Errorf("keys %q, want the same key for all attempts", bus.keys)
				}
				if got := alice.take(); got != "message:1" || alice.view.message != id {
					t.Errorf("got %q with id %s, want message 1 with id %s", got, alice.view.message, id)
				}
				if n := len(n.streams.last().slots); n != 0 {
					t.Errorf("%d slots reserved, want 0", n)
				}
				bus.append = nil
				n.send("lobby", "alice", "2")
				if got := alice.take(); got != "message:2" {
					t.Errorf("next message: got %q, want another key", got)
				}
			})
		})
	}
}

// Send fails after 2 s, or at once if another attempt makes no sense.
func TestAppendGivesUp(t *testing.T) {
	for _, c := range []struct {
		err, want error
		took      time.Duration
		attempts  int // or one more, as the last pause ends with the 2 s
	}{
		{backplane.ErrUnavailable, backplane.ErrUnavailable, 2 * time.Second, 20},
		{backplane.ErrClosed, hub.ErrDraining, 0, 1},
		{backplane.ErrKeysFull, backplane.ErrKeysFull, 0, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			n, bus := openShared(t, sharedMemory())
			attempts := 0
			bus.append = func(context.Context, func() error) error { attempts++; return c.err }
			start := time.Now()
			_, err := n.Send(t.Context(), "lobby", hub.Draft{Event: "message", Data: []byte("1")}, "alice", "")
			if took := time.Since(start); !errors.Is(err, c.want) || took != c.took || attempts != c.attempts && attempts != c.attempts+1 {
				t.Errorf("%v: got %v after %v and %d attempts, want %v after %v and %d", c.err, err, took, attempts, c.want, c.took, c.attempts)
			}
			if n := len(n.streams.last().slots); n != 0 {
				t.Errorf("%v: %d slots reserved, want 0", c.err, n)
			}
		})
	}
}

// A message is not appended again after the log was recreated, because the first attempt may have
// been delivered.
func TestAppendDuringNewEpoch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := sharedMemory()
		n, bus := openShared(t, log)
		alice := n.join("lobby", "alice", hub.Lease{}, "")
		n.idle()
		alice.take()
		bus.append = func(_ context.Context, accept func() error) error {
			accept()
			synctest.Wait()
			log.Recreate()
			return backplane.ErrUnavailable
		}
		_, err := n.Send(t.Context(), "lobby", hub.Draft{Event: "message", Data: []byte("1")}, "alice", "")
		if !errors.Is(err, backplane.ErrUnavailable) {
			t.Errorf("got %v, want %v", err, backplane.ErrUnavailable)
		}
		if got := alice.take(); got != "message:1 "+resetText {
			t.Errorf("got %q, want the message once", got)
		}
	})
}

// The keys of Send and those of clients do not collide, even if a client chooses a key of Send.
func TestKeysOfSend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, bus := openShared(t, sharedMemory())
		n.send("lobby", "alice", "1")
		own := bus.keys[0]
		if !strings.HasPrefix(own, "\x01") {
			t.Fatalf("key %q, want the prefix %q", own, "\x01")
		}
		for _, user := range []room.UserID{"", "alice"} {
			if _, err := n.Send(t.Context(), "lobby", hub.Draft{Event: "message", Data: []byte("2")}, user, own); err != nil {
				t.Fatal(err)
			}
		}
		if last := n.lastOf("lobby"); last != 3 {
			t.Errorf("%d messages accepted, want 3", last)
		}
	})
}

// The engine may lose the entry of a message on the way back to its own node, and deliver a later
// one. The message then keeps no slot of the stream, and OnMessage is called once.
func TestOwnEntryLost(t *testing.T) {
	for _, watched := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			log := sharedMemory()
			var hooked []string
			a, bus := openShared(t, log, func(c *hub.Config) {
				c.OnMessage = func(m room.Message) { hooked = append(hooked, m.ID+string(m.Data)) }
			})
			b, _ := openShared(t, log)
			b.join("lobby", "bob", hub.Lease{}, "")
			if watched {
				a.join("lobby", "alice", hub.Lease{}, "")
			}
			time.Sleep(5 * time.Second)
			a.send("lobby", "alice", "0")
			time.Sleep(1900 * time.Millisecond)
			bus.append = func(_ context.Context, accept func() error) (err error) {
				bus.silently(func() {
					err = accept()
					synctest.Wait()
				})
				b.send("lobby", "bob", "2")
				time.Sleep(300 * time.Millisecond) // an unused room then empties its ring
				return err
			}
			id := a.send("lobby", "alice", "1")
			a.idle()
			if n := len(a.streams.last().slots); n != 0 {
				t.Errorf("watched %v: %d slots reserved, want 0", watched, n)
			}
			if want := id + "1"; len(hooked) != 2 || hooked[1] != want {
				t.Errorf("watched %v: OnMessage was called for %q, want %q last", watched, hooked, want)
			}
		})
	}
}

// An attempt lasts 2 s after the engine has lost contact, because a log that elects a leader
// answers soon. After 3 s it is rejected at once, until the engine has contact.
func TestSendWithoutEngine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, bus := openShared(t, sharedMemory())
		send := func() (time.Duration, error) {
			start := time.Now()
			_, err := n.Send(t.Context(), "lobby", hub.Draft{Event: "message", Data: []byte("1")}, "alice", "")
			return time.Since(start), err
		}
		bus.set(func() { bus.off = true })
		bus.append = func(context.Context, func() error) error { return backplane.ErrUnavailable }
		time.Sleep(time.Second)
		if took, err := send(); !errors.Is(err, backplane.ErrUnavailable) || took != 2*time.Second {
			t.Errorf("in the first 3 s: got %v after %v, want %v after 2s", err, took, backplane.ErrUnavailable)
		}
		time.Sleep(time.Second)
		if took, err := send(); !errors.Is(err, backplane.ErrUnavailable) || took != 0 {
			t.Errorf("later: got %v after %v, want %v at once", err, took, backplane.ErrUnavailable)
		}
		bus.set(func() { bus.off = false })
		bus.append = nil
		time.Sleep(time.Second)
		if took, err := send(); err != nil || took != 0 {
			t.Errorf("with contact: got %v after %v, want no error at once", err, took)
		}
	})
}

// senderBus records the sender of each message that the hub appends with it.
type senderBus struct {
	backplane.Bus
	senders *[]room.UserID
}

func (b senderBus) AppendFrom(ctx context.Context, name room.Name, sender room.UserID, key string, data []byte) (position uint64, duplicate bool, err error) {
	*b.senders = append(*b.senders, sender)
	return b.Append(ctx, name, key, data)
}

// An engine that shares its log among the senders gets the sender of each message: a user, or none
// for the server.
func TestSenderLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var senders []room.UserID
		n := openNode(t, memory(), func(c *hub.Config) { c.Bus = senderBus{c.Bus, &senders} })
		for _, sender := range []room.UserID{"alice", "", "bob"} {
			if _, err := n.Send(t.Context(), "lobby", hub.Draft{Event: "message", Data: []byte("1")}, sender, "key"); err != nil {
				t.Fatal(err)
			}
		}
		if want := []room.UserID{"alice", "", "bob"}; !slices.Equal(senders, want) {
			t.Errorf("got senders %q, want %q", senders, want)
		}
	})
}
