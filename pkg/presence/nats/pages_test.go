package nats_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"example.com/presence/pkg/presence"
	"example.com/presence/pkg/presence/client"
	"example.com/presence/pkg/presence/nats"
)

// pageNode is a server that reads its history from NATS.
type pageNode struct {
	*presence.Server
	bus *nats.Bus
	url string
}

// authenticator is a presence.Authenticator.
type authenticator func(*http.Request) (presence.User, error)

func (f authenticator) Authenticate(r *http.Request) (presence.User, error) { return f(r) }

// pageNodes starts servers on a NATS server. The token of a request is the id of its user, which
// may join every room.
func pageNodes(t *testing.T, s *server.Server, n int, change ...func(*nats.Config)) (nodes []pageNode) {
	t.Helper()
	for range n {
		c := config(s.ClientURL())
		c.Messages = 5000
		for _, f := range change {
			f(&c)
		}
		bus := open(t, c)
		user := func(r *http.Request) (presence.User, error) {
			id := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
			return presence.User{ID: id, Join: []string{"*"}, Send: []string{"*"}}, nil
		}
		p, err := presence.New(presence.Config{Authenticator: authenticator(user), Backplane: bus, History: c.Messages, CostRate: -1, HistoryRate: -1, MessageRate: -1})
		if err != nil {
			t.Fatal(err)
		}
		h := httptest.NewServer(p)
		t.Cleanup(func() {
			p.Shutdown(context.Background())
			h.Close()
		})
		nodes = append(nodes, pageNode{p, bus, h.URL})
	}
	return nodes
}

// publish sends messages with the numbers from first to last-1 to a room.
func (n pageNode) publish(t *testing.T, name string, first, last int) {
	t.Helper()
	for i := first; i < last; i++ {
		if _, err := n.Publish(t.Context(), name, "", i); err != nil {
			t.Fatal(err)
		}
	}
}

// pages reads the history of a room backwards, and returns the data of all messages, oldest first.
func (n pageNode) pages(t *testing.T, name string, limit int) (all []string) {
	t.Helper()
	for before := ""; ; {
		page, err := n.Messages(t.Context(), name, before, limit)
		if err != nil {
			t.Fatal(err)
		}
		var data []string
		for _, m := range page.Messages {
			data = append(data, string(m.Data))
		}
		if all = append(data, all...); page.Next == "" {
			return all
		}
		before = page.Next
	}
}

// numbers returns the texts of the numbers from first to last-1.
func numbers(first, last int) (all []string) {
	for i := first; i < last; i++ {
		all = append(all, fmt.Sprint(i))
	}
	return all
}

// Reading all pages backwards over NATS returns each message once and in order: on the node that
// accepted the messages, on a node with clients in the room, and on a node without the room. The
// history begins with the oldest message that the stream still has.
func TestPagesOverNATS(t *testing.T) {
	t.Parallel()
	const limit = 2000
	nodes := pageNodes(t, startServer(t), 3, func(c *nats.Config) { c.Messages = limit })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	synced := make(chan struct{})
	c, err := client.New(client.Config{URL: nodes[1].url, Room: "doc", Token: client.StaticToken("bob")})
	if err != nil {
		t.Fatal(err)
	}
	var follow sync.WaitGroup
	defer follow.Wait()
	defer cancel()
	follow.Go(func() {
		for e, err := range c.Events(ctx) {
			if err == nil && e.Name == "sync" {
				close(synced)
			}
		}
	})
	var others sync.WaitGroup
	others.Go(func() { nodes[2].publish(t, "other", 0, 500) })
	nodes[0].publish(t, "doc", 0, 1000)
	<-synced
	nodes[0].publish(t, "doc", 1000, 2500)
	others.Wait()
	want := numbers(2500-limit, 2500)
	for i, n := range nodes {
		await(t, "the last message", func() bool {
			page, err := n.Messages(t.Context(), "doc", "", 1)
			return err == nil && len(page.Messages) == 1 && string(page.Messages[0].Data) == "2499"
		})
		for _, limit := range []int{50, 700, 1000} {
			if got := n.pages(t, "doc", limit); !slices.Equal(got, want) {
				t.Errorf("node %d, limit %d: got %d messages %.60q…, want %d", i, limit, len(got), got, len(want))
			}
		}
		if got := n.pages(t, "other", 300); !slices.Equal(got, numbers(0, 500)) {
			t.Errorf("node %d: got %d messages of the other room, want 500", i, len(got))
		}
		if got := n.pages(t, "empty", 300); len(got) > 0 {
			t.Errorf("node %d: got %q in an empty room", i, got)
		}
	}
	if rooms := nodes[2].Stats().Rooms; rooms > 1 { // the other room, to which it has sent
		t.Errorf("got %d rooms on a node that only reads, want 1", rooms)
	}
}

// A client that loads the history from one node, and opens its stream on another one while messages
// are being sent, receives each message once.
func TestHistoryThenStreamOverNATS(t *testing.T) {
	t.Parallel()
	nodes := pageNodes(t, startServer(t), 3)
	const total = 400
	var work sync.WaitGroup
	for i := range 12 {
		work.Go(func() {
			loader, err := client.New(client.Config{URL: nodes[i%3].url, Room: "doc", Token: client.StaticToken("bob")})
			if err != nil {
				t.Error(err)
				return
			}
			time.Sleep(time.Duration(i) * 20 * time.Millisecond) // spreads the clients over the messages
			page, err := loader.History(t.Context(), "", 1000)
			if err != nil {
				t.Error(err)
				return
			}
			var got []string
			for _, m := range page.Messages {
				got = append(got, string(m.Data))
			}
			follower, err := client.New(client.Config{URL: nodes[(i+1)%3].url, Room: "doc", Token: client.StaticToken("bob"), LastEventID: page.LastEventID})
			if err != nil {
				t.Error(err)
				return
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			for e, err := range follower.Events(ctx) {
				if err != nil || e.Name == "reset" {
					t.Errorf("client %d: got %s, %v after %d messages", i, e.Name, err, len(got))
					break
				}
				if v, _ := e.Value(); e.Name == "message" {
					got = append(got, string(v.(client.Message).Data))
				}
				if len(got) > 0 && got[len(got)-1] == fmt.Sprint(total-1) {
					break
				}
			}
			if !slices.Equal(got, numbers(0, total)) {
				t.Errorf("client %d: got %q, want each of %d messages once", i, got, total)
			}
		})
	}
	for i := range total {
		nodes[i%3].publish(t, "doc", i, i+1)
		time.Sleep(time.Millisecond)
	}
	work.Wait()
}

// After Clear, and after the log is made anew, the history is empty. A position of the old log has
// an empty page.
func TestPagesAfterClear(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	nodes := pageNodes(t, s, 2)
	nodes[0].publish(t, "doc", 0, 10)
	reader := nodes[1]
	page, err := reader.Messages(t.Context(), "doc", "", 5)
	if err != nil || len(page.Messages) != 5 || page.Next == "" {
		t.Fatalf("got %+v, %v, want five messages", page, err)
	}
	if err := nodes[0].bus.Clear(t.Context(), "doc"); err != nil {
		t.Fatal(err)
	}
	for _, before := range []string{"", page.Next, page.LastEventID} {
		if got, err := reader.Messages(t.Context(), "doc", before, 5); err != nil || len(got.Messages) > 0 || got.Next != "" || got.LastEventID != page.LastEventID {
			t.Errorf("before %q: got %+v, %v, want an empty page", before, got, err)
		}
	}
	if err := streams(t, s.ClientURL()).DeleteStream(t.Context(), nats.DefaultPrefix); err != nil {
		t.Fatal(err)
	}
	await(t, "a new epoch", func() bool {
		got, err := reader.Messages(t.Context(), "doc", "", 5)
		return err == nil && len(got.Messages) == 0 && got.LastEventID[:10] != page.LastEventID[:10]
	})
	if got, err := reader.Messages(t.Context(), "doc", page.LastEventID, 5); err != nil || len(got.Messages) > 0 || got.Next != "" {
		t.Errorf("before a position of the old log: got %+v, %v, want an empty page", got, err)
	}
}
