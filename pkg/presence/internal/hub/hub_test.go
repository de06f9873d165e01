package hub_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/backplane/backplanetest"
	"example.com/presence/pkg/presence/internal/hub"
	"example.com/presence/pkg/presence/internal/loglimit"
	"example.com/presence/pkg/presence/internal/stream"
	"example.com/presence/pkg/presence/room"
)

// Hubs on one bus deliver each other's messages in the same order, and apply each other's commands.
func TestHubsOnOneBus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := memory()
		a, b := openNode(t, bus), openNode(t, bus)
		alice := a.join("lobby", "alice", hub.Lease{Session: "cookie"}, "")
		bob := b.join("lobby", "bob", hub.Lease{}, "")
		alice.take()
		bob.take()
		for i := range 10 {
			[]*node{a, b}[i%2].send("lobby", "alice", fmt.Sprint(i))
		}
		want := "message:0 message:1 message:2 message:3 message:4 message:5 message:6 message:7 message:8 message:9"
		if got := alice.take(); got != want {
			t.Errorf("alice got %q, want %q", got, want)
		}
		if got := bob.take(); got != want {
			t.Errorf("bob got %q, want %q", got, want)
		}

		if err := b.SignOut(t.Context(), "alice", "cookie"); err != nil {
			t.Error(err)
		}
		if got := alice.take(); got != `goodbye:{"reason":"signed out"}` {
			t.Errorf("after a sign-out on the other node alice got %q", got)
		}
	})
}

// All nodes remove a banned user and reject it until the ban ends, including a node that starts
// after the ban.
func TestBanOnAllNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := memory()
		a, b := openNode(t, bus), openNode(t, bus)
		bob := a.join("lobby", "bob", hub.Lease{}, "")
		other := b.join("lobby", "bob", hub.Lease{}, "")
		elsewhere := b.join("den", "bob", hub.Lease{}, "")
		for _, c := range []*fakeClient{bob, other, elsewhere} {
			c.take()
		}
		if err := a.Kick(t.Context(), "lobby", "bob", time.Minute); err != nil {
			t.Fatal(err)
		}
		for _, c := range []*fakeClient{bob, other} {
			if got := c.take(); !strings.HasSuffix(got, `goodbye:{"reason":"removed"}`) {
				t.Errorf("bob got %q", got)
			}
		}
		if got := elsewhere.take(); got != "" {
			t.Errorf("in another room bob got %q", got)
		}
		late := openNode(t, bus)
		for _, n := range []*node{a, b, late} {
			if end := n.BanEnd("lobby", "bob"); time.Until(end) != time.Minute {
				t.Errorf("the ban ends in %v, want 1m0s", time.Until(end))
			}
			conn, err := n.Connect(t.Context(), "lobby", "bob", hub.Lease{})
			if err != nil {
				t.Fatal(err)
			}
			if err := n.Join(t.Context(), conn, room.User{ID: "bob"}, &fakeClient{node: n}, ""); !errors.Is(err, hub.ErrBanned) {
				t.Errorf("join of a banned user: got %v, want %v", err, hub.ErrBanned)
			}
			n.Leave(conn, stream.Closed)
		}
		if _, err := late.Send(t.Context(), "lobby", hub.Draft{Event: "message", Data: []byte("1")}, "bob", ""); !errors.Is(err, hub.ErrBanned) {
			t.Errorf("message of a banned user: got %v, want %v", err, hub.ErrBanned)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		b.join("lobby", "bob", hub.Lease{}, "")
		if n := b.Stats().Bans; n != 0 {
			t.Errorf("%d bans after their end, want 0", n)
		}
	})
}

// A command reaches members on other nodes: it updates their info and removes them. Rooms lists a
// room once, with the connections of all nodes.
func TestCommandsReachAllNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := sharedMemory()
		a, b := openNode(t, bus), openNode(t, bus)
		bob := b.join("lobby", "bob", hub.Lease{}, "")
		a.join("lobby", "alice", hub.Lease{}, "")
		a.join("den", "alice", hub.Lease{}, "")
		b.join("attic", "carol", hub.Lease{}, "")
		time.Sleep(time.Second)
		if err := a.Update(t.Context(), "lobby", "bob", []byte(`{"x":1}`)); err != nil {
			t.Error(err)
		}
		if got := bob.take(); !strings.HasSuffix(got, `update:{"id":"bob","info":{"x":1}}`) && !strings.HasSuffix(got, " update") {
			t.Errorf("bob got %q", got)
		}
		rooms, more, err := a.Rooms(t.Context(), "", 2)
		if want := []hub.RoomCount{{Room: "attic", Connections: 1, Users: 1}, {Room: "den", Connections: 1, Users: 1}}; err != nil || !more || !slices.Equal(rooms, want) {
			t.Errorf("first page: got %v, %v, %v; want %v, true", rooms, more, err, want)
		}
		rooms, more, err = b.Rooms(t.Context(), "den", 2)
		if want := []hub.RoomCount{{Room: "lobby", Connections: 2, Users: 2}}; err != nil || more || !slices.Equal(rooms, want) {
			t.Errorf("second page: got %v, %v, %v; want %v, false", rooms, more, err, want)
		}
		if err := a.Kick(t.Context(), "lobby", "bob", time.Minute); err != nil {
			t.Error(err)
		}
		if got := bob.take(); !strings.HasSuffix(got, `goodbye:{"reason":"removed"}`) {
			t.Errorf("bob got %q", got)
		}
		for _, n := range []*node{a, b} {
			if err := n.Kick(t.Context(), "lobby", "bob", time.Minute); !errors.Is(err, hub.ErrNotInRoom) {
				t.Errorf("kick of a user that is on no node: got %v, want %v", err, hub.ErrNotInRoom)
			}
		}
	})
}

// A renewal extends the user's streams on all nodes, in the rooms that the new token allows. It
// never shortens a lease.
func TestRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := memory()
		a, b := openNode(t, bus), openNode(t, bus)
		in := func(d time.Duration) time.Time { return time.Now().Add(d) }
		here := a.join("doc-1", "alice", hub.Lease{SID: "s", Expires: in(2 * time.Minute)}, "")
		there := b.join("doc-2", "alice", hub.Lease{SID: "s", Expires: in(time.Minute)}, "")
		other := b.join("den", "alice", hub.Lease{SID: "s", Expires: in(time.Minute)}, "")
		another := b.join("doc-2", "alice", hub.Lease{SID: "t", Expires: in(time.Minute)}, "")
		if err := a.Renew(t.Context(), "alice", room.Patterns{"doc-*"}, hub.Lease{SID: "s", Expires: in(90 * time.Second)}, ""); err != nil {
			t.Fatal(err)
		}
		ends := map[string]string{}
		for _, at := range []time.Duration{time.Minute, 30 * time.Second, 30 * time.Second} {
			time.Sleep(at)
			for name, c := range map[string]*fakeClient{"here": here, "there": there, "other": other, "another": another} {
				if strings.HasSuffix(c.take(), `goodbye:{"reason":"expired"}`) {
					ends[name] = time.Since(there.node.opened).String()
				}
			}
		}
		want := map[string]string{"here": "2m0s", "there": "1m30s", "other": "1m0s", "another": "1m0s"}
		if fmt.Sprint(ends) != fmt.Sprint(want) {
			t.Errorf("got %v, want %v", ends, want)
		}
	})
}

// A client that resumes from any position receives exactly the later messages, even if the
// positions have gaps.
func TestResumeWithGaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := openNode(t, backplanetest.Gaps(memory()))
		n.join("lobby", "watcher", hub.Lease{}, "")
		var ids []string
		for i := range 5 {
			ids = append(ids, n.send("lobby", "alice", fmt.Sprint(i)))
		}
		for i, id := range ids {
			c := n.join("lobby", "bob", hub.Lease{}, id)
			time.Sleep(time.Second)
			var want string
			for j := i + 1; j < 5; j++ {
				want += fmt.Sprintf("message:%d ", j)
			}
			if got := c.take(); !strings.HasPrefix(got, want+"sync") {
				t.Errorf("resume from %s: got %q, want %q first", id, got, want+"sync")
			}
			c.Drop(stream.Closed)
		}
		epoch, _, _ := strings.Cut(ids[0], "-")
		for _, id := range []string{epoch + "-999999", "0000000000-1", epoch, "x"} {
			c := n.join("lobby", "bob", hub.Lease{}, id)
			time.Sleep(time.Second)
			if got := c.take(); !strings.HasPrefix(got, `reset:{"reason":"history"} sync`) {
				t.Errorf("resume from %s: got %q, want a reset first", id, got)
			}
		}
	})
}

// A slow log does not block clients that need no replay: they can join and leave, and receive
// counts.
func TestSlowLogBlocksNoClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &slowBus{Bus: memory(), delay: time.Second}
		n := openNode(t, slow)
		alice := n.join("lobby", "alice", hub.Lease{}, "")
		first := n.send("lobby", "alice", "0")
		n.send("lobby", "alice", "1")
		alice.take()
		var wait sync.WaitGroup
		wait.Go(func() { n.send("lobby", "alice", "2") })
		var bob *fakeClient
		wait.Go(func() { bob = n.join("lobby", "bob", hub.Lease{}, first) }) // waits for the log
		synctest.Wait()
		start := time.Now()
		carol := n.join("lobby", "carol", hub.Lease{}, "")
		time.Sleep(50 * time.Millisecond)
		if got := alice.take(); time.Since(start) != 50*time.Millisecond || got != "join user count:2" {
			t.Errorf("after %v alice got %q", time.Since(start), got)
		}
		carol.Drop(stream.Closed)
		wait.Wait()
		// Message 2 arrives after the log was read for bob, either before or after the join.
		if got := bob.take(); !strings.HasPrefix(got, "message:1 ") || strings.Count(got, "message:2") != 1 {
			t.Errorf("bob got %q", got)
		}
	})
}

// A client also receives the messages that arrive while its replay is read, once and in order.
func TestMessagesDuringReplay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &slowBus{Bus: memory()}
		n := openNode(t, slow)
		n.join("lobby", "alice", hub.Lease{}, "")
		first := n.send("lobby", "alice", "0")
		n.send("lobby", "alice", "1")
		for _, late := range []bool{false, true} { // read the log before or after the messages arrive
			slow.set(time.Second, late)
			var bob *fakeClient
			var wait sync.WaitGroup
			wait.Go(func() { bob = n.join("lobby", "bob", hub.Lease{}, first) })
			time.Sleep(500 * time.Millisecond)
			slow.set(0, false)
			n.send("lobby", "alice", "2")
			n.send("lobby", "alice", "3")
			wait.Wait()
			n.send("lobby", "alice", "4")
			got := bob.take()
			if want := "message:1 message:2 message:3 sync"; !strings.HasPrefix(got, want) || strings.Count(got, "message:4") != 1 {
				t.Errorf("read late %v: bob got %q", late, got)
			}
			bob.Drop(stream.Closed)
			if err := n.clear("lobby"); err != nil {
				t.Fatal(err)
			}
			first = n.send("lobby", "alice", "0")
			n.send("lobby", "alice", "1")
		}
	})
}

// A failed append releases its slot exactly once, even if the log has accepted the message. No
// later message blocks or is lost.
func TestFailedAppends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &slowBus{Bus: memory()}
		n := openNode(t, slow)
		alice := n.join("lobby", "alice", hub.Lease{}, "")
		alice.take()
		for range 100 { // more messages than slots
			slow.fail(backplane.ErrUnavailable, true)
			if _, err := n.Send(t.Context(), "lobby", hub.Draft{Event: "message", Data: []byte("0")}, "alice", ""); !errors.Is(err, backplane.ErrUnavailable) {
				t.Fatal(err)
			}
			slow.fail(backplane.ErrUnavailable, false)
			if _, err := n.Send(t.Context(), "lobby", hub.Draft{Event: "message", Data: []byte("1")}, "alice", ""); !errors.Is(err, backplane.ErrUnavailable) {
				t.Fatal(err)
			}
		}
		slow.fail(nil, false)
		if got := strings.Count(alice.take(), "message:0"); got != 100 {
			t.Errorf("%d of 100 appended messages were delivered", got)
		}
		for range 100 {
			n.send("lobby", "alice", "2")
		}
		if got := strings.Count(alice.take(), "message:2"); got != 100 {
			t.Errorf("%d of 100 later messages were delivered", got)
		}
	})
}

// If the log is recreated, every client receives reset and then the new messages.
func TestNewEpoch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := memory()
		n := openNode(t, bus)
		alice := n.join("lobby", "alice", hub.Lease{}, "")
		time.Sleep(time.Second)
		old := n.send("lobby", "alice", "1")
		alice.take()
		bus.Recreate()
		if got := alice.take(); got != `reset:{"reason":"history"}` {
			t.Errorf("got %q", got)
		}
		id := n.send("lobby", "alice", "2")
		if got := alice.take(); got != "message:2" || id != bus.Status().Epoch+"-1" {
			t.Errorf("got %q, id %s", got, id)
		}
		if got := n.join("lobby", "bob", hub.Lease{}, old).take(); !strings.HasPrefix(got, "reset") {
			t.Errorf("resume with an id of the old log: got %q, want a reset", got)
		}
	})
}

// The epoch of an id is never newer than its position. Otherwise a client that resumes from the id
// would miss messages without a reset.
func TestEpochChangesMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &slowBus{Bus: memory()}
		bus := &epochBus{Bus: slow, epoch: "00000000aa"}
		n := openNode(t, bus)
		bus.atSubscribe = "00000000bb" // recreate the log after the room is created
		n.join("lobby", "watcher", hub.Lease{}, "")
		id := n.send("lobby", "alice", "1")
		n.send("lobby", "alice", "2")
		if got := n.join("lobby", "bob", hub.Lease{}, id).take(); !strings.HasPrefix(got, "message:2") {
			t.Errorf("resume with an id of the current epoch: got %q, want message 2", got)
		}
		if got := n.join("lobby", "bob", hub.Lease{}, "00000000aa-1").take(); !strings.HasPrefix(got, "reset") {
			t.Errorf("resume with an id of the previous epoch: got %q, want a reset", got)
		}

		slow.set(time.Second, false)
		var wait sync.WaitGroup
		wait.Go(func() { id = n.send("lobby", "alice", "3") })
		synctest.Wait()
		bus.change("00000000cc")
		slow.set(0, false)
		wait.Wait()
		if got := n.join("lobby", "bob", hub.Lease{}, id).take(); !strings.HasPrefix(got, "reset") {
			t.Errorf("resume with %s, whose append began before the new epoch: got %q, want a reset", id, got)
		}
	})
}

// If a subscription loses messages, the hub reads them from the log, and clients receive each
// message once and in order. If the log no longer contains them, the clients receive reset.
func TestLostMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := &epochBus{Bus: memory(), epoch: "00000000aa"}
		n := openNode(t, bus)
		alice := n.join("lobby", "alice", hub.Lease{}, "")
		time.Sleep(time.Second)
		n.send("lobby", "alice", "1")
		bus.interrupt(true)
		n.send("lobby", "alice", "2")
		n.send("lobby", "alice", "3")
		alice.take()
		bus.interrupt(false)
		n.send("lobby", "alice", "4")
		if got := alice.take(); got != "message:2 message:3 message:4" {
			t.Errorf("got %q", got)
		}

		bus.interrupt(true)
		n.send("lobby", "alice", "5")
		if err := n.clear("lobby"); err != nil {
			t.Fatal(err)
		}
		n.send("lobby", "alice", "6")
		bus.interrupt(false)
		n.send("lobby", "alice", "7")
		if got := alice.take(); got != `reset:{"reason":"history"} message:6 message:7` {
			t.Errorf("the log lost message 5: got %q", got)
		}
		for range 10 { // each interruption loses more messages than half of the slots
			bus.interrupt(true)
			for range 40 {
				n.send("lobby", "alice", "8")
			}
			if err := n.clear("lobby"); err != nil {
				t.Fatal(err)
			}
			bus.interrupt(false)
		}
		alice.take()
		n.send("lobby", "alice", "9")
		if got := alice.take(); got != "message:9" {
			t.Errorf("after many losses: got %q", got)
		}
	})
}

// A repair also recovers the messages that are lost while it reads a gap.
func TestLostDuringRepair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &slowBus{Bus: memory()}
		bus := &epochBus{Bus: slow, epoch: "00000000aa"}
		n := openNode(t, bus)
		alice := n.join("lobby", "alice", hub.Lease{}, "")
		time.Sleep(time.Second)
		n.send("lobby", "alice", "1")
		bus.interrupt(true)
		n.send("lobby", "alice", "2")
		slow.set(time.Second, false)
		alice.take()
		bus.interrupt(false) // starts a read of the log that takes a second
		synctest.Wait()
		slow.set(0, false)
		n.send("lobby", "alice", "3")
		bus.interrupt(true)
		n.send("lobby", "alice", "4")
		bus.interrupt(false)
		n.send("lobby", "alice", "5")
		time.Sleep(time.Second)
		n.send("lobby", "alice", "6")
		if got := alice.take(); got != "message:2 message:3 message:4 message:5 message:6" {
			t.Errorf("got %q", got)
		}
	})
}

// A slow hook drops its own calls above its limit, but no calls of other hooks. Calls keep their
// order.
func TestSlowHook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		free := make(chan struct{})
		var members []string
		messages := 0
		var log bytes.Buffer
		n := openNode(t, memory(), func(c *hub.Config) {
			c.Warn = loglimit.New(slog.New(slog.NewTextHandler(&log, nil)))
			c.OnMessage = func(m room.Message) {
				<-free
				if len(m.Data) > 1 {
					messages++
				}
			}
			c.OnJoin = func(_ string, m room.Member) { members = append(members, "+"+string(m.ID)) }
			c.OnLeave = func(_ string, m room.Member, _ room.Reason) { members = append(members, "-"+string(m.ID)) }
		})
		large := `"` + strings.Repeat("x", 1<<20) + `"`
		for range 100 { // 100 MiB, more than the queue limit of a hook
			n.send("lobby", "alice", large)
		}
		for range 5000 { // fill the remaining space of the queue
			n.send("lobby", "alice", "0")
		}
		var want []string
		for i := range 10 {
			user := fmt.Sprint("u", i)
			c := n.join("den", user, hub.Lease{}, "")
			time.Sleep(time.Second)
			c.Drop(stream.Closed)
			time.Sleep(10 * time.Second)
			want = append(want, "+"+user, "-"+user)
		}
		if len(members) > 0 {
			t.Errorf("hooks called while another hook runs: %v", members)
		}
		close(free)
		synctest.Wait()
		if fmt.Sprint(members) != fmt.Sprint(want) {
			t.Errorf("calls of the other hooks: got %v, want %v", members, want)
		}
		if messages < 60 || messages > 65 {
			t.Errorf("%d calls of the slow hook, want 60 to 65 (limit 64 MiB)", messages)
		}
		if got := log.String(); strings.Count(got, "calls dropped") != 1 || !strings.Contains(got, "hook=OnMessage") {
			t.Errorf("logged %q, want one warning of calls dropped by OnMessage", got)
		}
	})
}

// A log entry without data is skipped, because it is not a message of a hub.
func TestEmptyEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := memory()
		n := openNode(t, bus)
		first := n.send("lobby", "alice", "0")
		if _, _, err := bus.Append(t.Context(), "lobby", "", nil); err != nil {
			t.Fatal(err)
		}
		n.send("lobby", "alice", "1")
		c := n.join("lobby", "bob", hub.Lease{}, first, func(c *fakeClient) { c.holds = true })
		time.Sleep(time.Second) // a replay counts after 100 ms
		if got := c.take(); !strings.HasPrefix(got, "message:1 sync") {
			t.Errorf("got %q", got)
		}
		c.Drop(stream.Closed)
		synctest.Wait()
	})
}

func countEnded(clients []*fakeClient) (n int) {
	for _, c := range clients {
		c.take()
		if c.ended == stream.Slow {
			n++
		}
	}
	return n
}

// Close delivers the accepted messages to the clients, and rejects later messages.
func TestCloseWaitsForMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &slowBus{Bus: memory()}
		n := openNode(t, slow)
		alice := n.join("lobby", "alice", hub.Lease{}, "")
		alice.take()
		slow.set(time.Second, false)
		var wait sync.WaitGroup
		wait.Go(func() { n.send("lobby", "alice", "1") })
		synctest.Wait()
		if err := n.Close(context.Background()); err != nil {
			t.Error(err)
		}
		wait.Wait()
		if got := alice.take(); got != `message:1 goodbye:{"reason":"draining"}` {
			t.Errorf("got %q", got)
		}
		if _, err := n.Send(t.Context(), "lobby", hub.Draft{Event: "message", Data: []byte("2")}, "alice", ""); !errors.Is(err, hub.ErrDraining) {
			t.Errorf("message after Close: got %v, want %v", err, hub.ErrDraining)
		}
	})
}

// Each hub measures grace periods with its own clock.
func TestSeparateClocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus, frozen := memory(), &stoppedClock{}
		a := openNode(t, bus)
		b := openNode(t, bus, func(c *hub.Config) { c.Clock = frozen })
		onA := a.join("lobby", "alice", hub.Lease{}, "")
		watchA := a.join("lobby", "wa", hub.Lease{}, "")
		onB := b.join("lobby", "bob", hub.Lease{}, "")
		watchB := b.join("lobby", "wb", hub.Lease{}, "")
		time.Sleep(time.Second)
		frozen.advance(time.Second)
		watchA.take()
		watchB.take()
		onA.Drop(stream.Closed)
		onB.Drop(stream.Closed)
		time.Sleep(10 * time.Second)
		if got := watchA.take(); got != "user count:1 leave" {
			t.Errorf("node whose clock runs: got %q, want a leave", got)
		}
		if got := watchB.take(); strings.Contains(got, "leave") {
			t.Errorf("node whose clock is stopped: got %q, want no leave", got)
		}
		frozen.advance(10 * time.Second)
		if got := watchB.take(); !strings.Contains(got, "leave") {
			t.Errorf("node whose clock was advanced: got %q, want a leave", got)
		}
	})
}

// A room that waits to be dropped uses one goroutine at most. Otherwise many rooms, whose users
// left at the same time, would use many goroutines.
func TestDropUsesOneGoroutine(t *testing.T) {
	n := openNode(t, memory(), func(c *hub.Config) { c.RoomAge = time.Second })
	n.send("lobby", "alice", "1")
	n.WithRoomsLocked(func() {
		before := runtime.NumGoroutine()
		<-time.After(1200 * time.Millisecond) // the drop is due after one second
		if n := runtime.NumGoroutine() - before; n > 10 {
			t.Errorf("%d goroutines wait to drop one room", n)
		}
	})
}

// A late drop keeps a room that has received a message in the meantime.
func TestLateDrop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := openNode(t, memory())
		n.send("lobby", "alice", "1")
		time.Sleep(30 * time.Second)
		if n.Drop("lobby") {
			t.Error("room dropped before it expired")
		}
		n.expectRooms("lobby")
		time.Sleep(time.Minute)
		n.expectRooms()
	})
}
