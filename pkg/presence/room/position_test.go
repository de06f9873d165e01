package room_test

import (
	"testing"

	"example.com/presence/pkg/presence/room"
)

func TestParsePosition(t *testing.T) {
	for id, want := range map[string]bool{
		"c0f36dcac9-0": true, "e-18446744073709551615": true,
		"": false, "-": false, "e-": false, "-1": false, "e": false, "e--1": false, "e-+1": false, "e-01": false, "e-1-2": false,
		"e-18446744073709551616": false, "e-1 ": false, "e-é": false,
	} {
		if p, ok := room.ParsePosition(id); ok != want || ok && p.String() != id {
			t.Errorf("ParsePosition(%q) = %v, %v", id, p, ok)
		}
	}
}
