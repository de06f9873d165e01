package hub_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence/internal/hub"
	"example.com/presence/pkg/presence/room"
)

// quiet ends all faults, waits until every change must have reached every node, and compares. If
// inGrace is set, it does not wait for the ends of grace periods.
func (r *simRun) quiet(inGrace bool) {
	r.mu.Lock()
	faults := r.faults
	r.changed = time.Now()
	r.mu.Unlock()
	r.tracef("", "quiet")
	if !r.settle() {
		return
	}
	for !r.Failed() {
		time.Sleep(r.untilQuiet(inGrace, askTime))
		if r.untilQuiet(inGrace, askTime) > 0 {
			continue
		}
		synctest.Wait()
		asked := time.Now()
		answers := r.ask()
		synctest.Wait()                                               // the hooks run on another goroutine
		if r.hasChangedSince(asked) || r.untilQuiet(inGrace, 0) > 0 { // a lease has expired meanwhile
			continue
		}
		r.tracef("", "compare")
		r.compare(answers)
		break
	}
	r.mu.Lock()
	r.model.settled(time.Now())
	r.logFaults, r.calls = false, nil
	r.mu.Unlock()
	r.applyFaults(faults)
}

// logTime is the time in which a lost message of the log must be found and read.
const logTime = 4 * time.Second

// askTime is longer than the time that the nodes need to answer.
const askTime = 1200 * time.Millisecond

// untilQuiet returns the time until every change must have reached every node, and no grace period
// can end within the time ahead.
func (r *simRun) untilQuiet(inGrace bool, ahead time.Duration) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := r.model.quietAfter(r.changed)
	if r.logFaults {
		at = later(at, r.changed.Add(logTime))
	}
	for _, u := range r.model.members {
		if surely := u.surely(time.Now().Add(ahead)); r.model.unsure || len(u.conns) == 0 && !(inGrace && surely) {
			at = later(at, u.latest.Add(time.Millisecond))
		}
	}
	return time.Until(at)
}

// isAtLimit reports whether the error is the room limit of a script that has one. Then the node has
// other rooms in use, and does not know this one.
func (r *simRun) isAtLimit(err error) bool {
	return r.script.MaxRooms > 0 && (errors.Is(err, hub.ErrTooManyRooms) || errors.Is(err, hub.ErrUserRooms))
}

// hasChangedSince reports whether something has changed since a time. The answers of the nodes to
// questions of that time may then be old.
func (r *simRun) hasChangedSince(t time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changed.After(t)
}

// simAnswers are the answers of a node to the questions of an operator.
type simAnswers struct {
	pages []hub.Page // by room
	rooms []hub.RoomCount
	errs  []error
}

// ask asks all nodes at the same time. An answer may take a second.
func (r *simRun) ask() map[*simNode]*simAnswers {
	var asking sync.WaitGroup
	all := map[*simNode]*simAnswers{}
	for _, n := range r.nodes {
		if n.down {
			continue
		}
		a := &simAnswers{}
		all[n] = a
		asking.Go(func() {
			for _, name := range simRooms[:r.script.Rooms] {
				page, err := r.page(n, name)
				a.pages, a.errs = append(a.pages, page), append(a.errs, err)
			}
			rooms, more, err := n.Rooms(r.Context(), "", 100)
			if a.rooms, a.errs = rooms, append(a.errs, err); more {
				r.Errorf("rooms on %s: got more than 100", n.name)
			}
		})
	}
	asking.Wait()
	return all
}

// compare compares the model, the answers of all nodes, and all clients.
func (r *simRun) compare(answers map[*simNode]*simAnswers) {
	open := map[*simNode]int{}
	var rooms []hub.RoomCount
	for i, name := range simRooms[:r.script.Rooms] {
		w := r.want(i)
		r.compareRoom(i, name, w, answers)
		if len(w.conns) > 0 {
			rooms = append(rooms, hub.RoomCount{Room: name, Connections: w.connections, Users: len(w.conns)})
		}
		for _, c := range w.open {
			open[c.on]++
		}
	}
	slices.SortFunc(rooms, func(a, b hub.RoomCount) int { return cmp.Compare(a.Room, b.Room) })
	for _, n := range r.nodes {
		if answers[n] != nil {
			r.compareTotals(n, answers[n], rooms, open[n])
		}
	}
	r.compareMessages()
	r.mu.Lock()
	conns := slices.Clone(r.conns)
	r.mu.Unlock()
	for _, c := range conns {
		r.checkCounts(c)
		r.checkLease(c)
	}
}

// checkLease checks that a connection does not outlive its lease, its session or its ban.
func (r *simRun) checkLease(c *simConn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, renewed := r.callsLocked(c)
	c.renewed.end = later(c.renewed.end, renewed)
	settled := time.Now().UnixNano()-c.on.clock.steppedAt.Load() > int64(time.Minute+time.Second) // the hub has looked at its clock
	if over := c.on.clock.Now().Sub(c.renewed.end); c.tab.lease > 0 && over > 100*time.Millisecond && settled {
		r.Errorf("%v is open %v after the end of its lease", c, over)
	}
	if c.mustSign {
		r.Errorf("%v is open, although its session was signed out", c)
	}
	if now := time.Now(); r.model.member(c.place).ban.contains(now, now) {
		r.Errorf("%v is open, although its user is banned", c)
	}
}

// simWant is the state of a room in the model.
type simWant struct {
	conns       map[string]int // of each member
	connections int
	open        []*simConn
}

func (r *simRun) want(i int) simWant {
	r.mu.Lock()
	defer r.mu.Unlock()
	w := simWant{conns: map[string]int{}}
	now := time.Now()
	for p, u := range r.model.members {
		if p.room == i && u.surely(now) {
			w.conns[simUsers[p.user]] = len(u.conns)
			w.connections += len(u.conns)
		}
	}
	for _, c := range r.conns {
		if c.opened && c.place.room == i {
			w.open = append(w.open, c)
		}
	}
	return w
}

// compareRoom compares the pages of a room and the hooks on all nodes, and the views of its
// clients.
func (r *simRun) compareRoom(i int, name string, w simWant, answers map[*simNode]*simAnswers) {
	var first, firstNode string
	for _, n := range r.nodes {
		if answers[n] == nil || r.isAtLimit(answers[n].errs[i]) {
			continue
		}
		watched := slices.ContainsFunc(w.open, func(c *simConn) bool { return c.on == n })
		page := answers[n].pages[i]
		text := pageText(page)
		if first == "" {
			first, firstNode = text, n.name
		}
		if text != first {
			r.Errorf("members of %s: the nodes differ\n%s: %s\n%s: %s", name, firstNode, first, n.name, text)
		}
		r.comparePage(n, name, page, w)
		n.hooks.compare(r, n, name, page.Members)
		if !watched {
			continue
		}
		r.compareInfos(i, page)
		for _, c := range w.open {
			if c.on == n {
				r.compareView(c, page)
			}
		}
	}
}

// page returns all members of a room as a node knows them.
func (r *simRun) page(n *simNode, name string) (hub.Page, error) {
	return n.Members(context.Background(), room.Name(name), "", 1000)
}

func pageText(p hub.Page) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d connections, %d users:", p.Connections, p.Users)
	for _, m := range p.Members {
		fmt.Fprintf(&b, " %s/%s/%s/%d/%s", m.ID, m.Name, m.Info, m.Connections, m.Since.Format("15:04:05.000"))
	}
	return b.String()
}

// comparePage compares a page with the model.
func (r *simRun) comparePage(n *simNode, name string, p hub.Page, w simWant) {
	got := map[string]int{}
	for _, m := range p.Members {
		got[string(m.ID)] = m.Connections
	}
	if !maps.Equal(got, w.conns) || p.Connections != w.connections || p.Users != len(p.Members) {
		r.Errorf("%s on %s: got %s, want %d connections: %v", name, n.name, pageText(p), w.connections, w.conns)
	}
}

// compareInfos checks that each member has one of the infos that it may have, and remembers it.
func (r *simRun) compareInfos(i int, p hub.Page) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range p.Members {
		u := r.model.member(simPlace{i, slices.Index(simUsers, string(m.ID))})
		if !u.infos[string(m.Info)] {
			r.Errorf("%s in %s: got info %s, want one of %q", m.ID, simRooms[i], m.Info, slices.Sorted(maps.Keys(u.infos)))
		}
		u.infos, u.changedAt = map[string]bool{string(m.Info): true}, time.Time{}
	}
}

// compareView compares the view that a client has derived from its events with the page of its
// node.
func (r *simRun) compareView(c *simConn, p hub.Page) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v := &c.view
	if want := map[bool]int{false: p.Connections, true: p.Users}[r.script.CountUsers]; v.count != want {
		r.Errorf("%v on %s: got count %d, want %d", c, c.on.name, v.count, want)
	}
	if over := p.Users > r.script.MemberLimit; v.complete == over && (over || r.script.MemberLimit > len(simUsers)) {
		r.Errorf("%v on %s: got complete %v with %d users", c, c.on.name, v.complete, p.Users)
	}
	if !v.complete {
		return
	}
	members := map[string]string{}
	for _, m := range p.Members {
		members[fmt.Sprintf("%q", m.ID)] = string(m.Info)
	}
	if !maps.Equal(v.members, members) {
		r.Errorf("%v on %s: got members %v, want %v", c, c.on.name, v.members, members)
	}
}

// compareTotals compares the list of rooms and the gauges of a node.
func (r *simRun) compareTotals(n *simNode, a *simAnswers, want []hub.RoomCount, open int) {
	for _, err := range a.errs {
		if err != nil && !r.isAtLimit(err) {
			r.Errorf("answers of %s: %v", n.name, err)
			return
		}
	}
	if !slices.Equal(a.rooms, want) {
		r.Errorf("rooms on %s: got %v, want %v", n.name, a.rooms, want)
	}
	if s := n.Stats(); s.Connections != open {
		r.Errorf("%s: got %d connections in its statistics, want %d", n.name, s.Connections, open)
	}
}

// compareMessages checks that each client has every accepted message since its start or its last
// reset, that no message has two ids, and that all clients have the same message with one id.
func (r *simRun) compareMessages() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.conns {
		if c.opened {
			r.compareReceived(c, r.messages[c.place.room])
		}
	}
}

func (r *simRun) compareReceived(c *simConn, t *simTopic) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, data := range c.got {
		if t.sent[data] == nil {
			r.Errorf("%v got the message %s %s, which was not sent", c, id, data)
			continue
		}
		if known := cmp.Or(t.ids[id], data); known != data {
			r.Errorf("%v got %s as %s, another client got %s", c, data, id, known)
		}
		if other, ok := t.place[data]; ok && other != id && !(t.mayRepeat(t.sent[data]) && !sameEpoch(id, other)) {
			r.Errorf("%v got %s as %s, another client as %s", c, data, id, other)
		}
		t.ids[id], t.place[data] = data, id
	}
	if epoch := c.on.bus.Status().Epoch; !sameEpoch(c.view.position, epoch) {
		r.Errorf("%v has the position %s, want the epoch %s", c, c.view.position, epoch)
	}
	for _, m := range t.sent {
		if m.id != "" && m.sure && !m.isOrphan() && sameEpoch(m.id, c.from) && seqOf(m.id) > seqOf(c.from) && c.got[m.id] != m.data {
			r.Errorf("%v has not got the message %s %s, which is after %s", c, m.id, m.data, c.from)
		}
	}
}
