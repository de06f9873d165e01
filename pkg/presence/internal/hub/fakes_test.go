package hub_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/internal/hub"
	"example.com/presence/pkg/presence/internal/loglimit"
	"example.com/presence/pkg/presence/internal/stream"
	"example.com/presence/pkg/presence/room"
)

// node is a hub whose clients have no sockets.
type node struct {
	*hub.Hub
	t       testing.TB
	bus     backplane.Bus
	subs    *countingBus // wraps bus
	streams *fakeStreams
	opened  time.Time
}

func memory() *backplane.Memory {
	return backplane.NewMemory(backplane.MemoryConfig{Messages: 100, Age: time.Minute, Bytes: 1 << 20})
}

// openNode opens a hub on the bus. When the test ends, it closes the hub, and checks that the hub
// has released its subscriptions, clients and stream slots.
func openNode(t *testing.T, bus backplane.Bus, change ...func(*hub.Config)) *node {
	t.Helper()
	n := newNode(t, bus, change...)
	t.Cleanup(n.end)
	return n
}

// newNode is like openNode, but the caller must call end.
func newNode(t testing.TB, bus backplane.Bus, change ...func(*hub.Config)) *node {
	t.Helper()
	n := &node{t: t, bus: bus, subs: &countingBus{Bus: bus}, streams: &fakeStreams{t: t}, opened: time.Now()}
	log := slog.New(slog.DiscardHandler)
	c := hub.Config{Bus: n.subs, Streams: n.streams, Log: log, Warn: loglimit.New(log), Count: (*room.Room).Connections,
		Linger: 5 * time.Second, Coalesce: 50 * time.Millisecond, Heartbeat: 15 * time.Second, MemberLimit: 500,
		RoomAge: time.Minute, MaxRooms: 100, MaxReplay: 1 << 20}
	for _, f := range change {
		f(&c)
	}
	h, err := hub.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	n.Hub = h
	return n
}

func (n *node) end() {
	n.Close(context.Background())
	if open := n.subs.open(); len(open) > 0 {
		n.t.Errorf("subscriptions after Close: %q", open)
	}
	n.streams.mu.Lock()
	defer n.streams.mu.Unlock()
	if !n.streams.closed {
		n.t.Error("streams open after Close")
	}
	for _, s := range n.streams.all {
		s.mu.Lock()
		if len(s.slots) > 0 || len(s.clients) > 0 {
			n.t.Errorf("stream of %s after Close: %d slots taken and %d clients, want 0 and 0", s.name, len(s.slots), len(s.clients))
		}
		s.mu.Unlock()
	}
}

// join connects a client of the user and joins the room.
func (n *node) join(name, user string, l hub.Lease, lastID string, change ...func(*fakeClient)) *fakeClient {
	n.t.Helper()
	conn, err := n.Connect(n.t.Context(), room.Name(name), room.UserID(user), l)
	if err != nil {
		n.t.Fatal(err)
	}
	c := &fakeClient{node: n, conn: conn, room: name, user: user}
	for _, f := range change {
		f(c)
	}
	if err := n.Join(n.t.Context(), conn, room.User{ID: room.UserID(user), Info: []byte("{}")}, c, lastID); err != nil {
		c.Drop(stream.Closed)
		n.t.Fatal(err)
	}
	return c
}

func (n *node) send(name, user, data string) string {
	n.t.Helper()
	id, err := n.Send(n.t.Context(), room.Name(name), hub.Draft{Event: "message", Data: []byte(data)}, room.UserID(user), "")
	if err != nil {
		n.t.Fatal(err)
	}
	return id
}

// fakeStreams implements hub.Streams. Its streams deliver events immediately.
type fakeStreams struct {
	t          testing.TB
	overloaded atomic.Value // string: name of the stream that is overloaded
	excess     atomic.Int64 // in bytes

	mu     sync.Mutex // guards the fields below
	fanOut time.Duration
	all    []*fakeStream
	drains int  // number of calls of Drain
	closed bool // Close was called
}

func (s *fakeStreams) Stream(name string) hub.SharedStream {
	s.mu.Lock()
	defer s.mu.Unlock()
	one := &fakeStream{of: s, name: name, slots: make(chan struct{}, 64), clients: map[*fakeClient]bool{}}
	s.all = append(s.all, one)
	return one
}

func (s *fakeStreams) Excess() int { return int(s.excess.Load()) }

func (s *fakeStreams) last() *fakeStream {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all[len(s.all)-1]
}

func (s *fakeStreams) Drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drains++
}

func (s *fakeStreams) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
}

type fakeStream struct {
	of    *fakeStreams
	name  string
	slots chan struct{}

	mu      sync.Mutex // guards clients
	clients map[*fakeClient]bool
}

func (s *fakeStream) Publish(e stream.Event, k stream.Kind) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.ID == "" {
		s.of.t.Errorf("event without an id on the shared stream: %s", e.Append(nil))
	}
	for c := range s.clients {
		c.Send(e.Append(nil))
	}
	if k == stream.Reserved {
		s.Release()
	}
}

func (s *fakeStream) Attach(c hub.Client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !c.(*fakeClient).synced() {
		s.of.t.Error("client attached before its sync")
	}
	s.clients[c.(*fakeClient)] = true
}

func (s *fakeStream) Detach(c hub.Client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.clients[c.(*fakeClient)] {
		s.of.t.Error("client detached without being attached")
	}
	delete(s.clients, c.(*fakeClient))
}

func (s *fakeStream) Reserve(ctx context.Context) error {
	select {
	case s.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *fakeStream) Release() {
	select {
	case <-s.slots:
	default:
		s.of.t.Error("slot released without being reserved")
	}
}

func (s *fakeStream) Overloaded() bool { return s.of.overloaded.Load() == s.name }

func (s *fakeStream) Charge(*stream.Account) {}

func (s *fakeStream) FanOutTime() time.Duration {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	return s.of.fanOut
}

// fakeClient records the events that it receives, and checks that they follow the protocol.
type fakeClient struct {
	node       *node
	conn       *hub.Connection
	room, user string
	unsent     atomic.Int64
	stalled    atomic.Bool

	mu      sync.Mutex // guards the fields below
	text    []byte
	view    view
	holds   bool          // the client reads nothing, so sent callbacks are delayed until it ends
	waiting []func()      // delayed sent callbacks
	deaf    bool          // the client ignores all events
	stalls  time.Duration // delay between the end of the client and the call of Leave
	atEnd   func()        // called by End; must not lock a room
	left    func()        // called after Leave
	ended   stream.End
}

func (c *fakeClient) Held() stream.Held {
	return stream.Held{Unsent: int(c.unsent.Load()), Stalled: c.stalled.Load()}
}

func (c *fakeClient) Send(events ...[]byte) { c.SendThen(nil, events...) }

func (c *fakeClient) SendThen(sent func(), events ...[]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended == "" && !c.deaf {
		text := bytes.Join(events, nil)
		if c.view.each == nil {
			c.text = append(c.text, text...)
		}
		if err := c.view.add(string(text)); err != nil {
			c.node.t.Errorf("client %s in %s: %v", c.user, c.room, err)
		}
	}
	switch {
	case sent == nil:
	case c.holds && c.ended == "":
		c.waiting = append(c.waiting, sent)
	default:
		sent()
	}
}

// synced reports whether the client has received its sync, has ended, or ignores it.
func (c *fakeClient) synced() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.view.synced || c.deaf || c.ended != ""
}

// end returns the reason for which the client ended. It is empty before that.
func (c *fakeClient) end() stream.End {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended
}

// End ends the client in another goroutine, as a loop of package stream does.
func (c *fakeClient) End(why stream.End) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended != "" {
		return
	}
	c.node.streams.mu.Lock()
	if why == hub.EndDraining && c.node.streams.drains == 0 {
		c.node.t.Error("client got goodbye draining before Drain was called")
	}
	c.node.streams.mu.Unlock()
	c.text = append(c.text, stream.Goodbye(why).Append(nil)...)
	if c.atEnd != nil {
		c.atEnd()
	}
	c.endLocked(why)
}

func (c *fakeClient) Drop(why stream.End) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended == "" {
		c.endLocked(why)
	}
}

func (c *fakeClient) endLocked(why stream.End) {
	c.ended = why
	waiting, stalls := c.waiting, c.stalls
	go func() { // ends with the client
		time.Sleep(stalls)
		for _, sent := range waiting {
			sent()
		}
		c.node.Leave(c.conn, why)
		if c.left != nil {
			c.left()
		}
	}()
}

// take returns the events since the last call in a short form without ids: the name of each event,
// and its data if the data is short or belongs to a message.
func (c *fakeClient) take() string {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	text := string(c.text)
	c.text = nil
	var words []string
	for block := range strings.SplitSeq(text, "\n\n") {
		var name, data string
		for line := range strings.SplitSeq(block, "\n") {
			if rest, ok := strings.CutPrefix(line, "event: "); ok {
				name = rest
			} else if rest, ok := strings.CutPrefix(line, "data: "); ok {
				data = rest
			}
		}
		switch {
		case name == "":
		case name == "message":
			_, data, _ = strings.Cut(data, `"data":`)
			data, _, _ = strings.Cut(data, `,"at"`)
			words = append(words, "message:"+data)
		case len(data) <= 25:
			words = append(words, name+":"+data)
		default:
			words = append(words, name)
		}
	}
	return strings.Join(words, " ")
}
