package hub_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence/internal/hub"
	"example.com/presence/pkg/presence/internal/stream"
	"example.com/presence/pkg/presence/room"
)

// TestHubModel performs random joins, disconnects, messages, updates, kicks and message losses.
// Most of them happen within one flush interval. After each pause, every client must have the
// correct count, the members of the room, and its last message.
func TestHubModel(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &hubModel{rnd: rand.New(rand.NewPCG(seed, 1)), bus: &epochBus{Bus: memory(), epoch: "00000000aa"}}
				m.n = openNode(t, m.bus, func(c *hub.Config) { c.MemberLimit = []int{5, 500}[seed%2] })
				for step := range 600 {
					m.act()
					if step%40 == 39 {
						m.compare(t)
					}
					if t.Failed() {
						t.Fatalf("at step %d", step)
					}
				}
			})
		})
	}
}

// hubModel holds a hub with one room, and its clients.
type hubModel struct {
	rnd     *rand.Rand
	n       *node
	bus     *epochBus
	clients []*fakeClient
	sent    int    // number of messages sent
	last    string // id of the last message
}

// act performs one random step.
func (m *hubModel) act() {
	user := fmt.Sprint("u", m.rnd.IntN(9))
	m.clients = slices.DeleteFunc(m.clients, func(c *fakeClient) bool { return c.end() != "" })
	switch k := m.rnd.IntN(100); {
	case k < 30:
		if m.n.BanEnd("lobby", room.UserID(user)).IsZero() {
			m.clients = append(m.clients, m.n.join("lobby", user, hub.Lease{}, m.resume()))
		}
	case k < 50 && len(m.clients) > 0:
		m.clients[m.rnd.IntN(len(m.clients))].Drop([]stream.End{stream.Closed, stream.Slow, stream.Timeout}[m.rnd.IntN(3)])
	case k < 65:
		m.sent++
		m.last = m.n.send("lobby", "server", fmt.Sprint(m.sent))
	case k < 75:
		m.n.Update(m.n.t.Context(), "lobby", room.UserID(user), fmt.Appendf(nil, `{"n":%d}`, m.rnd.IntN(3)))
	case k < 78:
		m.n.Kick(m.n.t.Context(), "lobby", room.UserID(user), time.Second)
	case k < 80:
		m.bus.interrupt(true)
		m.sent++
		m.last = m.n.send("lobby", "server", fmt.Sprint(m.sent))
		m.bus.interrupt(false)
	case k < 96:
		time.Sleep(time.Duration(m.rnd.IntN(40)) * time.Millisecond)
	default:
		time.Sleep(time.Duration(m.rnd.IntN(6)) * time.Second)
	}
}

// resume returns an id to resume from: none, the position of a client, or the id of the last
// message.
func (m *hubModel) resume() string {
	if len(m.clients) == 0 || m.rnd.IntN(2) == 0 {
		return []string{"", m.last}[m.rnd.IntN(2)]
	}
	c := m.clients[m.rnd.IntN(len(m.clients))]
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.view.position
}

// compare waits until nothing is pending, and then compares the hub with the views of all clients.
func (m *hubModel) compare(t *testing.T) {
	t.Helper()
	time.Sleep(20 * time.Second) // longer than a grace period, and than the minimum time of counts only
	synctest.Wait()
	m.clients = slices.DeleteFunc(m.clients, func(c *fakeClient) bool { return c.end() != "" })
	page, err := m.n.Members(t.Context(), "lobby", "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	members, users := map[string]string{}, map[string]bool{}
	for _, p := range page.Members {
		members[fmt.Sprintf("%q", p.ID)] = string(p.Info)
	}
	for _, c := range m.clients {
		users[c.user] = true
	}
	if page.Connections != len(m.clients) || page.Users != len(users) || len(page.Members) != len(users) {
		t.Errorf("hub: %d connections, %d users and %d members; want %d clients of %d users",
			page.Connections, page.Users, len(page.Members), len(m.clients), len(users))
	}
	for _, c := range m.clients {
		c.mu.Lock()
		v := c.view
		c.mu.Unlock()
		if v.count != len(m.clients) {
			t.Errorf("count of %s: got %d, want %d", c.user, v.count, len(m.clients))
		}
		if v.complete && !maps.Equal(v.members, members) {
			t.Errorf("members of %s: got %v, want %v", c.user, v.members, members)
		}
		if v.position != m.last && m.last != "" {
			t.Errorf("position of %s: got %s, want %s", c.user, v.position, m.last)
		}
	}
	if s := m.n.Stats(); s.Connections != len(m.clients) || s.Users != len(users) {
		t.Errorf("slots: %d connections of %d users, want %d of %d", s.Connections, s.Users, len(m.clients), len(users))
	}
	for _, c := range m.clients {
		c.take()
	}
	time.Sleep(time.Second)
	for _, c := range m.clients {
		if got := c.take(); got != "" {
			t.Errorf("%s got %q without a change, want no event", c.user, got)
		}
	}
}
