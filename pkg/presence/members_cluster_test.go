package presence_test

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence"
	"example.com/presence/pkg/presence/backplane"
)

// A node without clients in a room lists its members on the other nodes: Members, and the pages of
// GET /presence.
func TestMembersOfAnotherNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := backplane.NewMemory(backplane.MemoryConfig{Shared: true})
		defer bus.Close()
		a, b := newBubble(t, presence.Config{Backplane: bus}), newBubble(t, presence.Config{Backplane: bus})
		defer b.Shutdown(t.Context())
		defer a.Shutdown(t.Context())
		time.Sleep(2 * time.Second) // the nodes know each other
		a.stream("/events", "", testUser("alice"))
		a.stream("/events", "", testUser("bob"))
		time.Sleep(time.Second)
		members, err := b.Members(t.Context(), "lobby")
		if err != nil || len(members) != 2 || members[0].ID != "alice" || members[1].ID != "bob" {
			t.Errorf("Members: got %+v, %v, want alice and bob", members, err)
		}
		if members, err = b.Members(t.Context(), "den"); err != nil || members == nil || len(members) > 0 {
			t.Errorf("Members of an absent room: got %+v, %v, want an empty list", members, err)
		}
		answer := b.ask("GET", "/presence?room=lobby&limit=1", "", testUser("carol"))
		for _, want := range []string{`"connections":2,"users":2`, `"id":"alice"`, `"next":"alice"`} {
			if !strings.Contains(answer.Body.String(), want) || answer.Code != http.StatusOK {
				t.Errorf("GET /presence: got %d %s, want %s", answer.Code, answer.Body, want)
			}
		}
	})
}
