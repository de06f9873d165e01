package hub

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/presence/pkg/presence/internal/input"
	"example.com/presence/pkg/presence/room"
)

var frameTime = time.Date(2026, 11, 22, 18, 0, 0, 0, time.UTC)

// The reader of a frame gets the presences of its writer. Times of the writer's clock have no
// meaning to the reader, so a grace period ends after the time left, rounded up.
func TestEntries(t *testing.T) {
	const offset = -time.Hour // of the reader's clock
	since := time.UnixMilli(1764288000123).UTC()
	version := room.Version{Counter: 12, Node: node4f}
	info := json.RawMessage(`{"b":1.0,"a":"<é\u0026>` + "\u2028" + `"}`)
	tests := []struct {
		name       string
		sent, want room.Presence
	}{
		{"a connection", room.Presence{ID: "alice", Name: "A\n<b>", Info: info, Version: version, Since: since, Connections: 3},
			room.Presence{ID: "alice", Name: "A\n<b>", Info: info, Version: version, Since: since, Connections: 3}},
		{"a grace period", room.Presence{ID: "alice", Info: info, Since: since, Until: frameTime.Add(1500 * time.Microsecond), Reason: room.Slow},
			room.Presence{ID: "alice", Info: info, Since: since, Until: frameTime.Add(offset + 2*time.Millisecond), Reason: room.Slow}},
		{"the end of a grace period", room.Presence{ID: "alice", Name: "A", Info: info, Version: version, Since: since, Until: frameTime, Reason: room.Slow},
			room.Presence{ID: "alice", Info: json.RawMessage(`{}`), Since: time.UnixMilli(0).UTC(), Reason: room.Slow}},
		{"a user that has left", room.Presence{ID: "alice", Reason: room.Removed},
			room.Presence{ID: "alice", Info: json.RawMessage(`{}`), Since: time.UnixMilli(0).UTC(), Reason: room.Removed}},
	}
	for _, test := range tests {
		f, err := parsePartFrame(encodeFrame(partFrame{V: frameVersion, From: node4f, Changed: entriesOf([]room.Presence{test.sent}, frameTime)}))
		if err != nil {
			t.Fatal(err)
		}
		got, err := presences(f.Changed, frameTime.Add(offset))
		if err != nil || len(got) != 1 || !reflect.DeepEqual(got[0], test.want) {
			t.Errorf("%s: got %+v, %v; want %+v", test.name, got, err, test.want)
		}
	}
}

// A node rejects entries that no node sends.
func TestMalformedEntries(t *testing.T) {
	const year = 365 * 24 * 60 * 60 * 1000
	good := entry{ID: "alice", Connections: 1, Since: 1764288000123}
	for name, change := range map[string]func(*entry){
		"no id":                      func(e *entry) { e.ID = "" },
		"negative connections":       func(e *entry) { e.Connections = -1 },
		"too many connections":       func(e *entry) { e.Connections = maxConnections + 1 },
		"negative grace period":      func(e *entry) { e.Left = -1 },
		"long grace period":          func(e *entry) { e.Left = year + 1 },
		"overflow of a duration":     func(e *entry) { e.Left = math.MaxInt64 },
		"time before 1970":           func(e *entry) { e.Since = -1 },
		"time after 9999":            func(e *entry) { e.Since = 253402300800000 },
		"version without a next one": func(e *entry) { e.Version.Counter = math.MaxUint64 },
		"long id":                    func(e *entry) { e.ID = room.UserID(strings.Repeat("x", 257)) },
		"long name":                  func(e *entry) { e.Name = strings.Repeat("x", 129) },
		"large info":                 func(e *entry) { e.Info = fmt.Appendf(nil, "%q", strings.Repeat("x", 1023)) },
		"long node of a version":     func(e *entry) { e.Version.Node = room.NodeID(strings.Repeat("x", 65)) },
		"long reason":                func(e *entry) { e.Reason = room.Reason(strings.Repeat("x", 65)) },
	} {
		bad := good
		change(&bad)
		if _, err := presences([]entry{good, bad}, frameTime); err == nil {
			t.Errorf("%s: accepted %+v", name, bad)
		}
		part := pulledPart{}
		part.add(partPiece{Number: 7, Entries: []entry{good, bad, good}}, frameTime)
		if ps := part.presences(frameTime); len(ps) != 2 {
			t.Errorf("%s: got %d presences of a pulled part, want the 2 good ones", name, len(ps))
		}
	}
}

// A node ignores frames of another version, and data that is no frame.
func TestFrameVersion(t *testing.T) {
	for data, want := range map[string]string{
		`{"v":2,"from":"a"}`:        "frame version unknown (2)",
		`{"from":"a"}`:              "frame version unknown (0)",
		`{"v":-1}`:                  "frame version unknown (-1)",
		`{"v":1,"n":-1}`:            "frame malformed: json: cannot unmarshal number -1 into Go struct field partFrame.n of type uint64",
		`{"v":1,"users":1.5}`:       "frame malformed: json: cannot unmarshal number 1.5 into Go struct field partFrame.users of type int",
		`{"v":1`:                    "frame malformed: unexpected end of JSON input",
		"":                          "frame malformed: unexpected end of JSON input",
		`{"v":1}{"v":1}`:            "frame malformed: invalid character '{' after top-level value",
		`{"v":1,"changed":[{"info"`: "frame malformed: unexpected end of JSON input",
	} {
		_, err := parsePartFrame([]byte(data))
		if err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", data, err, want)
		}
		if _, beat := parseHeartbeat([]byte(data)); errors.Is(err, errVersion) != errors.Is(beat, errVersion) {
			t.Errorf("%s as a heartbeat: got %v, want %v", data, beat, err)
		}
	}
}

// A node accepts the longest values that clients and nodes have, and rejects longer ones. Else a
// peer could make its own frames larger than the engine allows.
func TestLongValues(t *testing.T) {
	const id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	info := func(size int) json.RawMessage { return fmt.Appendf(nil, "%q", strings.Repeat("x", size-2)) }
	for _, frame := range []func(node room.NodeID, number uint64, info json.RawMessage) any{
		func(node room.NodeID, number uint64, _ json.RawMessage) any {
			return partFrame{V: 1, From: node, Number: number}
		},
		func(node room.NodeID, _ uint64, _ json.RawMessage) any { return heartbeat{V: 1, From: node} },
		func(node room.NodeID, _ uint64, _ json.RawMessage) any {
			return heartbeat{V: 1, From: "a", Hello: []room.NodeID{"b", node}}
		},
		func(node room.NodeID, _ uint64, _ json.RawMessage) any { return command{V: 1, From: node} },
		func(node room.NodeID, _ uint64, _ json.RawMessage) any {
			return command{V: 1, From: "a", Of: []room.NodeID{"b", node}}
		},
		func(node room.NodeID, _ uint64, info json.RawMessage) any {
			return command{V: 1, From: "a", Update: &update{memberID{"lobby", "alice"}, info, room.Version{Counter: 1, Node: node}}}
		},
		func(node room.NodeID, number uint64, _ json.RawMessage) any {
			return answer{V: 1, From: node, Part: &partPiece{Number: number}}
		},
		func(node room.NodeID, _ uint64, _ json.RawMessage) any {
			return answer{V: 1, From: "a", Record: room.Version{Counter: 1, Node: node}}
		},
	} {
		good := frame(id, 1<<62, info(1<<10))
		if _, err := decodeAs(good, encodeFrame(good)); err != nil {
			t.Errorf("%+v: got %v, want no error", good, err)
		}
		for _, bad := range []any{frame(id+"0", 1<<62, info(1<<10)), frame(id, 1<<62+1, info(1<<10)), frame(id, 1<<62, info(1<<10+1))} {
			if _, err := decodeAs(bad, encodeFrame(bad)); err == nil && !reflect.DeepEqual(bad, good) {
				t.Errorf("%.300s: accepted", encodeFrame(bad))
			}
		}
	}
	for _, unsigned := range []any{partFrame{V: 1}, heartbeat{V: 1}, answer{V: 1}} {
		if _, err := decodeAs(unsigned, encodeFrame(unsigned)); err == nil {
			t.Errorf("%+v without a sender: accepted", unsigned)
		}
	}
}

// A pulled part keeps the number of its first piece, and counts each grace period from the time at
// which its piece was received.
func TestPulledPart(t *testing.T) {
	var p pulledPart
	p.add(partPiece{Number: 7, Entries: []entry{{ID: "alice", Left: 5000}}, More: true}, frameTime)
	if !p.more {
		t.Error("first piece: no further piece expected")
	}
	p.add(partPiece{Number: 9, Entries: []entry{{ID: "bob", Left: 5000}}}, frameTime.Add(time.Second))
	ps := p.presences(frameTime.Add(2 * time.Second))
	if p.more || p.number != 7 || len(ps) != 2 {
		t.Fatalf("got %+v with %d presences, want number 7, 2 presences and no further piece", p, len(ps))
	}
	for i, want := range []time.Duration{5 * time.Second, 6 * time.Second} {
		if got := ps[i].Until.Sub(frameTime); got != want {
			t.Errorf("grace period of %s ends after %v, want %v", ps[i].ID, got, want)
		}
	}
	p = pulledPart{}
	if p.add(partPiece{Number: 7, More: true}, frameTime); p.more {
		t.Error("an empty piece announces further ones: they would be read again and again")
	}
	for name, second := range map[string]partPiece{
		"an earlier user":  {Entries: []entry{{ID: "alice"}}, More: true},
		"the same user":    {Entries: []entry{{ID: "bob"}}, More: true},
		"the last piece":   {Entries: []entry{{ID: "alice"}}},
		"too many entries": {Entries: slices.Repeat([]entry{{ID: "carol"}}, maxPieceEntries+1)},
	} {
		p = pulledPart{}
		p.add(partPiece{Entries: []entry{{ID: "bob"}}, More: true}, frameTime)
		if p.add(second, frameTime); !p.failed || p.more || len(p.entries) != 1 {
			t.Errorf("second piece with %s: got failed %v, more %v, %d entries; want true, false, 1", name, p.failed, p.more, len(p.entries))
		}
	}
}

// A piece of the longest entries, of which every byte of an id, a name and an info is escaped, fits
// the engine's payload. A piece of short entries has many.
func TestPieceSize(t *testing.T) {
	quotes := strings.Repeat(`"`, input.MaxUserID)
	info := `{"` + strings.Repeat("\u2028", (input.MaxInfo-6)/6) + `":1}`
	longest := entry{ID: room.UserID(quotes), Name: strings.Repeat(`"`, input.MaxUserName), Info: json.RawMessage(info),
		Version: room.Version{Counter: maxCounter, Node: room.NodeID(strings.Repeat("n", maxNodeID))}, Since: maxSince,
		Connections: maxConnections, Left: maxLeft, Reason: room.Reason(strings.Repeat("r", maxReason))}
	peers := slices.Repeat([]room.NodeID{"presence-0123456789abcdef"}, 500)
	for name, c := range map[string]struct {
		entry entry
		least int
	}{
		"the longest": {longest, 100},
		"short":       {entry{ID: "user-12345", Name: "user-12345", Info: json.RawMessage("{}"), Since: maxSince, Connections: 1}, 1000},
	} {
		if got, most := len(encodeFrame(c.entry)), c.entry.size(); got > most {
			t.Errorf("entry %s: %d bytes, want at most %d", name, got, most)
		}
		es := firstOf(slices.Repeat([]entry{c.entry}, maxPieceEntries), maxPieceSize)
		got := len(encodeFrame(answer{V: frameVersion, From: "self", Part: &partPiece{Entries: es, More: true, Peers: peers}}))
		if len(es) < c.least || got > LargestFrame {
			t.Errorf("piece of entries %s: %d entries, %d bytes; want at least %d, at most %d", name, len(es), got, c.least, LargestFrame)
		}
	}
	if es := firstOf([]entry{longest, longest}, 1); len(es) != 1 {
		t.Errorf("got %d entries in a piece that is too small for one, want 1", len(es))
	}
}

// checkPresences applies presences of a peer to a room, and encodes the room for its clients.
func checkPresences(t *testing.T, es []entry) {
	ps, err := presences(es, frameTime)
	if err != nil {
		return
	}
	again := entriesOf(ps, frameTime)
	if back, err := presences(again, frameTime.Add(-time.Millisecond)); err != nil || len(back) != len(ps) {
		t.Errorf("presences %+v are rejected after another encoding: %v", ps, err)
	}
	users := map[room.UserID]bool{}
	r := room.NewShared(room.Config{MemberLimit: 1 << 20}, "self", 0)
	for range 2 { // the second time has no effect
		r.Replace("peer", ps, frameTime)
		r.Apply("peer", ps, frameTime)
	}
	for _, p := range ps { // the last entry of a user counts
		if delete(users, p.ID); p.Connections > 0 || p.Until.After(frameTime) {
			users[p.ID] = true
		}
	}
	if _, connections := r.Totals("peer"); r.Users() != len(users) || r.Connections() != connections || connections < 0 {
		t.Errorf("got %d users, %d connections; want %d, %d", r.Users(), r.Connections(), len(users), connections)
	}
	for _, change := range r.News(frameTime).Changes {
		changeEvent("e-1", &r, change)
	}
	if snapshot := snapshotOf(&r, time.Second); !json.Valid(snapshot) {
		t.Errorf("snapshot is no JSON: %s", snapshot)
	}
}

// checkEncoding checks that a decoded frame has the same meaning after another encoding.
func checkEncoding[T any](t *testing.T, frame T, version func(*T) *int) {
	first := encodeFrame(frame)
	var back T
	if err := parseFrame(first, &back, version(&back)); err != nil {
		t.Fatalf("%s is rejected: %v", first, err)
	}
	if second := encodeFrame(back); string(second) != string(first) {
		t.Errorf("encoded again:\n%s\n%s", first, second)
	}
}

// No part frame causes a panic or harms the clients of a room.
func FuzzPartFrame(f *testing.F) {
	addCorpus[partFrame](f)
	f.Add([]byte(`{"v":1,"changed":[{"id":"a","since":9000000000000000000,"connections":1}]}`))
	f.Add([]byte(`{"v":1,"changed":[{"id":"b","connections":2},{"id":"a","since":253402300799999,"connections":1073741824}]}`))
	f.Add([]byte(`{"v":1,"changed":[{"id":"a","connections":1,"info":{ "x" :` + "\n" + `null},"version":{"counter":18446744073709551615}}]}`))
	f.Add([]byte("{\"v\":1,\"changed\":[{\"id\":\"\\ud800\xff\",\"connections\":1,\"info\":\"\xff\",\"left\":31536000000}]}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := parsePartFrame(data)
		if err != nil {
			return
		}
		checkEncoding(t, p, func(p *partFrame) *int { return &p.V })
		checkPresences(t, p.Changed)
	})
}

// No heartbeat causes a panic, or makes the Lamport counter of a node overflow.
func FuzzHeartbeat(f *testing.F) {
	addCorpus[heartbeat](f)
	f.Add([]byte(`{"v":1,"from":"a","clock":18446744073709551615}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := parseHeartbeat(data)
		if err != nil {
			return
		}
		checkEncoding(t, b, func(b *heartbeat) *int { return &b.V })
		p := newPeers(node00, frameTime)
		before := p.stamp()
		p.witness(b.Clock)
		if after := p.stamp(); after.Compare(before) <= 0 {
			t.Errorf("clock %d: version %v after %v, want a higher one", b.Clock, after, before)
		}
	})
}

// No answer to a pull causes a panic or harms the clients of a room.
func FuzzPullAnswer(f *testing.F) {
	addCorpus[answer](f)
	f.Add([]byte(`{"v":1,"from":"a","part":{"n":1,"entries":[{"id":"","connections":1},{"id":"a","connections":-1},{"id":"b","connections":2}],"more":true}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := parseAnswer(data)
		if err != nil {
			return
		}
		checkEncoding(t, a, func(a *answer) *int { return &a.V })
		if a.Part == nil {
			return
		}
		var p pulledPart
		p.add(*a.Part, frameTime)
		if !p.failed && p.number != a.Part.Number || p.more && len(p.entries) == 0 {
			t.Errorf("got %+v of %+v", p, a.Part)
		}
		if got := p.presences(frameTime); len(got) > len(a.Part.Entries) {
			t.Errorf("got %d presences of %d entries", len(got), len(a.Part.Entries))
		}
		good := []entry{}
		for _, e := range a.Part.Entries {
			if _, err := presences([]entry{e}, frameTime); err == nil {
				good = append(good, e)
			}
		}
		checkPresences(t, good)
	})
}
