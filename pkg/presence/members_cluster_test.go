package presence_test

import (
	"errors"
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

// A node that is cut off lists the members and rooms that it knows, and reports that others may be
// missing.
func TestListsOfNodeThatIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := newStatusBus()
		defer bus.Bus.Close()
		bus.connect(true)
		b := newBubble(t, presence.Config{Backplane: bus})
		defer b.Shutdown(t.Context())
		b.stream("/events", "", testUser("alice"))
		b.stream("/events", "", testUser("bob"))
		time.Sleep(2 * time.Second)
		admin := testUser("admin")
		admin.Admin = true
		for _, connected := range []bool{true, false} {
			bus.connect(connected)
			members, err := b.Members(t.Context(), "lobby")
			if len(members) != 2 || errors.Is(err, presence.ErrIncomplete) == connected {
				t.Errorf("connected %v: Members returned %v, %v", connected, members, err)
			}
			rooms, err := b.Rooms(t.Context())
			if len(rooms) != 1 || errors.Is(err, presence.ErrIncomplete) == connected {
				t.Errorf("connected %v: Rooms returned %v, %v", connected, rooms, err)
			}
			for path, want := range map[string]string{
				"/presence?limit=1": `,"next":"alice"`,
				"/presence?room=no": `"members":[]`,
				"/rooms":            `{"rooms":[{"room":"lobby","connections":2,"users":2}]`,
			} {
				if want += `,"complete":false}`; connected {
					want = strings.Replace(want, `,"complete":false`, "", 1)
				}
				answer := b.ask("GET", path, "", admin)
				if got := strings.TrimSpace(answer.Body.String()); answer.Code != http.StatusOK || !strings.HasSuffix(got, want) {
					t.Errorf("connected %v: %s: got %d %s, want %s at the end", connected, path, answer.Code, got, want)
				}
			}
		}
		bus.connect(true)
	})
}
