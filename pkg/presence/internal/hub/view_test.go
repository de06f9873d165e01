package hub_test

import (
	"encoding/json"
	"fmt"
	"strings"
)

// view is a client's idea of its room, made of its events alone.
type view struct {
	synced   bool
	complete bool              // the client gets members
	members  map[string]string // id → info
	count    int
	counted  bool   // it has a count
	position string // the last id
	message  string // the id of the last message
}

// add reads whole events. The error says which rule of the wire they break.
func (v *view) add(text string) error {
	for block := range strings.SplitSeq(strings.TrimSuffix(text, "\n\n"), "\n\n") {
		fields := map[string]string{}
		for line := range strings.SplitSeq(block, "\n") {
			name, value, _ := strings.Cut(line, ": ")
			fields[name] = value
		}
		if err := v.event(fields["event"], fields["id"], []byte(fields["data"])); err != nil {
			return fmt.Errorf("%w: %q", err, block)
		}
	}
	return nil
}

func (v *view) event(name, id string, data []byte) error {
	if before, at := v.position, id; at != "" {
		if name == "reset" && !sameEpoch(before, at) {
			v.message = ""
		} else if before != "" && (!sameEpoch(before, at) || seqOf(at) < seqOf(before)) {
			return fmt.Errorf("id after %s", before)
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
		return fmt.Errorf("data without a name")
	}
	switch name {
	case "", "reset", "goodbye", "user count":
	case "expiring":
		if !v.synced {
			return fmt.Errorf("before sync")
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
			return fmt.Errorf("message after %s", v.message)
		}
		v.message = id
	case "sync":
		v.synced, v.complete, v.members = true, d.Complete, map[string]string{}
		for _, m := range d.Members {
			v.members[string(m.ID)] = string(m.Info)
		}
		if !v.counted {
			v.count = d.Connections
		}
		if v.complete && d.Users != len(v.members) {
			return fmt.Errorf("users are not the members")
		}
	case "user count":
		before := v.count
		if err := json.Unmarshal(data, &v.count); err != nil {
			return err
		}
		if !v.counted && v.count != before {
			return fmt.Errorf("sync has %d connections", before)
		}
		v.counted = true
	case "join":
		if !v.complete || here {
			return fmt.Errorf("a member that is known")
		}
		v.members[user] = string(d.Info)
	case "update", "leave":
		if !v.complete || !here {
			return fmt.Errorf("a member that is not known")
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
	fmt.Sscan(number, &seq)
	return seq
}
