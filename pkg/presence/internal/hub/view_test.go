package hub_test

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// view is the state of a room that a client derives from its events.
type view struct {
	synced   bool
	complete bool              // the client receives members
	members  map[string]string // id → info
	count    int
	counted  bool   // the client has received a user count
	users    bool   // the user count is that of the users, not of the connections
	position string // id of the last event
	message  string // id of the last message
	resumed  bool   // position and message are those of an earlier connection

	each func(event, id string, data []byte) // receives each event, if it is set
}

// add applies complete events. The error names the protocol rule that an event violates.
func (v *view) add(text string) error {
	for block := range strings.SplitSeq(strings.TrimSuffix(text, "\n\n"), "\n\n") {
		var event, id, data string
		for line := range strings.SplitSeq(block, "\n") {
			switch name, value, _ := strings.Cut(line, ": "); name {
			case "event":
				event = value
			case "id":
				id = value
			case "data":
				data = value
			}
		}
		if err := v.event(event, id, []byte(data)); err != nil {
			return fmt.Errorf("%w: %q", err, block)
		}
		if v.each != nil {
			v.each(event, id, []byte(data))
		}
	}
	return nil
}

func (v *view) event(name, id string, data []byte) error {
	if before, at := v.position, id; at != "" {
		resumes := v.resumed
		v.resumed = false
		if name == "reset" && (resumes || !sameEpoch(before, at)) {
			v.message = ""
		} else if before != "" && (!sameEpoch(before, at) || seqOf(at) < seqOf(before)) {
			return fmt.Errorf("id is not after %s", before)
		}
		v.position = id
	}
	var d struct {
		ID, Info           json.RawMessage
		Connections, Users int
		Members            []struct{ ID, Info json.RawMessage }
		Complete           bool
	}
	if name == "" && len(data) > 0 {
		return fmt.Errorf("data without an event name")
	}
	switch name {
	case "", "reset", "goodbye", "user count":
	case "expiring":
		if !v.synced {
			return fmt.Errorf("expiring before sync")
		}
	default:
		if err := json.Unmarshal(data, &d); err != nil {
			return err
		}
	}
	user := string(d.ID)
	_, here := v.members[user]
	switch name {
	case "message":
		if v.message != "" && seqOf(id) <= seqOf(v.message) {
			return fmt.Errorf("message is not after %s", v.message)
		}
		v.message = id
	case "sync":
		v.synced, v.complete, v.members = true, d.Complete, map[string]string{}
		for _, m := range d.Members {
			v.members[string(m.ID)] = string(m.Info)
		}
		if !v.counted {
			v.count = d.Connections
			if v.users {
				v.count = d.Users
			}
		}
		if v.complete && d.Users != len(v.members) {
			return fmt.Errorf("sync has %d users and %d members", d.Users, len(v.members))
		}
	case "user count":
		before := v.count
		if err := json.Unmarshal(data, &v.count); err != nil {
			return err
		}
		if !v.counted && v.count != before {
			return fmt.Errorf("first count differs from the %d of sync", before)
		}
		v.counted = true
	case "join":
		if !v.complete || here {
			return fmt.Errorf("join of a known member")
		}
		v.members[user] = string(d.Info)
	case "update", "leave":
		if !v.complete || !here {
			return fmt.Errorf("%s of an unknown member", name)
		}
		if v.members[user] = string(d.Info); name == "leave" {
			delete(v.members, user)
		}
	}
	return nil
}

func sameEpoch(a, b string) bool {
	a, _, _ = strings.Cut(a, "-")
	b, _, _ = strings.Cut(b, "-")
	return a == b
}

func seqOf(id string) (seq int) {
	_, number, _ := strings.Cut(id, "-")
	seq, _ = strconv.Atoi(number) // an id without a number is the first one
	return seq
}
