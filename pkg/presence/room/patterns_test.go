package room_test

import (
	"strings"
	"testing"

	"example.com/presence/pkg/presence/room"
)

func TestMatch(t *testing.T) {
	for _, tt := range []struct {
		pattern string
		name    room.Name
		want    bool
	}{
		{"lobby", "lobby", true}, {"lobby", "lobby2", false}, {"lobby", "Lobby", false}, {"", "", true}, {"", "a", false},
		{"*", "", true}, {"*", "a", true}, {"**", "a", true},
		{"doc-*", "doc-", true}, {"doc-*", "doc-1", true}, {"doc-*", "doc", false}, {"doc-*", "my-doc-1", false},
		{"*-doc", "a-doc", true}, {"*-doc", "a-doc-doc", true}, {"*-doc", "a-doc-", false},
		{"a*b*c", "abc", true}, {"a*b*c", "a-b-b-c-c", true}, {"a*b*c", "acb", false}, {"a*a", "a", false},
		{"*ab*ab*", "abab", true}, {"*ab*ab*", "aba", false}, {"a?c", "abc", false}, {"[a]", "a", false},
	} {
		if got := (room.Patterns{tt.pattern}).Match(tt.name); got != tt.want {
			t.Errorf("pattern %q, name %q: got %v, want %v", tt.pattern, tt.name, got, tt.want)
		}
	}
	if (room.Patterns)(nil).Match("") || !(room.Patterns{"a", "b*"}).Match("bc") {
		t.Error("nil patterns matched, or the second of two patterns did not match")
	}
}

// Match does not backtrack after a mismatch. Otherwise this test would not finish.
func TestMatchOfManyStars(t *testing.T) {
	if (room.Patterns{strings.Repeat("a*", 4000) + "b"}).Match(room.Name(strings.Repeat("a", 100_000))) {
		t.Error("pattern that ends with b matched a name without b")
	}
}
