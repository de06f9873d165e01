package hub_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/internal/hub"
	"example.com/presence/pkg/presence/internal/stream"
)

// TestMessagesModel lets clients of three nodes join, resume on another node, and send, while the
// log has random faults. After each pause, every client must have received each message of the log
// after its last reset once, in order.
func TestMessagesModel(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMessagesModel(t, seed)
				for step := range 400 {
					m.act()
					if step%40 == 39 {
						m.compare(step)
					}
					if t.Failed() {
						t.Fatalf("at step %d", step)
					}
				}
			})
		})
	}
}

// messagesModel holds the nodes of a cluster, their clients, and the expected log.
type messagesModel struct {
	t       *testing.T
	rnd     *rand.Rand
	log     *backplane.Memory
	nodes   []*node
	buses   []*clusterBus
	entries []uint64 // positions of all messages of the present log
	epoch   string
	sent    int
	faulty  bool // the seed has faults

	mu      sync.Mutex // guards the fields below while messages are sent and clients join
	clients []*modelClient
	ids     []string // of messages and of clients that have left
}

type modelClient struct {
	*fakeClient
	from string // the id with which the client has resumed, or empty
}

func newMessagesModel(t *testing.T, seed uint64) *messagesModel {
	m := &messagesModel{t: t, rnd: rand.New(rand.NewPCG(seed, 7)), log: sharedMemory(), faulty: seed%5 != 0}
	m.epoch = m.log.Status().Epoch
	record, err := m.log.Subscribe("lobby", backplane.Handler{Entry: func(e backplane.Entry) {
		if epoch := m.log.Status().Epoch; epoch != m.epoch {
			m.epoch, m.entries = epoch, nil
		}
		m.entries = append(m.entries, e.Position*10) // in the goroutine of the sender
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(record)
	for range 3 {
		n, bus := openShared(t, &sparseBus{Bus: m.log}, func(c *hub.Config) { c.RingMessages = 20 })
		m.nodes, m.buses = append(m.nodes, n), append(m.buses, bus)
	}
	return m
}

// act performs one random step.
func (m *messagesModel) act() {
	i := m.rnd.IntN(3)
	clients := m.present()
	switch k := m.rnd.IntN(100); {
	case k < 30:
		m.sent++
		m.send(m.nodes[i], fmt.Sprint(m.sent))
	case k < 50:
		m.join(m.nodes[i], m.someID())
	case k < 60 && len(clients) > 0:
		c := clients[m.rnd.IntN(len(clients))]
		synctest.Wait()
		if !m.faulty { // otherwise, the client may leave before its node notices a loss
			m.check(c)
		}
		m.add(c.view.position)
		c.Drop(stream.Closed)
		time.Sleep(time.Millisecond)
		if m.rnd.IntN(2) == 0 { // the client moves to another node at once
			m.join(m.nodes[i], c.view.position)
		}
	case k < 80 && m.faulty:
		m.fault(m.buses[i])
	case k < 98:
		time.Sleep(time.Duration(m.rnd.IntN(100)) * time.Millisecond)
	case m.rnd.IntN(4) == 0:
		m.log.Recreate()
	default:
		time.Sleep(time.Duration(m.rnd.IntN(5)) * time.Second)
	}
}

func (m *messagesModel) send(n *node, data string) {
	go func() { // ends with the message, after 2 s at most
		id, err := n.Send(m.t.Context(), "lobby", hub.Draft{Event: "message", Data: []byte(data)}, "alice", "")
		if err == nil {
			m.add(id)
		}
	}()
	time.Sleep(time.Millisecond)
}

func (m *messagesModel) join(n *node, id string) {
	go func() { // ends when the client has joined, after a few seconds at most
		c := &modelClient{n.join("lobby", "bob", hub.Lease{}, id), id}
		m.mu.Lock()
		defer m.mu.Unlock()
		m.clients = append(m.clients, c)
	}()
	time.Sleep(time.Millisecond)
}

// present returns the clients that have not ended.
func (m *messagesModel) present() []*modelClient {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.clients = slices.DeleteFunc(m.clients, func(c *modelClient) bool { return c.end() != "" })
	return slices.Clone(m.clients)
}

func (m *messagesModel) add(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ids = append(m.ids, id)
}

func (m *messagesModel) someID() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.ids) == 0 || m.rnd.IntN(3) == 0 {
		return ""
	}
	return m.ids[len(m.ids)-1-m.rnd.IntN(min(len(m.ids), 10))]
}

// fault starts or ends a fault of one node.
func (m *messagesModel) fault(b *clusterBus) {
	switch m.rnd.IntN(7) {
	case 0:
		b.set(func() { b.loses = true })
		m.send(m.nodes[0], "0")
		b.set(func() { b.loses = false })
	case 1:
		b.set(func() { b.delay = time.Duration(m.rnd.IntN(600)) * time.Millisecond })
	case 2:
		b.set(func() { b.err = []error{nil, errors.New("no leader")}[m.rnd.IntN(2)] })
	case 3:
		b.set(func() { b.off = true })
		m.send(m.nodes[0], "0")
		time.Sleep(time.Duration(m.rnd.IntN(9)) * time.Second)
		b.set(func() { b.off = false })
		b.interrupt()
	case 4:
		b.interrupt()
	case 5:
		b.set(func() { b.holds = true })
		m.send(m.nodes[1], "0")
		time.Sleep(time.Duration(m.rnd.IntN(400)) * time.Millisecond)
		b.release()
	case 6:
		accepted := m.rnd.IntN(2) == 0
		b.set(func() {
			b.append = func(_ context.Context, accept func() error) error {
				b.set(func() { b.append = nil })
				if accepted {
					accept()
				}
				return backplane.ErrUnavailable
			}
		})
	}
}

// compare ends all faults, waits until nothing is pending, and checks every client.
func (m *messagesModel) compare(step int) {
	m.t.Helper()
	for _, b := range m.buses {
		b.set(func() { b.delay, b.err = 0, nil })
	}
	time.Sleep(20 * time.Second)
	synctest.Wait()
	for _, c := range m.present() {
		m.check(c)
		if end := m.end(); seqOf(c.view.position) != int(end) && end > 0 {
			m.t.Errorf("step %d: client ends at %s, want %d", step, c.view.position, end)
		}
	}
}

func (m *messagesModel) end() uint64 {
	if len(m.entries) == 0 || m.epoch != m.log.Status().Epoch {
		return 0
	}
	return m.entries[len(m.entries)-1]
}

// check compares the messages of a client since its last reset with the log. If several epochs were
// received, only the last one can be compared.
func (m *messagesModel) check(c *modelClient) {
	m.t.Helper()
	c.mu.Lock()
	text := string(c.text)
	c.mu.Unlock()
	base, last := c.from, ""
	var got []uint64
	for block := range strings.SplitSeq(text, "\n\n") {
		var name, id string
		for line := range strings.SplitSeq(block, "\n") {
			if rest, ok := strings.CutPrefix(line, "event: "); ok {
				name = rest
			} else if rest, ok := strings.CutPrefix(line, "id: "); ok {
				id = rest
			}
		}
		switch {
		case name == "reset", name == "sync" && base == "":
			base, got = id, nil
		case name == "message":
			got = append(got, uint64(seqOf(id)))
		}
		if name != "" && id != "" {
			last = id
		}
	}
	if last == "" || !sameEpoch(last, m.epoch+"-0") {
		return
	}
	var want []uint64
	for _, p := range m.entries {
		if p > uint64(seqOf(base)) && p <= uint64(seqOf(last)) {
			want = append(want, p)
		}
	}
	if !slices.Equal(got, want) {
		m.t.Errorf("client since %s, last id %s: got %d, want %d", base, last, got, want)
	}
}
