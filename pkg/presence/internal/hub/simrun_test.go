package hub_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"example.com/presence/pkg/presence/internal/hub"
	"example.com/presence/pkg/presence/room"
)

var (
	simUsers = []string{"alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi"}
	simRooms = []string{"lobby", "den", "attic"}
)

// simEntries is the maximum number of entries in a frame. A part with more users is read in pieces,
// and more changes take several frames.
const simEntries = 3

// simRun runs one script.
type simRun struct {
	*simRecorder
	script simScript
	engine *simEngine
	rnd    *rand.Rand // of the nodes

	onEvent func(c *simConn, event string, data []byte) // receives each event of each client; may be nil

	mu        sync.Mutex // guards the fields below, and the marked fields; not held during a call of a hub
	nodes     []*simNode // the current run of each node
	runs      []*simNode // all runs of all nodes
	model     *simModel
	tabs      map[int]*simTab
	conns     []*simConn // connections that are open or opening, in the order of their start
	messages  []*simTopic
	calls     []simRequest // renewals and sign-outs since the last quiet moment
	faults    simWeather
	logFaults bool      // the log had a fault since the last quiet moment
	changed   time.Time // last change of a connection or of the engine
	pending   int       // operations that have not ended
}

func newSimRun(t testing.TB, s simScript, trace bool) *simRun {
	r := &simRun{simRecorder: newSimRecorder(t, trace), script: s, tabs: map[int]*simTab{}, rnd: rand.New(rand.NewPCG(s.Seed, 3))}
	r.engine = newSimEngine(rand.New(rand.NewPCG(s.Seed, 4)), r.engineTrace())
	r.engine.messages = s.Messages
	r.engine.setDelay(0, s.MaxDelay.time())
	r.model = &simModel{linger: s.Linger.time(), members: map[simPlace]*simMember{}, fail: r.Errorf,
		skewed: s.MaxOffset > 1000 || slices.ContainsFunc(s.Steps, func(s simStep) bool { return s.Do == doStep })}
	if s.Nodes > 1 {
		r.model.margin = 500 * time.Millisecond
	}
	for range s.Rooms {
		r.messages = append(r.messages, &simTopic{sent: map[string]*simMessage{}, ids: map[string]string{}, place: map[string]string{}})
	}
	for i := range s.Nodes {
		r.nodes = append(r.nodes, nil)
		r.startNode(i)
	}
	return r
}

// run performs the steps until one fails, and then closes all nodes.
func (r *simRun) run() {
	if r.script.Nodes > 1 {
		time.Sleep(2 * time.Second) // until the nodes know each other
	}
	for _, s := range r.script.Steps {
		time.Sleep(s.After.time())
		if r.Failed() {
			break
		}
		r.perform(s)
	}
	if !r.Failed() {
		r.quiet(false)
	}
	r.end()
}

func (r *simRun) perform(s simStep) {
	r.mu.Lock()
	n, tab := r.nodes[s.Node%len(r.nodes)], r.tabs[s.Tab]
	r.mu.Unlock()
	p := simPlace{s.Room % r.script.Rooms, s.User % r.script.Users}
	switch s.Do {
	case doOpen:
		r.open(s, p, n)
	case doClose:
		r.closeTab(tab, s.Kind)
	case doMove:
		r.move(tab, s.Node, s.For.time())
	case doPut:
		r.op(n, func() { r.put(n, p, fmt.Sprintf(`{"put":%d}`, s.N)) })
	case doSend:
		r.op(n, func() { r.send(n, p, fmt.Sprintf(`"m%d"`, s.N), s.Kind == 1) })
	case doKick:
		r.op(n, func() { r.kick(n, p, max(time.Second, s.For.time()), s.Kind == 1) })
	case doUnban:
		r.op(n, func() { r.unban(n, p) })
	case doRenew:
		r.op(n, func() { r.renew(n, p.user, s.Kind, s.For.time()) })
	case doSignOut:
		r.op(n, func() { r.signOut(n, p.user, s.Kind) })
	case doQuiet:
		r.quiet(s.Kind == 1)
	default:
		r.disturb(s, n)
	}
}

// op performs an operation of a client on a node, on another goroutine. A node whose process is
// stopped performs it when the process continues, and a node that has ended never.
func (r *simRun) op(n *simNode, f func()) {
	r.begin()
	go func() { // ends with the operation
		defer r.done()
		if r.awaitThaw(n) {
			f()
		}
	}()
}

func (r *simRun) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pending++
}

func (r *simRun) done() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pending--
	r.changed = time.Now()
}

func (r *simRun) awaitThaw(n *simNode) bool {
	for {
		r.mu.Lock()
		down, frozen := n.down, n.frozen
		r.mu.Unlock()
		switch {
		case down:
			return false
		case frozen == nil:
			return true
		}
		<-frozen
	}
}

// settle ends all faults, and waits until all operations have ended.
func (r *simRun) settle() bool {
	r.applyFaults(simWeather{})
	r.mu.Lock()
	nodes := slices.Clone(r.nodes)
	r.mu.Unlock()
	for _, n := range nodes {
		r.thaw(n)
		r.mend(n)
	}
	for range 600 {
		r.mu.Lock()
		pending := r.pending
		r.mu.Unlock()
		if pending == 0 {
			return true
		}
		time.Sleep(100 * time.Millisecond)
	}
	r.Errorf("%d operations have not ended after 60 s without faults", r.pending)
	return false
}

// end closes all nodes: first those that run, then those that have crashed.
func (r *simRun) end() {
	r.settle()
	r.mu.Lock()
	for _, n := range r.nodes {
		n.down = true
	}
	for _, tab := range r.tabs {
		tab.gone = true
	}
	r.mu.Unlock()
	var running sync.WaitGroup
	for _, n := range r.runs {
		if !n.crashed {
			running.Go(n.end) // also checks a node that was stopped before
		}
	}
	running.Wait()
	r.engine.close()
	for _, n := range r.runs {
		if n.crashed {
			for _, c := range n.dead {
				n.Leave(c.conn, "crashed")
			}
			n.Close(context.Background()) // its messages in flight still hold slots
		}
	}
}

// simNode is one run of a node: it ends when the process ends.
type simNode struct {
	*node
	name   string
	index  int
	bus    *simBus
	clock  *simClock
	counts *simCounts
	hooks  *simHooks

	// The fields below belong to simRun.mu.
	down    bool          // crashed, or shutting down
	crashed bool          // the process has ended without a word
	died    time.Time     // when it did
	frozen  chan struct{} // closed when the stopped process continues; nil: it runs
	cut     bool
	blocked bool       // its publications block
	dead    []*simConn // connections at the time of the crash
}

// startNode starts a node with a new incarnation.
func (r *simRun) startNode(i int) {
	generation := 1
	for _, n := range r.runs {
		if n.index == i {
			generation++
		}
	}
	n := &simNode{name: string(rune('A' + i)), index: i, counts: newSimCounts(), hooks: newSimHooks()}
	if generation > 1 {
		n.name += fmt.Sprint(generation)
	}
	most := r.script.MaxOffset.time()
	offset := time.Duration(r.rnd.Int64N(int64(2*most+1))) - most
	n.clock = newSimClock(r.rnd, offset)
	n.bus = r.engine.handle(n.name, n.clock)
	n.node = newNode(r, n.bus, func(c *hub.Config) {
		c.Clock, c.Node = n.clock, room.NodeID(fmt.Sprintf("%016x%016x", r.rnd.Uint64(), r.rnd.Uint64()))
		c.Linger, c.MemberLimit, c.RoomAge = r.script.Linger.time(), r.script.MemberLimit, r.script.RoomAge.time()
		if r.script.MaxRooms > 0 {
			c.MaxRooms = r.script.MaxRooms
		}
		c.LimitEntries(simEntries)
		c.RingMessages, c.RingAge, c.RingBytes = r.script.Messages, time.Minute, 1<<20
		count := (*room.Room).Connections
		if r.script.CountUsers {
			count = (*room.Room).Users
		}
		c.Count = n.counts.wrap(count)
		c.OnJoin = func(name string, m room.Member) { n.hooks.join(r, n, name, string(m.ID)) }
		c.OnLeave = func(name string, m room.Member, _ room.Reason) { n.hooks.leave(r, n, name, string(m.ID)) }
		r.logTo(c, n.name)
	})
	r.tracef(n.name, "starts, its clock is off by %v", offset)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.nodes[i] = n
	r.runs = append(r.runs, n)
}

// live returns a node that runs, preferably the one with this index.
func (r *simRun) live(i int) *simNode {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k := range r.nodes {
		if n := r.nodes[(i+k)%len(r.nodes)]; !n.down {
			return n
		}
	}
	return nil
}
