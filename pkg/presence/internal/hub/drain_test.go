package hub_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
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

// travelers are clients of a node that reconnect to another one as browsers do: 1 to 3 s after
// their goodbye, with their last id.
type travelers struct {
	t     *testing.T
	to    *node
	users bool // the user count is that of the users
	start time.Time

	mu       sync.Mutex      // guards the fields below
	goodbyes []time.Duration // since start
	rejoins  []time.Duration
	messages map[string][]string // of each user, in order of arrival
	resets   int
	wait     sync.WaitGroup
}

// join connects the user to the node, and to the other node when its stream ends.
func (r *travelers) join(n *node, user, lastID string) {
	n.join("lobby", user, hub.Lease{}, lastID, func(c *fakeClient) {
		c.view.users = r.users
		last := ""
		c.view.each = func(event, id string, data []byte) {
			if id != "" {
				last = id
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			switch event {
			case "message":
				_, text, _ := strings.Cut(string(data), `"data":`)
				text, _, _ = strings.Cut(text, `,"at"`)
				r.messages[user] = append(r.messages[user], text)
			case "reset":
				r.resets++
			}
		}
		if n == r.to {
			return
		}
		c.atEnd = func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.goodbyes = append(r.goodbyes, time.Since(r.start))
			r.wait.Add(1)
		}
		c.left = func() {
			defer r.wait.Done()
			time.Sleep(time.Second + rand.N(2*time.Second))
			r.join(r.to, user, last)
			r.mu.Lock()
			defer r.mu.Unlock()
			r.rejoins = append(r.rejoins, time.Since(r.start))
		}
	})
}

// least returns the lowest count that a client may have now, if total clients exist. It misses the
// clients on their way. A frame and a flush interval may delay that a client has arrived, by up to
// 200 ms.
func (r *travelers) least(total int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	count := total - len(r.goodbyes)
	for _, at := range r.rejoins {
		if time.Since(r.start)-at > 200*time.Millisecond {
			count++
		}
	}
	return count
}

// checkGoodbyes checks that the goodbyes are spread over the middle half of the grace.
func (r *travelers) checkGoodbyes(grace time.Duration, n int) {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.goodbyes) != n || r.goodbyes[0] != grace/4 || r.goodbyes[n-1] > grace*3/4 {
		r.t.Fatalf("got %d goodbyes at %v, want %d from %v to %v", len(r.goodbyes), r.goodbyes, n, grace/4, grace*3/4)
	}
	for eighth := range 8 {
		from := grace/4 + time.Duration(eighth)*grace/16
		here := 0
		for _, at := range r.goodbyes {
			if at >= from && at < from+grace/16 {
				here++
			}
		}
		if want := n / 8; here < want-3 || here > want+3 {
			r.t.Errorf("got %d goodbyes from %v on, want about %d", here, from, want)
		}
	}
}

// A node of a cluster that shuts down sends its goodbyes over half of the grace, while its clients
// still send and receive. Users that reconnect to another node do not leave, the count misses only
// the clients on their way, and no message is lost.
func TestSpreadGoodbyes(t *testing.T) {
	const clients, grace = 100, 8 * time.Second
	for name, count := range map[string]func(*room.Room) int{"connections": (*room.Room).Connections, "users": (*room.Room).Users} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				nodes, _ := openCluster(t, 3, withRings, func(c *hub.Config) { c.Grace, c.Count = grace, count })
				r := &travelers{t: t, to: nodes[1], users: name == "users", messages: map[string][]string{}}
				for i := range clients {
					r.join(nodes[0], fmt.Sprint("user-", i), "")
				}
				observer := nodes[2].join("lobby", "observer", hub.Lease{}, "", func(c *fakeClient) {
					c.view.users = r.users
					c.view.each = func(event, _ string, data []byte) {
						switch event {
						case "leave":
							t.Errorf("the observer got leave %s", data)
						case "user count":
							n, _ := strconv.Atoi(string(data))
							least := clients + 1
							if !r.users {
								least = r.least(clients + 1)
							}
							if n < least && !r.start.IsZero() || n > clients+1 {
								t.Errorf("the observer got user count %d, want %d to %d", n, least, clients+1)
							}
						}
					}
				})
				time.Sleep(10 * time.Second)
				r.start = time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), grace)
				defer cancel()
				closed := make(chan error, 1)
				go func() { closed <- nodes[0].Close(ctx) }()
				sent := r.sendUntil(nodes, grace*3/4)
				if err := <-closed; err != nil || time.Since(r.start) > grace {
					t.Errorf("Close: got %v after %v, want success within %v", err, time.Since(r.start), grace)
				}
				r.wait.Wait()
				time.Sleep(2 * time.Second)
				r.checkGoodbyes(grace, clients)
				r.checkMessages(sent, clients)
				observer.mu.Lock()
				defer observer.mu.Unlock()
				if observer.view.count != clients+1 || len(observer.view.members) != clients+1 {
					t.Errorf("at the end: got count %d and %d members, want %d", observer.view.count, len(observer.view.members), clients+1)
				}
			})
		})
	}
}

// sendUntil sends messages through the node that shuts down and another one, until the time at
// which the first one may reject them.
func (r *travelers) sendUntil(nodes []*node, end time.Duration) (sent []string) {
	r.t.Helper()
	for i := 0; time.Since(r.start) < end-100*time.Millisecond; i++ {
		text := strconv.Itoa(i)
		nodes[i%2].send("lobby", "observer", text)
		sent = append(sent, text)
		time.Sleep(100 * time.Millisecond)
	}
	if _, err := nodes[0].Connect(r.t.Context(), "lobby", "newcomer", hub.Lease{}); !errors.Is(err, hub.ErrDraining) {
		r.t.Errorf("newcomer: got %v, want %v", err, hub.ErrDraining)
	}
	return sent
}

func (r *travelers) checkMessages(sent []string, clients int) {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.messages) != clients || r.resets > 0 {
		r.t.Errorf("got messages of %d users and %d resets, want %d and none", len(r.messages), r.resets, clients)
	}
	for user, got := range r.messages {
		if !slices.Equal(got, sent) {
			r.t.Errorf("%s got messages %v, want %v", user, got, sent)
		}
	}
}

// The end of ctx ends the spread: all goodbyes follow at once. A node without clients still waits
// for a quarter of the grace, as load balancers may still send requests.
func TestSpreadEnds(t *testing.T) {
	for _, test := range []struct {
		name    string
		clients int
		cancel  time.Duration
		want    time.Duration
	}{
		{"before the first goodbye", 10, time.Second, time.Second},
		{"between goodbyes", 10, 3 * time.Second, 3 * time.Second},
		{"no client", 0, time.Minute, 2 * time.Second},
		{"one client", 1, time.Minute, 2 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				nodes, _ := openCluster(t, 2, func(c *hub.Config) { c.Grace = 8 * time.Second })
				for i := range test.clients {
					nodes[0].join("lobby", fmt.Sprint(i), hub.Lease{}, "")
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer time.AfterFunc(test.cancel, cancel).Stop()
				start := time.Now()
				first := nodes[0].Close(ctx)
				if err := nodes[0].Close(context.Background()); err != nil {
					t.Error(err)
				}
				if d := time.Since(start); d != test.want || (first != nil) != (d == test.cancel) {
					t.Errorf("got %v and closed after %v, want %v", first, d, test.want)
				}
				if s := nodes[1].Stats(); s.Peers != 0 {
					t.Errorf("got %d peers of the other node, want 0", s.Peers)
				}
			})
		})
	}
}

// While its goodbyes are spread, a node is a live peer: it answers all requests, and applies the
// changes of the others. A node alone sends all goodbyes at once.
func TestRequestsDuringSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes, _ := openCluster(t, 2, func(c *hub.Config) { c.Grace = 8 * time.Second })
		a, b := nodes[0], nodes[1]
		alice := a.join("lobby", "alice", hub.Lease{}, "")
		time.Sleep(time.Second)
		go a.Close(t.Context())
		time.Sleep(time.Second)
		alice.take()
		bob := b.join("lobby", "bob", hub.Lease{}, "")
		time.Sleep(100 * time.Millisecond)
		alice.expect("join user count:2")
		for i, n := range nodes {
			if err := n.Update(t.Context(), "lobby", "alice", fmt.Appendf(nil, `{"n":%d}`, i)); err != nil {
				t.Errorf("Update on node %d: %v", i, err)
			}
			if p, err := n.Members(t.Context(), "lobby", "", 10); err != nil || p.Users != 2 {
				t.Errorf("Members on node %d: got %d users, %v; want 2", i, p.Users, err)
			}
			if rooms, _, err := n.Rooms(t.Context(), "", 10); err != nil || len(rooms) != 1 {
				t.Errorf("Rooms on node %d: got %v, %v; want one room", i, rooms, err)
			}
		}
		if err := a.Kick(t.Context(), "lobby", "bob", time.Minute); err != nil {
			t.Errorf("Kick: %v", err)
		}
		synctest.Wait()
		if got := bob.end(); got != hub.EndRemoved {
			t.Errorf("bob ended with %q, want %q", got, hub.EndRemoved)
		}
		if got := alice.end(); got != stream.End("") {
			t.Errorf("alice ended with %q", got)
		}
		time.Sleep(time.Second)
		if got := alice.end(); got != hub.EndDraining {
			t.Errorf("alice ended with %q, want %q", got, hub.EndDraining)
		}

		single := openNode(t, memory(), func(c *hub.Config) { c.Grace = 8 * time.Second })
		single.join("lobby", "alice", hub.Lease{}, "")
		start := time.Now()
		if err := single.Close(t.Context()); err != nil || time.Since(start) > 0 {
			t.Errorf("single node: closed after %v, %v; want at once", time.Since(start), err)
		}
	})
}

// The shortest grace leaves no time to spread the goodbyes, so all clients get theirs at once.
func TestShortestGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes, _ := openCluster(t, 2, func(c *hub.Config) { c.Grace = 1 })
		var clients []*fakeClient
		for i := range 3 {
			clients = append(clients, nodes[0].join("lobby", fmt.Sprint("user-", i), hub.Lease{}, ""))
		}
		if err := nodes[0].Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		for i, c := range clients {
			if got := c.end(); got != hub.EndDraining {
				t.Errorf("client %d ended with %q, want %q", i, got, hub.EndDraining)
			}
		}
	})
}

// lazyBus takes 100 ms to cancel a subscription to a room, and to begin one that has no Entry.
type lazyBus struct{ backplane.Bus }

func (b lazyBus) Subscribe(topic room.Name, h backplane.Handler) (func(), error) {
	if topic == backplane.Nodes {
		return b.Bus.Subscribe(topic, h)
	}
	if h.Entry == nil {
		time.Sleep(100 * time.Millisecond)
	}
	cancel, err := b.Bus.Subscribe(topic, h)
	return func() {
		time.Sleep(100 * time.Millisecond)
		cancel()
	}, err
}

// When Close returns, no subscription is left of a room that was being opened, evicted or dropped.
// The node checks this at its end.
func TestCloseDuringChangeOfRooms(t *testing.T) {
	limited := func(c *hub.Config) { c.MaxRooms = 1 }
	for name, change := range map[string]func(n *node){
		"opened": func(n *node) { n.send("lobby", "alice", "1") },
		"evicted": func(n *node) {
			n.send("lobby", "alice", "1")
			time.Sleep(time.Second)
			go n.Send(n.t.Context(), "den", hub.Draft{Event: "message", Data: []byte("1")}, "alice", "")
		},
		"dropped": func(n *node) {
			n.send("lobby", "alice", "1")
			for n.Stats().Rooms > 0 {
				time.Sleep(50 * time.Millisecond)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				change(openNode(t, lazyBus{sharedMemory()}, withRings, limited))
				synctest.Wait()
			})
		})
	}
}
