package hub_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
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
	t       *testing.T
	bus     backplane.Bus
	streams *fakeStreams
	opened  time.Time
}

// memory returns a memory Bus.
func memory() *backplane.Memory {
	return backplane.NewMemory(backplane.MemoryConfig{Messages: 100, Age: time.Minute, Bytes: 1 << 20})
}

// openNode opens a hub on the bus. It is closed with the test.
func openNode(t *testing.T, bus backplane.Bus, change ...func(*hub.Config)) *node {
	t.Helper()
	n := &node{t: t, bus: bus, streams: &fakeStreams{}, opened: time.Now()}
	log := slog.New(slog.DiscardHandler)
	c := hub.Config{Bus: bus, Streams: n.streams, Log: log, Warn: loglimit.New(log), Count: (*room.Room).Connections,
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
	t.Cleanup(func() { h.Close(context.Background()) })
	return n
}

// join has a user join the room.
func (n *node) join(name, user string, l hub.Lease, lastID string, change ...func(*fakeClient)) *fakeClient {
	n.t.Helper()
	conn, err := n.Connect(n.t.Context(), room.Name(name), room.UserID(user), l)
	if err != nil {
		n.t.Fatal(err)
	}
	c := &fakeClient{node: n, conn: conn}
	for _, f := range change {
		f(c)
	}
	if err := n.Join(n.t.Context(), conn, room.User{ID: room.UserID(user), Info: []byte("{}")}, c, lastID); err != nil {
		c.Drop(stream.Closed)
		n.t.Fatal(err)
	}
	return c
}

// send sends a message as the user and returns its id.
func (n *node) send(name, user, data string) string {
	n.t.Helper()
	id, err := n.Send(n.t.Context(), room.Name(name), hub.Draft{Event: "message", Data: []byte(data)}, room.UserID(user), "")
	if err != nil {
		n.t.Fatal(err)
	}
	return id
}

// fakeStreams are shared streams that deliver at once.
type fakeStreams struct {
	mu     sync.Mutex // guards fanOut
	fanOut time.Duration
}

func (s *fakeStreams) Stream(string) hub.SharedStream {
	return &fakeStream{of: s, slots: make(chan struct{}, 64), clients: map[*fakeClient]bool{}}
}
func (s *fakeStreams) Drain() {}
func (s *fakeStreams) Close() {}

type fakeStream struct {
	of    *fakeStreams
	slots chan struct{}

	mu      sync.Mutex // guards clients
	clients map[*fakeClient]bool
}

func (s *fakeStream) Publish(e stream.Event, k stream.Kind) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.clients {
		c.Send(e.Append(nil))
	}
	if k == stream.Reserved {
		<-s.slots
	}
}

func (s *fakeStream) Attach(c hub.Client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clients[c.(*fakeClient)] = true
}

func (s *fakeStream) Detach(c hub.Client) {
	s.mu.Lock()
	defer s.mu.Unlock()
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

func (s *fakeStream) Release() { <-s.slots }

func (s *fakeStream) FanOutTime() time.Duration {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	return s.of.fanOut
}

// fakeClient records the events that it gets.
type fakeClient struct {
	node *node
	conn *hub.Connection

	mu      sync.Mutex // guards what follows
	text    []byte
	holds   bool          // it takes nothing: sent is called when it ends
	waiting []func()      // sent
	stalls  time.Duration // its end takes that long
	ended   stream.End
}

func (c *fakeClient) Send(events ...[]byte) { c.SendThen(nil, events...) }

func (c *fakeClient) SendThen(sent func(), events ...[]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended == "" {
		c.text = append(c.text, bytes.Join(events, nil)...)
	}
	switch {
	case sent == nil:
	case c.holds && c.ended == "":
		c.waiting = append(c.waiting, sent)
	default:
		sent()
	}
}

// End ends the client on a goroutine of its own, as a loop does.
func (c *fakeClient) End(why stream.End) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended != "" {
		return
	}
	c.text = append(c.text, stream.Goodbye(why).Append(nil)...)
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
	}()
}

// take returns the events since the last call in short: their names, and their data if it is short.
// The first line of each is its id.
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
