package ledger_test

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"example.com/presence/cmd/presence/internal/ledger"
)

const (
	e1 = "0000000001-"
	e2 = "0000000002-"
)

// story turns lines into a ledger. Each line is one record, a second after the previous one:
//
//	c open [ID]           c: EVENT ID DATA (ID "-": none)      c close
//	post CONTENT STATUS [ID]                                   quiet COUNT [MEMBER…]
func story(text string) string {
	var b strings.Builder
	n := 0
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		n++
		at := fmt.Sprintf("2026-01-02T15:04:%02dZ", n)
		began := fmt.Sprintf("2026-01-02T15:04:%02d.5Z", n-1)
		f = append(f, "", "", "", "")
		switch {
		case f[0] == "post":
			fmt.Fprintf(&b, `{"at":%q,"began":%q,"kind":"posted","client":"p","content":%q,"status":%s,"id":%q}`, at, began, f[1], f[2], f[3])
		case f[0] == "quiet":
			members := strings.Fields(strings.Join(f[2:], " "))
			fmt.Fprintf(&b, `{"at":%q,"kind":"quiet","count":%s,"members":%s}`, at, f[1], list(members))
		case f[1] == "open":
			fmt.Fprintf(&b, `{"at":%q,"kind":"opened","client":%q,"id":%q}`, at, f[0], f[2])
		case f[1] == "close":
			fmt.Fprintf(&b, `{"at":%q,"kind":"closed","client":%q}`, at, f[0])
		default:
			id := strings.Trim(f[2], "-")
			fmt.Fprintf(&b, `{"at":%q,"kind":"event","client":%q,"event":%q,"id":%q,"data":%s}`,
				at, strings.Trim(f[0], ":"), strings.ReplaceAll(f[1], "_", " "), id, data(f[1], id, f[3:]))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func list(names []string) string {
	if len(names) == 0 {
		return "null"
	}
	return `["` + strings.Join(names, `","`) + `"]`
}

func data(event, id string, rest []string) string {
	switch event {
	case "message":
		return fmt.Sprintf(`{"id":%q,"data":%q}`, id, rest[0])
	case "join", "leave":
		return fmt.Sprintf(`{"id":%q}`, rest[0])
	case "sync":
		var members []string
		for _, m := range strings.Fields(strings.Join(rest, " ")) {
			members = append(members, fmt.Sprintf(`{"id":%q}`, m))
		}
		return fmt.Sprintf(`{"members":[%s],"complete":%v}`, strings.Join(members, ","), len(members) > 0)
	case "user_count":
		return rest[0]
	}
	return "{}"
}

// Check reports each fault of a ledger, and nothing in a ledger without a fault.
func TestCheck(t *testing.T) {
	for name, c := range map[string]struct {
		story string
		want  []string // one per fault: a part of its text
	}{
		"no fault": {`
			a open
			a: sync ` + e1 + `5 u
			a: user_count ` + e1 + `5 1
			post m6 202 ` + e1 + `6
			a: message ` + e1 + `6 m6
			post m7 503
			post m8 0
			a: message ` + e1 + `8 m8
			a close
			post m9 202 ` + e1 + `9
			a open ` + e1 + `8
			a: message ` + e1 + `9 m9
			a: sync ` + e1 + `9 u
			a: user_count ` + e1 + `9 1
			quiet 1 u`, nil},
		"a reset excuses missed messages and repeats": {`
			a open
			a: sync ` + e1 + `5 u
			post m6 202 ` + e1 + `6
			post m7 202 ` + e1 + `7
			a: message ` + e1 + `7 m7
			a: reset ` + e1 + `5
			a: message ` + e1 + `6 m6
			a: message ` + e1 + `7 m7
			a: reset ` + e2 + `0
			post n1 202 ` + e2 + `1
			a: message ` + e2 + `1 n1`, []string{`missed message 0000000001-6 "m6", holds 0000000001-7`}},
		"twice": {`
			a open
			a: sync ` + e1 + `5
			post m6 202 ` + e1 + `6
			a: message ` + e1 + `6 m6
			a: message ` + e1 + `6 m6`, []string{`a: received message 0000000001-6 "m6" twice`}},
		"twice after resuming": {`
			a open
			a: sync ` + e1 + `5
			post m6 202 ` + e1 + `6
			a: message ` + e1 + `6 m6
			a close
			a open ` + e1 + `6
			a: message ` + e1 + `6 m6`, []string{`a: received message 0000000001-6 "m6" twice`}},
		"out of order": {`
			a open
			a: sync ` + e1 + `5
			post m6 202 ` + e1 + `6
			post m7 202 ` + e1 + `7
			a: message ` + e1 + `7 m7
			a: message ` + e1 + `6 m6`, []string{`a: message 0000000001-6 "m6" is out of order after 0000000001-7`}},
		"missed": {`
			a open
			a: sync ` + e1 + `5
			b open
			b: sync ` + e1 + `5
			post m6 503
			b: message ` + e1 + `6 m6
			post m7 202 ` + e1 + `7
			a: message ` + e1 + `7 m7
			b: message ` + e1 + `7 m7`, []string{`a: missed message 0000000001-6 "m6"`}},
		"missed before a sync": {`
			a open
			a: sync ` + e1 + `5
			post m6 202 ` + e1 + `6
			a close
			a open ` + e1 + `5
			a: sync ` + e1 + `6`, []string{`a: missed message 0000000001-6 "m6"`}},
		"missed at the end": {`
			a open
			a: sync ` + e1 + `5
			post m6 202 ` + e1 + `6`, []string{`a: missed accepted message 0000000001-6 "m6" at the end`}},
		"missed at the end in another epoch": {`
			a open
			a: sync ` + e1 + `5
			post n1 202 ` + e2 + `1`, []string{`a: missed accepted message 0000000002-1 "n1" at the end`}},
		"sent after the position of the client": {`
			a open
			a: sync ` + e1 + `9
			post m6 202 ` + e1 + `6`, []string{`a: message 0000000001-6 "m6" was sent after the client had the position 0000000001-9`}},
		"accepted again after the client had its position": {`
			post m6 503
			a open
			a: sync ` + e1 + `9
			post m6 202 ` + e1 + `6`, nil},
		"refused and twice in the log": {`
			a open
			a: sync ` + e1 + `5
			post m6 503
			a: message ` + e1 + `6 m6
			a: message ` + e1 + `7 m6`, []string{`message "m6" has the ids 0000000001-6 and 0000000001-7`}},
		"lost and twice in the log, in two epochs": {`
			a open
			a: sync ` + e1 + `5
			post m6 0
			a: message ` + e1 + `6 m6
			a: reset ` + e2 + `0
			a: message ` + e2 + `1 m6`, []string{`message "m6" has the ids 0000000001-6 and 0000000002-1`}},
		"another id than in the answer": {`
			a open
			a: sync ` + e1 + `5
			post m6 202 ` + e1 + `6
			a: message ` + e1 + `7 m6`, []string{`message "m6" has the ids`, `missed message 0000000001-6 "m6"`}},
		"one id for two messages": {`
			post m6 202 ` + e1 + `6
			post m7 202 ` + e1 + `6`, []string{`id 0000000001-6 names the messages "m6" and "m7"`}},
		"never sent": {`
			a open
			a: sync ` + e1 + `5
			a: message ` + e1 + `6 m6`, []string{`received message "m6", which was never sent`}},
		"answered with 500": {`post m6 500`, []string{`message "m6" was answered with status 500`}},
		"malformed id":      {`post m6 202 6`, []string{`message "m6" has the malformed id "6"`}},
		"another epoch without a reset": {`
			a open
			a: sync ` + e1 + `5
			a: user_count ` + e2 + `5 1`, []string{`a: event "user count" has the id 0000000002-5 after 0000000001-5, without a reset`}},
		"id goes back": {`
			a open
			a: sync ` + e1 + `5
			a: user_count ` + e1 + `4 1`, []string{`a: event "user count" has the id 0000000001-4 after 0000000001-5`}},
		"message before sync": {`
			a open
			post m6 202 ` + e1 + `6
			a: message ` + e1 + `6 m6`, []string{`a: message 0000000001-6 before the first sync`}},
		"join twice": {`
			a open
			a: sync ` + e1 + `5 u
			a: join - v
			a: join - v`, []string{`a: join of user "v", which is a member`}},
		"join of a member of the sync": {`
			a open
			a: sync ` + e1 + `5 u
			a: join - u`, []string{`a: join of user "u", which is a member`}},
		"leave twice": {`
			a open
			a: sync ` + e1 + `5 u v
			a: leave - v
			a: leave - v`, []string{`a: leave of user "v", which is not a member`}},
		"members unknown": {`
			a open
			a: sync ` + e1 + `5
			a: join - v
			a: join - v`, nil},
		"wrong count": {`
			a open
			a: sync ` + e1 + `5
			a: user_count - 2
			b open
			b: sync ` + e1 + `5
			c open
			c close
			quiet 3`, []string{`a: has the count 2, want 3`, `b: has no count, want 3`}},
		"negative count": {`
			a open
			a: user_count - -1`, []string{`a: user count -1`}},
		"ghost": {`
			a open
			a: sync ` + e1 + `5 u v
			a: user_count - 1
			quiet 1 u`, []string{`a: has the members ["u" "v"], want ["u"]`}},
		"resumed with another id": {`
			a open
			a: sync ` + e1 + `5
			a close
			a open ` + e1 + `4`, []string{`a: ledger error: resumed with the id 0000000001-4, but held 0000000001-5`}},
	} {
		t.Run(name, func(t *testing.T) {
			records, err := ledger.Read(strings.NewReader(story(c.story)))
			if err != nil {
				t.Fatal(err)
			}
			faults := ledger.Check(records).Faults
			for i := range max(len(faults), len(c.want)) {
				got, want := "none", "none"
				if i < len(faults) {
					got = faults[i].String()
				}
				if i < len(c.want) {
					want = c.want[i]
				}
				if !strings.Contains(got, want) {
					t.Errorf("fault %d: got %s, want %s", i, got, want)
				}
			}
		})
	}
}

// The report counts messages, streams and epochs.
func TestReport(t *testing.T) {
	records, err := ledger.Read(strings.NewReader(story(`
		a open
		a: sync ` + e1 + `5
		post m6 503
		post m6 202 ` + e1 + `6
		a: message ` + e1 + `6 m6
		post m7 503
		post m8 0
		a: message ` + e1 + `8 m8
		a: reset ` + e2 + `0
		post n1 202 ` + e2 + `1
		a: message ` + e2 + `1 n1
		a close
		a open ` + e2 + `1
		a: reset ` + e2 + `1`)))
	if err != nil {
		t.Fatal(err)
	}
	want := ledger.Report{Clients: 1, Opened: 2, Accepted: 2, Refused: 2, Shown: 1, Received: 3, Resets: 2, Live: 1, Epochs: 2}
	if got := ledger.Check(records); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// A ledger that is written and read again is the same.
func TestWrite(t *testing.T) {
	text := story("a open " + e1 + "5\npost m6 202 " + e1 + "6\nquiet 1 u")
	records, err := ledger.Read(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := ledger.Write(&b, records); err != nil {
		t.Fatal(err)
	}
	again, err := ledger.Read(&b)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(again, records) {
		t.Errorf("got %+v, want %+v", again, records)
	}
	if _, err := ledger.Read(strings.NewReader("{}\n{")); err == nil || !strings.Contains(err.Error(), "record 2") {
		t.Errorf("half a record: got the error %v, want record 2", err)
	}
}
