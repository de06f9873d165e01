//go:build !race

package main

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// Three nodes have clients that join, leave and move between the nodes. After the last change, each
// client has the true user count within 1 s, whether the server counts connections or users. Each
// user has up to three clients on several nodes.
func TestClusterChurn(t *testing.T) {
	t.Parallel()
	for _, count := range []string{"connections", "users"} {
		t.Run(count, func(t *testing.T) {
			t.Parallel()
			heavy(t)
			testClusterChurn(t, count)
		})
	}
}

func testClusterChurn(t *testing.T, count string) {
	const linger = time.Second
	clients := sized(120, 300, 6000) // half of them are connected at a time
	nats := startNATS(t)
	nodes, addrs := startClusterNodes(t, 3, nats.url, "--count="+count, "--linger="+linger.String())
	f := startFleet(t, 2)
	f.do(loadOrder{Do: "open", Addrs: addrs, Clients: clients / 2, Users: clients / 3})
	f.do(loadOrder{Do: "clients", Addrs: addrs, From: clients / 2, Clients: clients / 2, Users: clients / 3})
	churned := f.do(loadOrder{Do: "churn", Addrs: addrs, Rate: float64(clients) / 10, Time: sized(time.Second, 2*time.Second, time.Minute), Seed: 7})
	last := time.Unix(0, churned.Acted)
	gone := last.Add(linger + 500*time.Millisecond) // a cluster ends grace periods 0.5 s later
	want, quiet := churned.Open, last
	if count == "users" {
		want, quiet = churned.Users, gone
	}
	until(t, gone)
	took := f.awaitCount(want, quiet, time.Second)
	listed := awaitRooms(t, nodes, []roomCount{{"room-0", churned.Open, churned.Users}}, gone, time.Second)
	t.Logf("%d connections, %d users: at all clients after %v, at all nodes after %v", churned.Open, churned.Users, took, listed)
}

// In many rooms with two clients on different nodes, a message reaches the client of the other
// node. The number of NATS messages per join depends neither on the number of rooms, nor on nodes
// that have no client in the room. Such a node is not subscribed to the room.
func TestClusterRooms(t *testing.T) {
	t.Parallel()
	few := &roomsTrial{nodes: 3, idle: 0, rooms: sized(15, 20, 100), joins: sized(5, 10, 50)}
	many := &roomsTrial{nodes: 5, idle: 2, rooms: sized(30, 200, 10_000), joins: few.joins}
	t.Run("trials", func(t *testing.T) {
		for _, r := range []*roomsTrial{few, many} {
			t.Run(fmt.Sprintf("%d rooms on %d nodes", r.rooms, r.nodes-r.idle), func(t *testing.T) {
				t.Parallel()
				heavy(t)
				r.test(t)
			})
		}
	})
	if t.Failed() {
		return
	}
	const spread = 3 // the repeats of the totals have random times
	if many.further > few.further+spread {
		t.Errorf("frames per further join: got %.1f with %d rooms, want %.1f as with %d rooms", many.further, many.rooms, few.further, few.rooms)
	}
	for kind, n := range few.first {
		if kind == "frames" {
			n += spread
		}
		if m := many.first[kind]; m > n+1 {
			t.Errorf("%s per first join: got %.1f with %d rooms, want %.1f as with %d rooms", kind, m, many.rooms, n, few.rooms)
		}
	}
}

// roomsTrial counts the NATS messages of joins.
type roomsTrial struct {
	nodes int
	idle  int // nodes without clients, the last ones
	rooms int // with one client on each of two nodes
	joins int // of each kind, each in another room

	further float64            // frames per join to a room that the node serves
	first   map[string]float64 // NATS messages per join to a room that only two other nodes serve, by kind
}

func (r *roomsTrial) test(t *testing.T) {
	nats := startNATS(t)
	_, addrs := startClusterNodes(t, r.nodes, nats.url)
	addrs = addrs[:r.nodes-r.idle]
	f := startFleet(t, 2)
	f.do(loadOrder{Do: "open", Addrs: addrs, Clients: 2 * r.rooms, Rooms: r.rooms})
	f.awaitCount(2, time.Now(), time.Second)
	postToRooms(t, addrs, r.rooms)
	received := f.do(loadOrder{Do: "await", Want: 2, Messages: 1, Within: patience})
	if received.Unreceived > 0 || received.Messages != 2*r.rooms {
		t.Fatalf("a message in each of %d rooms with two clients: got %d, %d clients have none", r.rooms, received.Messages, received.Unreceived)
	}

	subscribed := nats.roomSubscriptions(t)
	if want := 2 * r.rooms; subscribed != want {
		t.Errorf("%d rooms on two nodes each: got %d subscriptions to rooms, want %d", r.rooms, subscribed, want)
	}
	// A room reads the log again 2 s after it was opened, and repeats its totals until 4 s after a
	// change.
	quiet := sized(3*time.Second, 3*time.Second, 8*time.Second)
	idle(t, func() { wait(t, quiet) })
	o := observe(t, nats.url)
	open := loadOrder{Do: "open", Addrs: addrs, From: 2 * r.rooms, Clients: r.joins, Rooms: r.rooms, Rate: 50}
	open.Turn = len(addrs) - 2 // to the node of the room's first client, because From / Rooms is 2
	f.do(open)
	open.From, open.Turn = open.From+r.joins, 0 // to the third node
	f.do(open)
	idle(t, func() { wait(t, quiet) })
	counts := o.take()
	r.further = perJoin(counts, 0, r.joins)["frames"]
	r.first = perJoin(counts, r.joins, r.joins)
	t.Logf("%.1f frames per further join, messages per first join: %v", r.further, r.first)
	if got, want := nats.roomSubscriptions(t), subscribed+r.joins; got != want {
		t.Errorf("after %d first joins: got %d subscriptions to rooms, want %d", r.joins, got, want)
	}
}

// postToRooms posts a message to each room, at all servers.
func postToRooms(t testing.TB, addrs []string, rooms int) {
	t.Helper()
	var next atomic.Int64
	var posting sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		posting.Go(func() {
			for errs[i] == nil {
				n := int(next.Add(1) - 1)
				if n >= rooms {
					return
				}
				errs[i] = askAdmin(t, "POST", fmt.Sprintf("http://%s/messages?room=room-%d", addrs[n%len(addrs)], n), `{"data":0}`, http.StatusAccepted, nil)
			}
		})
	}
	posting.Wait()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// wait waits because the time itself matters.
func wait(t testing.TB, d time.Duration) { until(t, time.Now().Add(d)) }

// observed is the subject of an observer that contains the subjects of all rooms.
const observed = "presence.room.>"

// observer counts the NATS messages of an account by subject, except for the requests to the nodes
// of a room. If it were subscribed to them, NATS would not report that no node has the room.
type observer struct {
	mu     sync.Mutex
	counts map[string]int
}

func observe(t testing.TB, url string) *observer {
	t.Helper()
	conn, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	o := &observer{counts: map[string]int{}}
	for _, subject := range []string{observed, "presence.nodes.>", "presence.ask.nodes", "presence.inbox.>", "$JS.API.>"} {
		if _, err = conn.Subscribe(subject, func(m *nats.Msg) {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.counts[m.Subject]++
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	return o
}

// take returns the counts and resets them.
func (o *observer) take() (counts map[string]int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	counts, o.counts = o.counts, map[string]int{}
	return counts
}

// perJoin returns the messages per join to the rooms from firstRoom on, by kind. Only a first join
// causes messages that are not of its room.
func perJoin(counts map[string]int, firstRoom, joins int) map[string]float64 {
	kinds := map[string]float64{"frames": 0, "requests to all nodes": 0, "answers": 0, "reads of the log": 0}
	for subject, n := range counts {
		per := float64(n) / float64(joins)
		var room int
		if _, err := fmt.Sscanf(subject, "presence.room.room-%d.", &room); err == nil {
			if firstRoom <= room && room < firstRoom+joins {
				kinds["frames"] += per
			}
			continue
		}
		switch {
		case subject == "presence.ask.nodes":
			kinds["requests to all nodes"] += per
		case strings.HasPrefix(subject, "presence.inbox."):
			kinds["answers"] += per
		case strings.HasPrefix(subject, "$JS.API."):
			kinds["answers"] -= per // of NATS
			if strings.Contains(subject, ".MSG.GET.") {
				kinds["reads of the log"] += per
			}
		}
	}
	return kinds
}

// roomSubscriptions returns the number of subscriptions of presence to subjects of rooms.
func (p *natsProcess) roomSubscriptions(t testing.TB) (n int) {
	t.Helper()
	var page server.Subsz
	p.get(t, "/subsz?subs=1&limit=1000000", &page)
	for _, s := range page.Subs {
		if strings.HasPrefix(s.Subject, "presence.room.") && s.Subject != observed {
			n++
		}
	}
	return n
}
