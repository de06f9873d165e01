package hub_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"example.com/presence/pkg/presence/internal/hub"
	"example.com/presence/pkg/presence/internal/stream"
	"example.com/presence/pkg/presence/room"
)

// simReasons are the reasons for which a step closes a connection.
var simReasons = []stream.End{stream.Closed, stream.Slow, stream.Timeout}

// simCrashed is the end of a connection whose node has crashed.
const simCrashed stream.End = "crashed"

// simTab is a tab of a browser. It reconnects to another node when its node ends, and resumes.
type simTab struct {
	id      int
	place   simPlace
	name    string
	info    string // of the token, like name
	session string
	lease   time.Duration // of the token; 0: it does not expire
	rnd     *rand.Rand

	// The fields below belong to simRun.mu.
	conn    *simConn // nil while the tab is not connected
	opening bool     // a call of Join has not returned
	gone    bool     // the tab is closed and does not reconnect
	lastID  string
	tries   int // connections that failed in succession

	mu   sync.Mutex      // guards seen
	seen map[string]bool // ids of the messages that the tab has received
}

// see records a message. No tab may receive a message twice, even if it has changed its node.
func (t *simTab) see(r *simRun, c *simConn, id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.seen[id] {
		r.Errorf("%v got the message %s twice", c, id)
	}
	t.seen[id] = true
}

// forget is called at a reset. The messages after its position follow, even those that the tab had
// received from a node that was ahead of the new one.
func (t *simTab) forget(position string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	maps.DeleteFunc(t.seen, func(id string, _ bool) bool { return sameEpoch(id, position) && seqOf(id) > seqOf(position) })
}

// micros is a time that no other tab has, so that no two tabs act at the same instant.
func (t *simTab) micros() time.Duration { return time.Duration(t.id) * time.Microsecond }

// simConn is one connection of a tab.
type simConn struct {
	*fakeClient
	tab   *simTab
	on    *simNode
	place simPlace

	// The fields below belong to simRun.mu.
	join     simJoin
	opened   bool // Join has returned
	since    time.Time
	closed   bool // Leave has returned, or the node has crashed
	renewed  simSpan
	mustSign bool // a sign-out must have ended it

	// The fields below belong to fakeClient.mu.
	from   string            // every message after this position must arrive
	got    map[string]string // id → data of each message
	counts []int             // not compared yet
	at     int               // place of the last count in the sequence of its room
	seq    *[]int
}

func (c *simConn) String() string {
	return fmt.Sprintf("%s in %s (tab %d)", c.user, c.room, c.tab.id)
}

// event is called for each event that the client receives.
func (c *simConn) event(r *simRun, name, id string, data []byte) {
	if r.trace { // most calls of tracef are cheap, but this one is made for each event
		r.tracef(c.on.name, "%v ← %s %s %s", c, name, id, data)
	}
	if r.onEvent != nil {
		r.onEvent(c, name, data)
	}
	switch name {
	case "sync":
		if c.from == "" {
			c.from = id
		}
	case "reset":
		c.from = id
		c.tab.forget(id)
	case "user count":
		var n int
		if json.Unmarshal(data, &n) == nil {
			c.counts = append(c.counts, n)
		}
	case "message":
		var d struct{ Data json.RawMessage }
		if json.Unmarshal(data, &d) == nil {
			c.got[id] = string(d.Data)
			c.tab.see(r, c, id)
		}
	}
}

func (r *simRun) open(s simStep, p simPlace, n *simNode) {
	tab := &simTab{id: s.Tab, place: p, seen: map[string]bool{}, name: fmt.Sprintf("%s-%d", simUsers[p.user], s.Tab), info: fmt.Sprintf(`{"tab":%d}`, s.Tab),
		session: fmt.Sprint("s", s.Kind), lease: s.For.time(), rnd: rand.New(rand.NewPCG(r.script.Seed, uint64(s.Tab)))}
	r.mu.Lock()
	r.tabs[s.Tab] = tab
	tab.opening = true
	r.mu.Unlock()
	r.op(n, func() { r.connect(tab, n) })
}

// connect opens a connection of the tab.
func (r *simRun) connect(tab *simTab, n *simNode) {
	c := &simConn{tab: tab, on: n, place: tab.place, got: map[string]string{}}
	lease := hub.Lease{SID: tab.session, Session: tab.session}
	if tab.lease > 0 {
		lease.Expires = n.clock.Now().Round(0).Add(tab.lease) // like the expiry in a token, without a monotonic reading
		c.renewed = simSpan{lease.Expires, lease.Expires}
	}
	name, user := room.Name(simRooms[tab.place.room]), simUsers[tab.place.user]
	c.fakeClient = &fakeClient{node: n.node, room: string(name), user: user}
	r.mu.Lock()
	lastID := tab.lastID
	c.view.position, c.view.message, c.from = lastID, lastID, lastID
	c.view.resumed, c.view.users = lastID != "", r.script.CountUsers
	c.view.each = func(event, id string, data []byte) { c.event(r, event, id, data) }
	c.left = func() { r.connLeft(c) }
	c.join = r.model.joinStarts(tab.place, time.Now())
	r.conns = append(r.conns, c)
	n.hooks.watch(simRooms[tab.place.room])
	r.mu.Unlock()
	r.tracef(n.name, "%s joins %s (tab %d, last id %q)", user, name, tab.id, lastID)
	conn, err := n.Connect(r.Context(), name, room.UserID(user), lease)
	if err == nil {
		c.conn = conn
		err = n.Join(r.Context(), conn, room.User{ID: room.UserID(user), Name: tab.name, Info: []byte(tab.info)}, c.fakeClient, lastID)
	}
	r.connected(c, err)
}

// connected handles the result of Connect and Join.
func (r *simRun) connected(c *simConn, err error) {
	now, tab := time.Now(), c.tab
	if err == nil {
		c.seq = c.on.counts.of(c.on.RoomOf(room.Name(c.room)))
	}
	r.mu.Lock()
	r.changed = now
	tab.opening = false
	var drop bool
	switch {
	case c.on.crashed:
		r.model.joinDies(c, now)
		r.dieLocked(c)
	case err != nil:
		r.tracef(c.on.name, "%v: %v", c, err)
		r.model.joinFails(c, err, now)
		r.forgetLocked(c)
		drop = c.conn != nil
		if tab.tries++; !errors.Is(err, hub.ErrBanned) && tab.tries < 5 {
			r.reconnectLocked(tab)
		} else {
			tab.gone = true
		}
	default:
		c.opened, tab.conn, tab.tries = true, c, 0
		r.model.joined(c, now)
		if c.closed { // it ended while Join ran
			r.leftLocked(c)
		} else {
			drop = tab.gone
		}
	}
	r.mu.Unlock()
	if drop {
		c.Drop(stream.Closed)
	}
}

// connLeft is called after the hub's Leave.
func (r *simRun) connLeft(c *simConn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c.closed = true
	if c.opened && !c.on.crashed {
		r.leftLocked(c)
	}
}

// leftLocked handles the end of a connection that was counted.
func (r *simRun) leftLocked(c *simConn) {
	now, why, tab := time.Now(), c.end(), c.tab
	r.changed = now
	r.tracef(c.on.name, "%v has left: %s", c, why)
	r.model.left(c, why == hub.EndRemoved, now)
	r.forgetLocked(c)
	r.checkCounts(c)
	signedOut, _ := r.callsLocked(c)
	switch {
	case why == hub.EndRemoved && !r.model.mayBan(c, now):
		r.Errorf("%v was removed without a ban", c)
	case why == hub.EndSignedOut && !signedOut:
		r.Errorf("%v was signed out without a sign-out", c)
	case why == hub.EndExpired && (c.tab.lease == 0 || c.on.clock.Now().Before(c.renewed.start)):
		r.Errorf("%v expired at %v, before its lease until %v", c, c.on.clock.Now(), c.renewed.start)
	case why == hub.EndDraining && !c.on.down:
		r.Errorf("%v got draining, but its node does not shut down", c)
	}
	if tab.conn != c {
		return
	}
	tab.conn, tab.lastID = nil, c.position()
	if why == hub.EndDraining && !tab.gone {
		r.reconnectLocked(tab)
	} else if !tab.opening {
		tab.gone = true
	}
}

// dieLocked handles the end of a connection whose node has crashed.
func (r *simRun) dieLocked(c *simConn) {
	c.die()
	c.on.dead = append(c.on.dead, c)
	r.model.left(c, false, time.Now())
	r.forgetLocked(c)
	tab := c.tab
	if tab.conn == c {
		tab.conn, tab.lastID = nil, c.position()
	}
	if tab.conn == nil && !tab.opening && !tab.gone {
		r.reconnectLocked(tab)
	}
}

// die makes the client ignore all further events of its node.
func (c *simConn) die() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = simCrashed
}

// close makes the client ignore all further events, because it has closed its connection, and
// returns its position. Its node may notice that later.
func (c *simConn) close() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deaf = true
	return c.view.position
}

func (c *simConn) position() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.view.position
}

func (r *simRun) forgetLocked(c *simConn) {
	c.on.hooks.unwatch(simRooms[c.place.room])
	r.conns = slices.DeleteFunc(r.conns, func(other *simConn) bool { return other == c })
}

// openOnLocked returns the open connections of a node.
func (r *simRun) openOnLocked(n *simNode) (open []*simConn) {
	for _, c := range r.conns {
		if c.on == n && c.opened && !c.closed {
			open = append(open, c)
		}
	}
	return open
}

// reconnectLocked reconnects a tab to a random node after the retry time of the protocol.
func (r *simRun) reconnectLocked(tab *simTab) {
	tab.opening = true
	wait, i := time.Second+time.Duration(tab.rnd.IntN(2000))*time.Millisecond+tab.micros(), tab.rnd.IntN(len(r.nodes))
	r.pending++
	time.AfterFunc(wait, func() {
		defer r.done()
		r.connectTo(tab, i)
	})
}

// connectTo connects the tab to a node that runs, preferably the one with this index.
func (r *simRun) connectTo(tab *simTab, i int) {
	if n := r.live(i); n != nil && r.awaitThaw(n) {
		r.connect(tab, n)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	tab.opening, tab.gone = false, true
}

// closeTab closes the tab's connection for good.
func (r *simRun) closeTab(tab *simTab, kind int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if tab == nil || tab.gone {
		return
	}
	tab.gone = true
	r.dropLocked(tab.conn, simReasons[kind%len(simReasons)])
}

// move closes the tab's connection, and opens another one after a time.
func (r *simRun) move(tab *simTab, to int, wait time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if tab == nil || tab.gone || tab.opening || tab.conn == nil {
		return
	}
	c := tab.conn
	tab.opening, tab.conn, tab.lastID = true, nil, c.close()
	r.dropLocked(c, stream.Closed)
	r.pending++
	time.AfterFunc(wait+tab.micros(), func() {
		defer r.done()
		r.connectTo(tab, to)
	})
}

// dropLocked closes a connection. A node whose process is stopped notices it later.
func (r *simRun) dropLocked(c *simConn, why stream.End) {
	if c == nil {
		return
	}
	r.pending++
	go func() { // ends when the connection is dropped
		defer r.done()
		if r.awaitThaw(c.on) {
			r.tracef(c.on.name, "%v closes: %s", c, why)
			c.Drop(why)
		}
	}()
}
