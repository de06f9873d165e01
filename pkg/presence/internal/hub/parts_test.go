package hub

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/internal/loglimit"
	"example.com/presence/pkg/presence/internal/stream"
	"example.com/presence/pkg/presence/room"
)

// reader is a hub with the room lobby, which reads the part of one scripted peer.
type reader struct {
	*Hub
	t    *testing.T
	live *live
	bus  *pullBus
	peer *writer
}

// pullBus answers the pulls of the hub as its peer would.
type pullBus struct {
	backplane.Bus

	mu     sync.Mutex                 // guards the fields below
	answer func(p partsOf) *partPiece // nil, or a nil result: no answer
	delay  time.Duration              // of each answer
	pulls  []string                   // the last user of the piece before, for each pull
}

func (b *pullBus) Ask(ctx context.Context, topic room.Name, request []byte, answers func([]byte) bool) error {
	var c command
	if err := parseFrame(request, &c, &c.V); err != nil || c.Parts == nil || c.Of == nil {
		return b.Bus.Ask(ctx, topic, request, answers)
	}
	b.mu.Lock()
	b.pulls = append(b.pulls, string(c.Parts.After))
	answer, delay := b.answer, b.delay
	b.mu.Unlock()
	time.Sleep(delay)
	if answer != nil {
		if piece := answer(*c.Parts); piece != nil && !answers(encodeFrame(answerOf(piece))) {
			return nil
		}
	}
	<-ctx.Done()
	return nil
}

func answerOf(piece *partPiece) answer { return answer{V: frameVersion, From: "peer", Part: piece} }

func (b *pullBus) set(delay time.Duration, answer func(partsOf) *partPiece) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.delay, b.answer = delay, answer
}

// takePulls returns the pulls since the last call.
func (b *pullBus) takePulls() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	pulls := b.pulls
	b.pulls = nil
	return pulls
}

// silentStreams is a Streams without clients.
type silentStreams struct{}

func (silentStreams) Stream(string) SharedStream { return silentStream{} }
func (silentStreams) Drain()                     {}
func (silentStreams) Close()                     {}

type silentStream struct{}

func (silentStream) Overloaded() bool                  { return false }
func (silentStream) Charge(*stream.Account)            {}
func (silentStreams) Excess() int                      { return 0 }
func (silentStream) Publish(stream.Event, stream.Kind) {}
func (silentStream) Attach(Client)                     {}
func (silentStream) Detach(Client)                     {}
func (silentStream) Reserve(context.Context) error     { return nil }
func (silentStream) Release()                          {}
func (silentStream) FanOutTime() time.Duration         { return 0 }

// testParts runs the test in a bubble.
func testParts(t *testing.T, test func(*reader)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		memory := backplane.NewMemory(backplane.MemoryConfig{Messages: 100, Age: time.Minute, Bytes: 1 << 20, Shared: true})
		bus := &pullBus{Bus: memory}
		log := slog.New(slog.DiscardHandler)
		h, err := Open(Config{Bus: bus, Streams: silentStreams{}, Log: log, Warn: loglimit.New(log), Count: (*room.Room).Connections, Node: "self",
			Linger: 5 * time.Second, Coalesce: 50 * time.Millisecond, MemberLimit: 5000, RoomAge: time.Minute, MaxRooms: 10, MaxReplay: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { h.Close(context.Background()) })
		time.Sleep(2 * time.Second)
		r := &reader{Hub: h, t: t, bus: bus, peer: newWriter()}
		r.live = r.open("lobby")
		test(r)
	})
}

func (r *reader) open(name room.Name) *live {
	r.t.Helper()
	l, err := r.Hub.openWhole(r.t.Context(), name, "")
	if err != nil {
		r.t.Fatal(err)
	}
	return l
}

// get delivers frames of the peer.
func (r *reader) get(frames ...partFrame) {
	for _, f := range frames {
		r.receiveFrame(r.live, encodeFrame(f))
	}
	synctest.Wait()
}

// expect compares the members of the room, for example "alice1 bob0", and the number of requests of
// pulls since the last call.
func (r *reader) expect(when, members string, pulls int) {
	r.t.Helper()
	synctest.Wait()
	words := []string{}
	for _, m := range r.live.members("", 10_000).Members {
		words = append(words, fmt.Sprint(m.ID, m.Connections))
	}
	if got := strings.Join(words, " "); got != members {
		r.t.Errorf("%s: got members %q, want %q", when, got, members)
	}
	if got := r.bus.takePulls(); len(got) != pulls {
		r.t.Errorf("%s: got pulls %q, want %d", when, got, pulls)
	}
}

// part returns the state of the copy of the peer's part.
func (r *reader) part() peerPart {
	r.live.mu.Lock()
	defer r.live.mu.Unlock()
	if p := r.live.exchange.peers["peer"]; p != nil {
		return *p
	}
	return peerPart{}
}

// writer is the peer: its part and the number of its last frame.
type writer struct {
	mu sync.Mutex // guards the fields below
	room.Room
	number uint64
	next   room.ConnID
	conns  map[room.UserID][]room.ConnID
}

func newWriter() *writer {
	return &writer{Room: room.NewShared(room.Config{Linger: 5 * time.Second, MemberLimit: 5000}, "peer", graceMargin),
		conns: map[room.UserID][]room.ConnID{}}
}

func (w *writer) join(users ...room.UserID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, u := range users {
		w.next++
		w.conns[u] = append(w.conns[u], w.next)
		w.Join(w.next, room.User{ID: u, Info: []byte("{}")}, time.Now())
	}
}

func (w *writer) leave(u room.UserID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.Leave(w.conns[u][0], u, room.Closed, time.Now())
	w.conns[u] = w.conns[u][1:]
}

// frame returns the next frame with up to limit changes, or a repeat if there is no change.
func (w *writer) frame(limit int) partFrame {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := partFrame{V: frameVersion, From: "peer"}
	if w.HasDelta() {
		w.number++
		f.Changed = entriesOf(w.Delta(limit, time.Now()), time.Now())
		f.More = w.HasDelta()
	}
	f.Number = w.number
	f.Users, f.Connections = w.Totals("peer")
	return f
}

// piece answers a pull.
func (w *writer) piece(p partsOf) *partPiece {
	w.mu.Lock()
	defer w.mu.Unlock()
	own, more := w.Own(p.After, maxEntries, time.Now())
	return &partPiece{Number: w.number, Entries: entriesOf(own, time.Now()), More: more}
}

// known makes the reader know the part alice1 at number 5.
func (r *reader) known() {
	r.bus.set(0, r.peer.piece)
	r.peer.join("alice")
	r.peer.frame(100)
	r.peer.number = 5
	r.get(r.peer.frame(100))
	time.Sleep(time.Second)
	r.expect("at first", "alice1", 1)
}

// Each row of the comment on applyLocked.
func TestApplyFrame(t *testing.T) {
	bob := []entry{{ID: "bob", Connections: 2}}
	for _, test := range []struct {
		name    string
		frame   partFrame
		members string
		number  uint64
		pulls   bool
	}{
		{"next, with changes", partFrame{Number: 6, Users: 2, Connections: 3, Changed: bob}, "alice1 bob2", 6, false},
		{"next, with changes and other users", partFrame{Number: 6, Users: 3, Connections: 3, Changed: bob}, "alice1 bob2", 6, true},
		{"next, with changes and other connections", partFrame{Number: 6, Users: 2, Connections: 4, Changed: bob}, "alice1 bob2", 6, true},
		{"next, with changes and more to come", partFrame{Number: 6, Users: 9, Connections: 9, Changed: bob, More: true}, "alice1 bob2", 6, false},
		{"next, with malformed changes", partFrame{Number: 6, Changed: []entry{{ID: "bob", Connections: -2}}}, "alice1", 5, true},
		{"next, without changes", partFrame{Number: 6, Users: 1, Connections: 1}, "alice1", 5, true},
		{"the same, with changes", partFrame{Number: 5, Users: 2, Connections: 3, Changed: bob}, "alice1", 5, false},
		{"the same, without changes", partFrame{Number: 5, Users: 1, Connections: 1}, "alice1", 5, false},
		{"the same, other users", partFrame{Number: 5, Users: 0, Connections: 1}, "alice1", 5, true},
		{"the same, other connections", partFrame{Number: 5, Users: 1, Connections: 2}, "alice1", 5, true},
		{"lower, with changes", partFrame{Number: 4, Users: 2, Connections: 3, Changed: bob}, "alice1", 5, false},
		{"lower, without changes", partFrame{Number: 4, Users: 2, Connections: 3}, "alice1", 5, false},
		{"a gap, with changes", partFrame{Number: 7, Users: 2, Connections: 3, Changed: bob}, "alice1", 5, true},
		{"a gap, without changes", partFrame{Number: 7, Users: 1, Connections: 1}, "alice1", 5, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			testParts(t, func(r *reader) {
				r.known()
				r.bus.set(0, nil) // no further answer
				test.frame.V, test.frame.From = frameVersion, "peer"
				r.get(test.frame)
				pulls := 0
				if test.pulls {
					pulls = 1
				}
				r.expect(test.name, test.members, pulls)
				if got := r.part().number; got != test.number {
					t.Errorf("got number %d, want %d", got, test.number)
				}
			})
		})
	}
}

// The copy of a part is pulled if the numbers of its peer have gone back. Late frames with lower
// numbers, for example after a partition, cause one pull at most.
func TestLowerNumbers(t *testing.T) {
	repeat := func(number uint64) partFrame {
		return partFrame{V: frameVersion, From: "peer", Number: number, Users: 1, Connections: 1}
	}
	testParts(t, func(r *reader) {
		r.known()
		r.peer.number = 0
		r.peer.join("bob")
		time.Sleep(2 * time.Second)
		r.get(repeat(5))
		r.get(r.peer.frame(100), r.peer.frame(100))
		time.Sleep(3 * time.Second)
		r.get(r.peer.frame(100))
		time.Sleep(2 * time.Second)
		r.get(r.peer.frame(100))
		r.expect("5 s after the last frame that fitted", "alice1", 0)
		time.Sleep(time.Millisecond)
		r.get(r.peer.frame(100))
		r.expect("later", "alice1 bob1", 1)
		r.peer.join("carol")
		r.get(r.peer.frame(100), r.peer.frame(100))
		r.expect("next change", "alice1 bob1 carol1", 0)
	})
	testParts(t, func(r *reader) { // late frames
		r.known()
		for range 3 {
			time.Sleep(3 * time.Second)
			r.get(partFrame{V: frameVersion, From: "peer", Number: 4, Changed: []entry{{ID: "bob", Connections: 1}}})
		}
		r.expect("late changes", "alice1", 0)
		for range 40 {
			r.get(repeat(3), repeat(4))
			time.Sleep(100 * time.Millisecond)
		}
		r.expect("late repeats", "alice1", 1)
	})
}

// A part that is not known needs a pull, unless it never had a user.
func TestUnknownPart(t *testing.T) {
	testParts(t, func(r *reader) {
		r.bus.set(0, r.peer.piece)
		r.get(r.peer.frame(100))
		r.expect("part that never had a user", "", 0)
		r.peer.join("alice")
		r.get(r.peer.frame(100))
		r.expect("its first change", "alice1", 0)
		r.leaves("peer")
		r.expect("after the peer has left", "alice0", 0)
		r.get(r.peer.frame(100))
		r.expect("a late frame of it", "alice0", 0)
		if p := r.part(); p.known || p.stale {
			t.Errorf("the room keeps the part of a peer that has left: %+v", p)
		}
	})
	testParts(t, func(r *reader) {
		r.bus.set(0, r.peer.piece)
		r.peer.join("alice")
		r.get(r.peer.frame(100)) // the first frame, whose number follows 0
		r.expect("part with a user", "alice1", 1)
	})
	testParts(t, func(r *reader) {
		r.bus.set(0, r.peer.piece)
		r.peer.join("alice")
		r.peer.frame(100)
		r.peer.leave("alice")
		r.peer.frame(100)
		r.get(r.peer.frame(100)) // repeats totals of 0
		r.expect("part with a user in its grace period", "alice0", 1)
	})
}

// leaves makes a node shut down.
func (r *reader) leaves(node room.NodeID) {
	r.receiveHeartbeat(encodeFrame(heartbeat{V: frameVersion, From: node, Leaving: true}))
	synctest.Wait()
}

// Frames that arrive during a pull are applied after it, to a part that was read at any of their
// numbers.
func TestFramesDuringPull(t *testing.T) {
	for _, late := range []bool{false, true} { // whether the piece is read after the frames
		testParts(t, func(r *reader) {
			r.known()
			piece := r.peer.piece
			if !late {
				first := r.peer.piece(partsOf{})
				piece = func(partsOf) *partPiece { return first }
			}
			r.bus.set(500*time.Millisecond, piece)
			r.get(partFrame{V: frameVersion, From: "peer", Number: 5, Users: 9, Connections: 9})
			r.peer.join("bob")
			r.get(r.peer.frame(100))
			r.peer.join("carol")
			r.peer.leave("alice")
			f := r.peer.frame(100)
			r.get(f, f, r.peer.frame(100))
			r.expect("during the pull", "alice1", 1)
			time.Sleep(time.Second)
			r.expect("after it", "alice0 bob1 carol1", 1)
			r.peer.join("alice")
			r.get(r.peer.frame(100))
			r.expect("next frame", "alice1 bob1 carol1", 0)
		})
	}
}

// A grace period in a frame that was held during a pull is counted from the arrival of the frame.
func TestGracePeriodDuringPull(t *testing.T) {
	testParts(t, func(r *reader) {
		r.known()
		first := r.peer.piece(partsOf{})
		r.bus.set(900*time.Millisecond, func(partsOf) *partPiece { return first })
		r.get(partFrame{V: frameVersion, From: "peer", Number: 5, Users: 9, Connections: 9})
		r.peer.leave("alice")
		r.get(r.peer.frame(100))
		time.Sleep(5400 * time.Millisecond)
		r.expect("before the end of the grace period", "alice0", 2)
		time.Sleep(200 * time.Millisecond)
		r.expect("after it", "", 0)
	})
}

// If too many frames arrive during a pull, they are dropped, and the part is pulled again.
func TestTooManyFramesDuringPull(t *testing.T) {
	testParts(t, func(r *reader) {
		r.known()
		first := r.peer.piece(partsOf{})
		r.bus.set(500*time.Millisecond, func(partsOf) *partPiece { return first })
		r.get(partFrame{V: frameVersion, From: "peer", Number: 5, Users: 9, Connections: 9})
		for range maxHeld + 1 {
			r.peer.join("bob")
			r.get(r.peer.frame(100))
		}
		if held := len(r.part().held); held > maxHeld {
			t.Errorf("the room holds %d frames, want at most %d", held, maxHeld)
		}
		time.Sleep(500 * time.Millisecond)
		r.expect("after the first pull", "alice1", 2)
		r.bus.set(0, r.peer.piece)
		time.Sleep(time.Second)
		r.expect("after the second pull", fmt.Sprint("alice1 bob", maxHeld+1), 1)
	})
}

// A large part is read in pieces while it changes.
func TestPullInPieces(t *testing.T) {
	testParts(t, func(r *reader) {
		var users []room.UserID
		for i := range 600 {
			users = append(users, room.UserID(fmt.Sprintf("u%03d", i)))
		}
		r.peer.join(users...)
		for range 3 {
			r.peer.frame(maxEntries)
		}
		r.bus.set(0, func(p partsOf) *partPiece {
			piece := r.peer.piece(p)
			for _, u := range []room.UserID{"u001", "u400", "u599"} {
				r.peer.leave(u)
				r.peer.join(u, u, u+"a")
			}
			r.receiveFrame(r.live, encodeFrame(r.peer.frame(maxEntries)))
			return piece
		})
		r.get(r.peer.frame(maxEntries))
		time.Sleep(time.Second)
		if pulls, want := r.bus.takePulls(), []string{"", "u255", "u510"}; !slices.Equal(pulls, want) {
			t.Errorf("got pulls after %q, want %q", pulls, want)
		}
		want := []string{}
		members, _ := r.peer.Members("", 1000)
		for _, m := range members {
			want = append(want, fmt.Sprint(m.ID, m.Connections))
		}
		r.expect("after three pieces", strings.Join(want, " "), 0)
		connections := r.live.members("", 1).Connections
		if p := r.part(); p.stale || p.number != r.peer.number || connections != r.peer.Connections() {
			t.Errorf("got stale %v, number %d, %d connections; want false, %d, %d", p.stale, p.number, connections, r.peer.number, r.peer.Connections())
		}
	})
}

// A pull ends although a peer announces further pieces forever: at once if it repeats a piece, and
// after partTime if each piece is late. The next attempt follows as after any failed pull.
func TestEndlessPieces(t *testing.T) {
	for _, test := range []struct {
		name   string
		delay  time.Duration
		repeat bool
		pulls  int // within the time of the first attempt
	}{{"the same piece", 0, true, 2}, {"late pieces", 900 * time.Millisecond, false, 10}} {
		testParts(t, func(r *reader) {
			r.known()
			var next atomic.Int64
			r.bus.set(test.delay, func(partsOf) *partPiece {
				if !test.repeat {
					next.Add(1)
				}
				return &partPiece{Number: 9, Entries: []entry{{ID: room.UserID(fmt.Sprintf("u%03d", next.Load())), Connections: 1}}, More: true}
			})
			r.get(partFrame{V: frameVersion, From: "peer", Number: 9, Users: 1, Connections: 1})
			time.Sleep(test.delay * 50 / 9) // 5 s
			r.bus.set(0, r.peer.piece)
			time.Sleep(50 * time.Millisecond)
			r.expect(test.name, "alice1", test.pulls)
			r.peer.join("bob")
			time.Sleep(time.Second) // the next attempt, which answers keep alive
			r.expect("next attempt of "+test.name, "alice1 bob1", 1)
		})
	}
}

// A part that gets a new user with each frame is read once: a frame before the last piece lacks the
// users of that piece.
func TestPullInPiecesOfNewUsers(t *testing.T) {
	testParts(t, func(r *reader) {
		for i := range 600 {
			r.peer.join(room.UserID(fmt.Sprintf("u%03d", i)))
		}
		for range 3 {
			r.peer.frame(maxEntries)
		}
		next := 0
		r.bus.set(0, func(p partsOf) *partPiece {
			piece := r.peer.piece(p)
			for range 2 {
				r.peer.join(room.UserID(fmt.Sprint("z", next)))
				next++
				r.receiveFrame(r.live, encodeFrame(r.peer.frame(maxEntries)))
			}
			return piece
		})
		r.get(r.peer.frame(maxEntries))
		time.Sleep(3 * time.Second) // within the lease of the peer
		if pulls, want := r.bus.takePulls(), []string{"", "u255", "u511"}; len(pulls) != len(want) {
			t.Errorf("got pulls after %q, want %d pulls", pulls, len(want))
		}
		if p, got := r.part(), r.live.members("", 1).Connections; p.stale || got != r.peer.Connections() {
			t.Errorf("got stale %v, %d connections; want false, %d", p.stale, got, r.peer.Connections())
		}
	})
}

// A pull whose request or answer is lost repeats the request after 250 ms. Otherwise a loss of one
// frame would take more than 2 s.
func TestLostPull(t *testing.T) {
	testParts(t, func(r *reader) {
		r.known()
		users := make([]room.UserID, maxEntries+1)
		for i := range users {
			users[i] = room.UserID(fmt.Sprintf("user%04d", i))
		}
		r.peer.join(users...)
		r.peer.frame(100)
		var lost sync.Map // the pieces whose first answer is lost
		r.bus.set(0, func(p partsOf) *partPiece {
			if _, again := lost.LoadOrStore(p.After, true); !again {
				return nil
			}
			return r.peer.piece(p)
		})
		start := time.Now()
		r.get(partFrame{V: frameVersion, From: "peer", Number: 9, Users: 9, Connections: 9})
		for r.part().number != r.peer.number && time.Since(start) < 5*time.Second {
			time.Sleep(50 * time.Millisecond)
			synctest.Wait()
		}
		if d := time.Since(start); d != 500*time.Millisecond {
			t.Errorf("the part in two pieces was read after %v, want 500ms", d)
		}
	})
}

// A peer that does not answer is asked again, ever less often, while it lives.
func TestPullWithoutAnswer(t *testing.T) {
	testParts(t, func(r *reader) {
		r.known()
		r.bus.set(0, nil)
		start := time.Now()
		r.get(partFrame{V: frameVersion, From: "peer", Number: 9, Users: 1, Connections: 1})
		r.expect("at once", "alice1", 1)
		for _, next := range []time.Duration{1100, 2350, 3850} { // each waits 1 s, and repeats its request once
			time.Sleep(time.Until(start.Add(next*time.Millisecond - time.Nanosecond)))
			r.expect("before the next pull", "alice1", 1)
			time.Sleep(time.Nanosecond)
			r.expect(fmt.Sprint("at ", time.Since(start)), "alice1", 1)
		}
		time.Sleep(time.Minute) // the lease ends 5 s after the frame, and so does the grace period
		r.expect("dead", "", 1)
	})
	testParts(t, func(r *reader) { // it answers the second time
		r.known()
		r.bus.set(0, nil)
		r.get(partFrame{V: frameVersion, From: "peer", Number: 9, Users: 1, Connections: 1})
		time.Sleep(500 * time.Millisecond)
		r.peer.join("bob")
		r.peer.number = 9
		r.bus.set(0, r.peer.piece)
		time.Sleep(time.Second)
		r.expect("after the second pull", "alice1 bob1", 3)
	})
}

// The totals of a frame with more to come include the changes of the next frame.
func TestChangesInTwoFrames(t *testing.T) {
	testParts(t, func(r *reader) {
		r.known()
		r.peer.join("bob", "carol", "dave")
		first, second := r.peer.frame(2), r.peer.frame(2)
		if !first.More || second.More || first.Users != 4 {
			t.Fatalf("got frames %+v and %+v", first, second)
		}
		r.get(first)
		r.expect("first", "alice1 bob1 carol1", 0)
		r.get(second)
		r.expect("second", "alice1 bob1 carol1 dave1", 0)
		r.peer.join("eve", "frank", "grace")
		first, second = r.peer.frame(2), r.peer.frame(2)
		r.get(second, first) // as after a reconnect
		time.Sleep(time.Second)
		r.expect("in another order", "alice1 bob1 carol1 dave1 eve1 frank1 grace1", 1)
	})
}

// A node publishes at most 256 changes per frame.
func TestOwnFrames(t *testing.T) {
	testParts(t, func(r *reader) {
		r.live.mu.Lock()
		for i := range 600 {
			r.live.room.Join(room.ConnID(i), room.User{ID: room.UserID(fmt.Sprint(i)), Info: []byte("{}")}, time.Now())
		}
		r.live.mu.Unlock()
		frames, _, _ := r.live.frames(time.Now(), many)
		got := []string{}
		for _, f := range frames {
			got = append(got, fmt.Sprintf("n%d: %d of %d, more %v", f.Number, len(f.Changed), f.Users, f.More))
		}
		want := []string{"n1: 256 of 600, more true", "n2: 256 of 600, more true", "n3: 88 of 600, more false"}
		if !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		r.live.mu.Lock()
		defer r.live.mu.Unlock()
		for i := range 600 {
			r.live.room.Leave(room.ConnID(i), room.UserID(fmt.Sprint(i)), room.Closed, time.Now())
		}
		r.live.flushLocked(time.Now())
	})
}

// number returns the number of the last own frame with changes.
func (l *live) number() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.exchange.number
}

// A room that is opened again numbers its frames above those of all rooms that were dropped. So a
// late frame from before is ignored.
func TestNumbersOfDroppedRoom(t *testing.T) {
	testParts(t, func(r *reader) {
		for i := range 3 {
			r.live.mu.Lock()
			r.live.room.Join(room.ConnID(i), room.User{ID: "alice", Info: []byte("{}")}, time.Now())
			r.live.flushLocked(time.Now())
			r.live.mu.Unlock()
			time.Sleep(100 * time.Millisecond)
		}
		for i := range 3 {
			r.live.mu.Lock()
			r.live.room.Leave(room.ConnID(i), "alice", room.Closed, time.Now())
			r.live.flushLocked(time.Now())
			r.live.mu.Unlock()
		}
		time.Sleep(50 * time.Millisecond)
		number := r.live.number()
		if number != 4 {
			t.Errorf("got number %d after four frames with changes, want 4", number)
		}
		old := r.live
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if r.rooms.find("lobby") != nil || !old.closed {
			t.Fatal("the unused room was not dropped")
		}
		if r.live = r.open("lobby"); r.live == old || r.live.number() != number || r.open("den").number() != number {
			t.Errorf("new rooms: got numbers %d, %d, want %d", r.live.number(), r.open("den").number(), number)
		}
		if piece := r.pieceOf(partsOf{Room: "not open"}); piece.Number != number {
			t.Errorf("part of a room that is not open: got number %d, want %d", piece.Number, number)
		}
	})
}
