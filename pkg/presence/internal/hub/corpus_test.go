package hub

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/room"
)

const (
	node4f room.NodeID = "4f0c9d2be17a43558b6d0e1f2a3c4b5d"
	node00 room.NodeID = "00112233445566778899aabbccddeeff"
	nodeff room.NodeID = "ffeeddccbbaa99887766554433221100"
)

// corpus lists the recorded data of testdata/frames/v1 with their meaning. While nodes of two
// versions run, each must read the data of the other. So a later version must still read these
// files: add files and fields, and never change a file.
var corpus = map[string]any{
	"delta.json": partFrame{V: 1, From: node4f, Number: 17, Users: 2, Connections: 4, Position: "5f1c0a9e4b-12", Changed: []entry{
		{ID: "alice", Name: "Alice", Info: json.RawMessage(`{"status":"away"}`), Version: room.Version{Counter: 12, Node: node4f}, Since: 1764288000123, Connections: 3},
		{ID: "bob", Name: "Bob", Info: json.RawMessage(`{}`), Since: 1764288001000, Left: 5400, Reason: room.Timeout}}},
	"gone.json": partFrame{V: 1, From: node4f, Number: 18, Users: 1, Connections: 3, Changed: []entry{{ID: "bob", Reason: room.Removed}}},
	"more.json": partFrame{V: 1, From: node4f, Number: 19, Users: 500, Connections: 500, More: true, Changed: []entry{
		{ID: "carol", Info: json.RawMessage(`{}`), Since: 1764288002000, Connections: 1}}},
	"repeat.json":     partFrame{V: 1, From: node4f, Number: 20, Users: 1, Connections: 3, Position: "5f1c0a9e4b-13", Acked: []uint64{12, 13}},
	"acked-from.json": partFrame{V: 1, From: node4f, Number: 20, Users: 1, Connections: 3, Position: "5f1c0a9e4b-9000", Acked: []uint64{8999, 9000}, AckedFrom: 14},
	"whole.json": partFrame{V: 1, From: node4f, Number: 20, Users: 1, Connections: 3, Whole: true, Changed: []entry{
		{ID: "carol", Info: json.RawMessage(`{}`), Since: 1764288002000, Connections: 3}}},
	"heartbeat.json": heartbeat{V: 1, From: node4f, Clock: 12},
	"hello.json":     heartbeat{V: 1, From: node4f, Hello: []room.NodeID{allNodes}},
	"hello-one.json": heartbeat{V: 1, From: node4f, Clock: 1, Hello: []room.NodeID{node00, nodeff}},
	"label.json": heartbeat{V: 1, From: node4f, Clock: 12, Hello: []room.NodeID{allNodes}, Label: "eu-1",
		Settings: map[string]string{"count": "connections", "keys": "secret-5f1c0a9e4b7d2c38", "linger": "5s"}},
	"leaving.json": heartbeat{V: 1, From: node4f, Clock: 12, Leaving: true},

	"pull.json": command{V: 1, From: node4f, Of: []room.NodeID{node4f}, Parts: &partsOf{Room: "lobby", After: "alice"}},
	"renew.json": command{V: 1, From: node4f, Renew: &renewal{User: "alice", SID: []byte("sid"), Expires: time.Date(2026, 11, 22, 19, 0, 0, 0, time.UTC),
		Join: room.Patterns{"lobby", "doc-*"}, From: []byte("old"), To: []byte("new")}},
	"sign-out.json": command{V: 1, From: node4f, SignOut: &signOut{User: "alice", Session: []byte("cookie")}},
	"update.json": command{V: 1, From: node4f, Update: &update{memberID: memberID{Room: "lobby", User: "alice"}, Info: json.RawMessage(`{"status":"<away>"}`),
		Stamp: room.Version{Counter: 13, Node: node00}}},
	"find.json":  command{V: 1, From: node4f, Find: &memberID{Room: "lobby", User: "alice"}},
	"rooms.json": command{V: 1, From: node4f, Rooms: &roomsAfter{After: "lobby", Limit: 100}},

	"confirm.json": command{V: 1, From: node4f, Of: []room.NodeID{node4f}, Confirm: &confirmation{memberID{"lobby", "bob"}, "q3yz5m"}},

	"confirm-answer.json": answer{V: 1, From: node4f, Confirmed: true},
	"update-answer.json":  answer{V: 1, From: node4f, Found: true, Record: room.Version{Counter: 13, Node: node4f}, Draining: true},
	"pull-answer.json": answer{V: 1, From: node4f, Part: &partPiece{Number: 17, More: true, Entries: []entry{
		{ID: "bob", Name: "Bob", Info: json.RawMessage(`{}`), Since: 1764288001000, Connections: 2}}}},
	"open-answer.json":       answer{V: 1, From: node4f, Part: &partPiece{Number: 17, Position: "5f1c0a9e4b-13", Peers: []room.NodeID{node00}}},
	"pull-answer-empty.json": answer{V: 1, From: node4f, Part: &partPiece{Number: 17}},
	"answer.json":            answer{V: 1, From: node4f},
	"found-answer.json":      answer{V: 1, From: node4f, Found: true},
	"rooms-answer.json":      answer{V: 1, From: node4f, Rooms: []RoomCount{{Room: "den", Connections: 3, Users: 2}}, More: true},

	"ban-row.json":       ban{V: 1, ID: "q3yz5m", Room: "lobby", User: "bob"},
	"message-record.txt": record{node: []byte(node4f), number: 17, event: "chat message", body: []byte(`"from":{"id":"alice","name":"Alice"},"data":"hello"`), from: 37},
}

// This version reads all recorded data, including data with fields that it does not know.
func TestCorpus(t *testing.T) {
	files, err := os.ReadDir("testdata/frames/v1")
	if err != nil || len(files) != len(corpus) {
		t.Fatalf("got %d files, %v; want %d", len(files), err, len(corpus))
	}
	for _, file := range files {
		data := readCorpus(t, file.Name())
		variants := [][]byte{data}
		if filepath.Ext(file.Name()) == ".json" {
			variants = append(variants, append([]byte(`{"later":{"v":2},`), data[1:]...))
		}
		for _, data := range variants {
			if got, err := decodeAs(corpus[file.Name()], data); err != nil || !reflect.DeepEqual(got, corpus[file.Name()]) {
				t.Errorf("%s: got %+v, %v; want %+v", file.Name(), got, err, corpus[file.Name()])
			}
		}
	}
}

// readCorpus returns a file of the corpus without the line break at its end.
func readCorpus(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata/frames/v1", name))
	if err != nil {
		t.Fatal(err)
	}
	return bytes.TrimSuffix(data, []byte("\n"))
}

// decodeAs decodes data to the type of want.
func decodeAs(want any, data []byte) (got any, err error) {
	switch want.(type) {
	case partFrame:
		return parsePartFrame(data)
	case heartbeat:
		return parseHeartbeat(data)
	case command:
		return parseCommand(data)
	case answer:
		return parseAnswer(data)
	case ban:
		return parseBan(backplane.Row{Key: "ban/lobby/bob", Value: data})
	default:
		return parseRecord(data)
	}
}

// addCorpus adds the recorded data of one type as seeds of a fuzz target.
func addCorpus[T any](f *testing.F) {
	f.Helper()
	names := []string{}
	for name, value := range corpus {
		if _, ok := value.(T); ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		f.Add(readCorpus(f, name))
	}
}
