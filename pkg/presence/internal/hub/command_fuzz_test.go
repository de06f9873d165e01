package hub_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"example.com/presence/pkg/presence/internal/hub"
	"example.com/presence/pkg/presence/internal/loglimit"
	"example.com/presence/pkg/presence/room"
)

// FuzzCommand passes arbitrary commands to a node of a cluster. None causes a panic. Each answer is
// a JSON object of bounded size, and takes bounded time.
func FuzzCommand(f *testing.F) {
	for _, seed := range []string{
		`{"v":1,"from":"a","renew":{"user":"alice","sid":"cw==","expires":"2026-01-01T00:00:00Z","join":["*"],"from":"YQ==","to":"Yg=="}}`,
		`{"v":1,"from":"a","sign_out":{"user":"alice","session":"/w=="}}`,
		`{"v":1,"from":"a","update":{"room":"lobby","user":"alice","info":{"a":[1]},"stamp":{"counter":3,"node":"a"}}}`,
		`{"v":1,"from":"a","find":{"room":"lobby","user":"alice"}}`, `{"v":1,"from":"a","of":["n","x"],"find":{"room":"lobby"}}`,
		`{"v":1,"from":"a","rooms":{"after":"","limit":-1}}`, `{"v":1,"from":"a","rooms":{"after":"a","limit":9223372036854775807}}`,
		`{"v":1,"from":"a","confirm":{"room":"lobby","user":"bob","id":"1"}}`,
		`{"v":1,"from":"a","parts":{"room":"lobby","of":["n"],"after":"a"}}`, `{"v":2}`, `{"v":1,"find":null}`, `[]`, ``,
	} {
		f.Add([]byte(seed))
	}
	log := slog.New(slog.DiscardHandler)
	n, err := hub.Open(hub.Config{Bus: sharedMemory(), OwnBus: true, Streams: &fakeStreams{}, Node: "n", Log: log, Warn: loglimit.New(log),
		Count: (*room.Room).Connections, Linger: time.Second, RoomAge: time.Hour, MaxRooms: 10, MemberLimit: 500})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { n.Close(context.Background()) })
	if _, err := n.Send(f.Context(), "lobby", hub.Draft{Event: "message", Data: []byte("1")}, "", ""); err != nil { // opens the room
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, request []byte) {
		start := time.Now()
		answer := n.HandleCommand(request)
		if answer != nil && (!json.Valid(answer) || answer[0] != '{') {
			t.Errorf("answer to %q: got %q, want a JSON object", request, answer)
		}
		if limit := 64<<10 + len(request); len(answer) > limit {
			t.Errorf("answer to %q: %d bytes, want at most %d", request, len(answer), limit)
		}
		if d := time.Since(start); d > 5*time.Second {
			t.Errorf("answer to %q took %v", request, d)
		}
	})
}
