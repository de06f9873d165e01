package ledger

import (
	"encoding/json"
	"maps"
	"slices"
	"time"
)

func (c *checker) opened(r Record) {
	c.report.Opened++
	k := c.clients[r.Client]
	if k == nil {
		k = &client{name: r.Client}
		c.clients[r.Client], c.names = k, append(c.names, r.Client)
	}
	if r.ID == "" {
		c.complete(k, false)
		k.began = time.Time{}
	} else if k.began.IsZero() || r.ID != k.held.String() {
		c.fault(r.At, r.Client, "ledger error: resumed with the id %s, but held %s", r.ID, k.held)
	}
	k.open, k.synced, k.counted, k.members = true, false, false, nil
}

func (c *checker) event(r Record) {
	k := c.clients[r.Client]
	if k == nil || !k.open {
		c.fault(r.At, r.Client, "ledger error: event %q without a stream", r.Event)
		return
	}
	if r.ID != "" {
		c.position(k, r)
	}
	switch r.Event {
	case "user count":
		k.counted = json.Unmarshal(r.Data, &k.count) == nil
		if !k.counted || k.count < 0 {
			c.fault(r.At, r.Client, "user count %s", r.Data)
		}
	case "sync", "join", "leave":
		c.member(k, r)
	}
}

// position checks the id of an event.
func (c *checker) position(k *client, r Record) {
	p, ok := ParsePosition(r.ID)
	isMessage := r.carries()
	switch {
	case !ok:
		c.fault(r.At, r.Client, "event %q has the malformed id %q", r.Event, r.ID)
		return
	case r.Event == "reset":
		c.report.Resets++
		if k.synced {
			c.report.Live++
		}
		c.complete(k, false)
		k.restart(p, r.At)
		return
	case k.began.IsZero() && isMessage:
		c.fault(r.At, r.Client, "message %s before the first sync", p)
		return
	case k.began.IsZero():
		k.restart(p, r.At)
		return
	case p.Epoch != k.held.Epoch:
		c.fault(r.At, r.Client, "event %q has the id %s after %s, without a reset", r.Event, p, k.held)
		k.restart(p, r.At)
	case isMessage && k.received[p.Seq]:
		c.fault(r.At, r.Client, "received message %s %q twice", p, c.contents[p])
	case isMessage && p.Seq <= k.held.Seq:
		c.fault(r.At, r.Client, "message %s %q is out of order after %s", p, c.contents[p], k.held)
	case p.Seq < k.held.Seq:
		c.fault(r.At, r.Client, "event %q has the id %s after %s", r.Event, p, k.held)
	}
	if isMessage {
		c.report.Received++
		k.received[p.Seq] = true
	}
	k.held = p
}

// complete checks that the client has received all messages from its start to the id that it holds
// and, if last is true and the client is open, all accepted ones after it.
func (c *checker) complete(k *client, last bool) {
	if k.began.IsZero() {
		return
	}
	for _, seq := range c.seqs[k.start.Epoch] {
		if p := (Position{k.start.Epoch, seq}); seq > k.start.Seq && seq <= k.held.Seq && !k.received[seq] {
			c.fault(c.end, k.name, "missed message %s %q, holds %s since %s", p, c.contents[p], k.held, k.start)
		}
	}
	for _, r := range c.accepted {
		p, _ := ParsePosition(r.ID)
		switch {
		case p.Epoch == k.start.Epoch && p.Seq <= k.start.Seq && c.began[r.Content].After(k.began):
			c.fault(r.At, k.name, "message %s %q was sent after the client had the position %s", p, r.Content, k.start)
		case !last || !k.open || k.received[p.Seq] && p.Epoch == k.start.Epoch:
		case p.Epoch == k.start.Epoch && p.Seq > k.held.Seq, p.Epoch != k.start.Epoch && c.began[r.Content].After(k.began):
			c.fault(r.At, k.name, "missed accepted message %s %q at the end, holds %s", p, r.Content, k.held)
		}
	}
}

// member checks an event about members.
func (c *checker) member(k *client, r Record) {
	var data struct {
		ID       string
		Members  []struct{ ID string }
		Complete bool
	}
	if err := json.Unmarshal(r.Data, &data); err != nil {
		c.fault(r.At, r.Client, "event %q has the data %s", r.Event, r.Data)
		return
	}
	if r.Event == "sync" {
		k.synced, k.members = true, nil
		if data.Complete {
			k.members = map[string]bool{}
			for _, m := range data.Members {
				k.members[m.ID] = true
			}
		}
		return
	}
	if k.members == nil {
		return
	}
	if joined := r.Event == "join"; joined == k.members[data.ID] {
		c.fault(r.At, r.Client, "%s of user %q, which %s", r.Event, data.ID, map[bool]string{true: "is a member", false: "is not a member"}[joined])
	}
	if r.Event == "join" {
		k.members[data.ID] = true
	} else {
		delete(k.members, data.ID)
	}
}

// quiet compares the state of all open clients with the truth.
func (c *checker) quiet(r Record) {
	for _, name := range c.names {
		k := c.clients[name]
		if !k.open {
			continue
		}
		if !k.counted {
			c.fault(r.At, name, "has no count, want %d", r.Count)
		} else if k.count != r.Count {
			c.fault(r.At, name, "has the count %d, want %d", k.count, r.Count)
		}
		if got := slices.Sorted(maps.Keys(k.members)); r.Members != nil && k.members != nil && !slices.Equal(got, r.Members) {
			c.fault(r.At, name, "has the members %q, want %q", got, r.Members)
		}
	}
}
