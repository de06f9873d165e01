package hub_test

import (
	"fmt"
	"slices"
	"time"

	"example.com/presence/pkg/presence/internal/hub"
	"example.com/presence/pkg/presence/room"
)

// simTopic holds the messages of a room.
type simTopic struct {
	sent      map[string]*simMessage // by data
	ids       map[string]string      // id → data of each message that a client has received
	place     map[string]string      // data → id
	recreated []time.Time            // times at which the log was created anew
}

// recreatedBetween reports whether the log was created anew in this time.
func (t *simTopic) recreatedBetween(start, end time.Time) bool {
	return slices.ContainsFunc(t.recreated, func(at time.Time) bool { return !at.Before(start) && !at.After(end) })
}

// simMessage is a message that a client has sent.
type simMessage struct {
	data string
	id   string // of the answer; empty if no call has succeeded
	sure bool   // the log was not created anew during the call, so the id belongs to the message

	start, end time.Time // of all calls
	node       *simNode  // of the last call
}

// isOrphan reports whether the node of the message has crashed before it could announce the message
// twice. If the engine has lost the entry too, without a report, no node knows that.
func (m *simMessage) isOrphan() bool {
	return m.node.crashed && m.node.died.Sub(m.end) < announceTime
}

// announceTime is the time in which a node announces a message twice.
const announceTime = 1200 * time.Millisecond

// lateAppend is the time in which the engine may accept a message whose call has already returned.
const lateAppend = 2 * time.Second

// mayRepeat reports whether the message may have two ids. A log that is created anew loses the keys
// of its messages, so it accepts a repeated message again.
func (t *simTopic) mayRepeat(m *simMessage) bool {
	return t.recreatedBetween(m.start, m.end.Add(lateAppend))
}

func (r *simRun) put(n *simNode, p simPlace, info string) {
	r.mu.Lock()
	put := r.model.putStarts(p, info, time.Now())
	r.mu.Unlock()
	r.tracef(n.name, "PUT of %v: %s", p, info)
	err := n.Update(r.Context(), room.Name(simRooms[p.room]), room.UserID(simUsers[p.user]), []byte(info))
	r.tracef(n.name, "PUT of %v: %s: answer %v", p, info, err)
	r.mu.Lock()
	defer r.mu.Unlock()
	if n.crashed && err == nil {
		err = hub.ErrDraining // the answer is lost
	}
	r.model.putEnds(put, err, time.Now())
}

func (r *simRun) kick(n *simNode, p simPlace, d time.Duration, absent bool) {
	start, ban := time.Now(), n.Kick
	if absent {
		ban = n.Ban
	}
	r.mu.Lock()
	r.model.kickStarts(p, d, start)
	r.mu.Unlock()
	r.tracef(n.name, "kick of %v for %v", p, d)
	err := ban(r.Context(), room.Name(simRooms[p.room]), room.UserID(simUsers[p.user]), d)
	r.tracef(n.name, "kick of %v for %v: answer %v", p, d, err)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.model.kickEnds(p, d, start, time.Now(), err)
}

func (r *simRun) unban(n *simNode, p simPlace) {
	r.mu.Lock()
	lift := r.model.liftStarts(p, time.Now())
	r.mu.Unlock()
	r.tracef(n.name, "unban of %v", p)
	err := n.Unban(r.Context(), room.Name(simRooms[p.room]), room.UserID(simUsers[p.user]))
	r.tracef(n.name, "unban of %v: answer %v", p, err)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.model.liftEnds(lift, err, time.Now())
}

// send sends a message. If the call fails, a client with an idempotency key retries on another
// node.
func (r *simRun) send(n *simNode, p simPlace, data string, retry bool) {
	key := ""
	if retry {
		key = data
	}
	t, m := r.messages[p.room], &simMessage{data: data, start: time.Now()}
	r.mu.Lock()
	t.sent[data] = m
	r.mu.Unlock()
	for try := range 3 {
		start := time.Now()
		id, err := n.Send(r.Context(), room.Name(simRooms[p.room]), hub.Draft{Event: "message", Data: []byte(data)}, room.UserID(simUsers[p.user]), key)
		r.tracef(n.name, "%s sends %s to %s: answer %q, %v", simUsers[p.user], data, simRooms[p.room], id, err)
		r.mu.Lock()
		if m.end, m.node = time.Now(), n; err == nil && !n.crashed {
			m.id, m.sure = id, !t.recreatedBetween(start, m.end)
		}
		r.mu.Unlock()
		if next := r.live(n.index + 1 + try); m.id != "" || !retry || next == nil || !r.awaitThaw(next) {
			return
		} else {
			n = next
		}
	}
}

// simRequest is a renewal or a sign-out of a session. It may take effect later than it returns.
type simRequest struct {
	user    int
	session string
	end     time.Time // of the renewed lease; zero: a sign-out
}

// callLocked records a call, and returns the connections that it must reach.
func (r *simRun) callLocked(call simRequest) (reached []*simConn) {
	r.calls = append(r.calls, call)
	for _, c := range r.conns {
		if c.opened && c.place.user == call.user && c.tab.session == call.session {
			reached = append(reached, c)
		}
	}
	return reached
}

// callsLocked reports how the calls since the last quiet moment may have changed a connection.
func (r *simRun) callsLocked(c *simConn) (signedOut bool, renewed time.Time) {
	for _, call := range r.calls {
		if call.user != c.place.user || call.session != c.tab.session {
			continue
		}
		signedOut = signedOut || call.end.IsZero()
		renewed = later(renewed, call.end)
	}
	return signedOut, renewed
}

// renew renews the token of a session on all nodes. The clocks of the nodes differ, so the lease
// ends at another time on each.
func (r *simRun) renew(n *simNode, user, session int, d time.Duration) {
	end, sid := n.clock.Now().Round(0).Add(d), fmt.Sprint("s", session)
	r.mu.Lock()
	reached := r.callLocked(simRequest{user, sid, end})
	r.mu.Unlock()
	err := n.Renew(r.Context(), room.UserID(simUsers[user]), []string{"*"}, hub.Lease{SID: sid, Session: sid, Expires: end}, "")
	r.tracef(n.name, "renews %s of %s until %v: answer %v", sid, simUsers[user], end, err)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range reached {
		if err == nil && !r.model.unsure && !r.model.lossy {
			c.renewed.start = later(c.renewed.start, end)
		}
	}
}

func (r *simRun) signOut(n *simNode, user, session int) {
	sid := fmt.Sprint("s", session)
	r.mu.Lock()
	reached := r.callLocked(simRequest{user: user, session: sid})
	r.mu.Unlock()
	err := n.SignOut(r.Context(), room.UserID(simUsers[user]), sid)
	r.tracef(n.name, "signs %s of %s out: answer %v", sid, simUsers[user], err)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range reached {
		c.mustSign = c.mustSign || err == nil && !r.model.unsure && !r.model.lossy
	}
}
