package hub_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/internal/hub"
	"example.com/presence/pkg/presence/internal/stream"
	"example.com/presence/pkg/presence/room"
)

// A client that resumes receives each message once, even if the log is ahead of the subscription.
func TestLogAheadOfSubscription(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var queue []func()
		held := false
		bus := &hookedBus{Bus: memory(), entry: func(deliver func()) {
			if held {
				queue = append(queue, deliver)
			} else {
				deliver()
			}
		}}
		n := openNode(t, bus)
		first := n.send("lobby", "alice", "1")
		n.send("lobby", "alice", "2")
		held = true
		n.send("lobby", "alice", "3")
		bob := n.join("lobby", "bob", hub.Lease{}, first)
		time.Sleep(time.Second)
		held = false
		for _, deliver := range queue {
			deliver()
		}
		if got := bob.take(); got != "message:2 sync user count:1 message:3" {
			t.Errorf("got %q", got)
		}
	})
}

// A client receives each message once, even if this version cannot parse an entry of the replay.
func TestLogAheadWithUnreadableEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var queue []func()
		held := false
		mem := memory()
		bus := &hookedBus{Bus: mem, entry: func(deliver func()) {
			if held {
				queue = append(queue, deliver)
			} else {
				deliver()
			}
		}}
		n := openNode(t, bus)
		first := n.send("lobby", "alice", "1")
		if _, _, err := mem.Append(t.Context(), "lobby", "", []byte("2 of a newer version")); err != nil {
			t.Fatal(err)
		}
		n.send("lobby", "alice", "2")
		held = true
		n.send("lobby", "alice", "3")
		bob := n.join("lobby", "bob", hub.Lease{}, first)
		time.Sleep(time.Second)
		held = false
		for _, deliver := range queue {
			deliver()
		}
		if got := bob.take(); got != "message:2 sync user count:1 message:3" {
			t.Errorf("got %q", got)
		}
	})
}

// A client that waits for its sync receives the messages since its join after the sync.
func TestMessagesBeforeSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := &epochBus{Bus: memory(), epoch: "00000000aa"}
		n := openNode(t, bus)
		n.join("lobby", "alice", hub.Lease{}, "")
		bob := n.join("lobby", "bob", hub.Lease{}, "")
		n.send("lobby", "alice", "1")
		carol := n.join("lobby", "carol", hub.Lease{}, "")
		n.send("lobby", "alice", "2")
		n.join("lobby", "dave", hub.Lease{}, "").Drop(stream.Closed)
		time.Sleep(time.Second)
		if got := bob.take(); got != "sync user count:3 message:1 message:2" {
			t.Errorf("bob got %q", got)
		}
		if got := carol.take(); got != "sync user count:3 message:2" {
			t.Errorf("carol got %q", got)
		}

		// If the log is recreated before the sync, the client receives reset, and sync at the new
		// position.
		time.Sleep(time.Second)
		n.join("lobby", "erin", hub.Lease{}, "")
		frank := n.join("lobby", "frank", hub.Lease{}, "")
		n.send("lobby", "alice", "3")
		if err := n.clear("lobby"); err != nil { // the new log contains none of these messages
			t.Fatal(err)
		}
		bus.change("00000000bb")
		n.send("lobby", "alice", "4")
		time.Sleep(time.Second)
		if got := frank.take(); got != `reset:{"reason":"history"} sync user count:5 message:4` {
			t.Errorf("frank got %q", got)
		}
	})
}

// A client receives reset instead of a replay if the log is recreated during the read, if the log
// cannot be read, or if the log no longer contains the messages.
func TestReplayThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &slowBus{Bus: memory()}
		hooked := &hookedBus{Bus: slow}
		bus := &epochBus{Bus: hooked, epoch: "00000000aa"}
		n := openNode(t, bus)
		first := n.send("lobby", "alice", "1")
		n.send("lobby", "alice", "2")
		const reset = `reset:{"reason":"history"} sync`

		hooked.read = func() ([]backplane.Entry, bool, error) { return nil, true, errors.New("no leader") }
		if got := n.join("lobby", "bob", hub.Lease{}, first).take(); !strings.HasPrefix(got, reset) {
			t.Errorf("log that cannot be read: got %q, want %q first", got, reset)
		}
		hooked.read = nil
		slow.set(time.Second, false)
		var bob *fakeClient
		var wait sync.WaitGroup
		wait.Go(func() { bob = n.join("lobby", "bob", hub.Lease{}, first) })
		synctest.Wait()
		slow.set(0, false)
		bus.change("00000000bb")
		n.send("lobby", "alice", "3")
		wait.Wait()
		if got := bob.take(); !strings.HasPrefix(got, reset) || strings.Contains(got, "message") {
			t.Errorf("log recreated during the read: got %q, want %q first and no message", got, reset)
		}
		first = n.send("lobby", "alice", "4")
		n.send("lobby", "alice", "5")
		if err := n.clear("lobby"); err != nil {
			t.Fatal(err)
		}
		if got := n.join("lobby", "bob", hub.Lease{}, first).take(); !strings.HasPrefix(got, reset) {
			t.Errorf("log without the messages: got %q, want %q first", got, reset)
		}
	})
}

// A client that disconnects while the log is read has lost nothing, so it does not count among the
// clients that could not resume.
func TestClientGoneDuringReplay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hooked := &hookedBus{Bus: memory()}
		n := openNode(t, hooked)
		first := n.send("lobby", "alice", "1")
		n.send("lobby", "alice", "2")
		for _, gone := range []bool{true, false} {
			ctx, disconnect := context.WithCancel(t.Context())
			hooked.read = func() ([]backplane.Entry, bool, error) {
				if gone {
					disconnect()
				}
				return nil, true, context.Canceled
			}
			conn, err := n.Connect(ctx, "lobby", "bob", hub.Lease{})
			if err != nil {
				t.Fatal(err)
			}
			if err := n.Join(ctx, conn, room.User{ID: "bob"}, &fakeClient{node: n}, first); err != nil {
				t.Fatal(err)
			}
			n.Leave(conn, stream.Closed)
			disconnect()
		}
		if got := n.Stats().Resets; got != 1 {
			t.Errorf("got %d clients that could not resume, want 1: not the one that disconnected", got)
		}
	})
}

// A repair follows three rules:
//
//   - If the gap cannot be read, every client receives reset.
//   - Held messages are published after the messages of the gap.
//   - If the log was recreated since, the entries of the old log are not published.
func TestRepairThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &slowBus{Bus: memory()}
		hooked := &hookedBus{Bus: slow}
		bus := &epochBus{Bus: hooked, epoch: "00000000aa"}
		n := openNode(t, bus)
		alice := n.join("lobby", "alice", hub.Lease{}, "")
		time.Sleep(time.Second)
		n.send("lobby", "alice", "1")
		alice.take()
		hooked.read = func() ([]backplane.Entry, bool, error) { return nil, true, errors.New("no leader") }
		bus.change("00000000aa")
		if got := alice.take(); got != `reset:{"reason":"history"}` {
			t.Errorf("log that cannot be read: got %q", got)
		}
		hooked.read = nil

		slow.set(time.Second, false)
		bus.interrupt(true)
		go n.Send(t.Context(), "lobby", hub.Draft{Event: "message", Data: []byte("2")}, "alice", "")
		time.Sleep(2 * time.Second)
		bus.interrupt(false)
		synctest.Wait()
		slow.set(0, false)
		n.send("lobby", "alice", "3")
		if got := alice.take(); got != "" {
			t.Errorf("while the log is read: got %q, want no event", got)
		}
		time.Sleep(time.Second)
		if got := alice.take(); got != "message:2 message:3" {
			t.Errorf("after the log was read: got %q", got)
		}

		slow.set(time.Second, false)
		bus.interrupt(true)
		go n.Send(t.Context(), "lobby", hub.Draft{Event: "message", Data: []byte("4")}, "alice", "")
		time.Sleep(2 * time.Second)
		bus.interrupt(false) // reads message 4
		synctest.Wait()
		slow.set(0, false)
		n.send("lobby", "alice", "5")            // held back
		if err := n.clear("lobby"); err != nil { // the new log contains none of these messages
			t.Fatal(err)
		}
		bus.change("00000000bb")
		time.Sleep(2 * time.Second)
		n.send("lobby", "alice", "6")
		if got := alice.take(); got != `reset:{"reason":"history"} message:6` {
			t.Errorf("log recreated during the read: got %q", got)
		}
	})
}

// A log entry that is not a message is not published.
func TestUnreadableEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := memory()
		n := openNode(t, bus)
		alice := n.join("lobby", "alice", hub.Lease{}, "")
		alice.take()
		if _, _, err := bus.Append(t.Context(), "lobby", "", []byte("9 of another version")); err != nil {
			t.Fatal(err)
		}
		n.send("lobby", "alice", "1")
		if got := alice.take(); got != "message:1" {
			t.Errorf("got %q", got)
		}
	})
}

// Close rejects a client whose replay is being read. A client that waits for its sync receives the
// sync before the goodbye.
func TestCloseDuringJoins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &slowBus{Bus: memory()}
		n := openNode(t, slow)
		first := n.send("lobby", "alice", "1")
		n.send("lobby", "alice", "2")
		n.join("lobby", "alice", hub.Lease{}, "")
		slow.set(time.Second, false)
		conn, err := n.Connect(t.Context(), "lobby", "bob", hub.Lease{})
		if err != nil {
			t.Fatal(err)
		}
		var wait sync.WaitGroup
		wait.Go(func() {
			c := &fakeClient{node: n, conn: conn, room: "lobby", user: "bob"}
			if err := n.Join(t.Context(), conn, room.User{ID: "bob", Info: []byte("{}")}, c, first); !errors.Is(err, hub.ErrDraining) {
				t.Errorf("join of a client whose replay is read: got %v, want %v", err, hub.ErrDraining)
			}
			n.Leave(conn, stream.Closed)
		})
		time.Sleep(100 * time.Millisecond)
		n.join("lobby", "carol", hub.Lease{}, "")
		dave := n.join("lobby", "dave", hub.Lease{}, "")
		if err := n.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if got := dave.take(); got != `sync user count:3 goodbye:{"reason":"draining"}` {
			t.Errorf("client that waits for its sync: got %q", got)
		}
		if c := n.Stats().Connections; c != 1 {
			t.Errorf("%d connections after Close, want only the connection of bob", c)
		}
		wait.Wait()
		if _, err := n.Connect(t.Context(), "den", "erin", hub.Lease{}); !errors.Is(err, hub.ErrDraining) {
			t.Errorf("connection after Close: got %v, want %v", err, hub.ErrDraining)
		}
	})
}
