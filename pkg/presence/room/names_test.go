package room_test

import (
	"errors"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
	"unsafe"

	"example.com/presence/pkg/presence/room"
)

func TestParseName(t *testing.T) {
	for s, ok := range map[string]bool{
		"lobby": true, "doc-1.A_z": true, ".": true, "..": true, strings.Repeat("a", 128): true,
		"": false, strings.Repeat("a", 129): false, "a b": false, "a/b": false, "é": false, "a\n": false, "*": false, "a\x00": false,
	} {
		name, err := room.ParseName(s)
		if ok && (err != nil || string(name) != s) || !ok && !errors.Is(err, room.ErrName) {
			t.Errorf("ParseName(%q) = %q, %v", s, name, err)
		}
	}
}

func TestParseEventName(t *testing.T) {
	for s, want := range map[string]error{
		"chat message": nil, "": nil, "message": nil, "Sync": nil, "é": nil, strings.Repeat("é", 64): nil, "a: b": nil,
		strings.Repeat("é", 65): room.ErrEventName, " a": room.ErrEventName, "a ": room.ErrEventName, " ": room.ErrEventName, "a\u00a0": room.ErrEventName,
		"a\nb": room.ErrEventName, "a\rb": room.ErrEventName, "a\x00": room.ErrEventName, "\x7f": room.ErrEventName, "a\u0085b": room.ErrEventName, "\xff": room.ErrEventName,
		"user count": room.ErrEventReserved, "sync": room.ErrEventReserved, "join": room.ErrEventReserved, "leave": room.ErrEventReserved,
		"update": room.ErrEventReserved, "reset": room.ErrEventReserved, "expiring": room.ErrEventReserved, "goodbye": room.ErrEventReserved,
		"ping": room.ErrEventReserved, "open": room.ErrEventReserved, "error": room.ErrEventReserved,
	} {
		name, err := room.ParseEventName(s)
		if !errors.Is(err, want) {
			t.Errorf("ParseEventName(%q) = %q, %v; want %v", s, name, err, want)
		}
		if s == "" && name != room.EventMessage {
			t.Errorf("empty event name: got %q, want message", name)
		}
	}
}

// No event name contains a format character: two names could look equal.
func TestEventNameWithFormatCharacters(t *testing.T) {
	for r := range rune(unicode.MaxRune + 1) {
		for _, s := range []string{string(r) + "a", "a" + string(r) + "b", "a" + string(r), "❤" + string(r) + "❤", "user count" + string(r)} {
			if _, err := room.ParseEventName(s); unicode.Is(unicode.Cf, r) && !errors.Is(err, room.ErrEventName) {
				t.Errorf("ParseEventName(%q): got %v, want %v", s, err, room.ErrEventName)
			}
		}
	}
	for _, s := range []string{"❤\ufe0f", "1\ufe0f\u20e3", "👍🏽", "می", "a\u00a0b", "user  count", "user", "usercount", "\u2800a"} {
		if name, err := room.ParseEventName(s); err != nil || string(name) != s {
			t.Errorf("ParseEventName(%q) = %q, %v; want it unchanged", s, name, err)
		}
	}
}

// An event name that is displayed like a reserved one is reserved too.
func TestEventNameLikeAReservedOne(t *testing.T) {
	for _, r := range []rune{0xa0, 0x1680, 0x2000, 0x2028, 0x202f, 0x205f, 0x2800, 0x3000} {
		if _, err := room.ParseEventName("user" + string(r) + "count"); !errors.Is(err, room.ErrEventReserved) {
			t.Errorf("%U in user count: got %v, want %v", r, err, room.ErrEventReserved)
		}
	}
	for r := range rune(unicode.MaxRune + 1) {
		if !unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector) {
			continue
		}
		for _, s := range []string{string(r) + "join", "jo" + string(r) + "in", "join" + string(r), "user" + string(r) + " count", "join " + string(r), "open" + string(r)} {
			if _, err := room.ParseEventName(s); !errors.Is(err, room.ErrEventReserved) {
				t.Errorf("ParseEventName(%q): got %v, want %v", s, err, room.ErrEventReserved)
			}
		}
	}
}

func FuzzNames(f *testing.F) {
	for _, s := range []string{"lobby", "user count", "a\nb", "\xff", "-", " a", "user\u00a0count", "join\ufe0f", "a\u200bb"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if _, err := room.ParseName(s); err == nil && (s == "" || len(s) > 128 || strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") != "") {
			t.Errorf("ParseName accepted %q", s)
		}
		if name, err := room.ParseEventName(s); err == nil {
			// A name must not be able to inject a field into the event stream.
			if strings.ContainsAny(string(name), "\r\n\x00") || strings.ContainsFunc(s, func(r rune) bool { return unicode.In(r, unicode.Cc, unicode.Cf) }) || !utf8.ValidString(s) || utf8.RuneCountInString(s) > 64 {
				t.Errorf("ParseEventName accepted %q", s)
			}
		}
	})
}

// ParseName copies the name. A room keeps its name, and must not keep the whole request in memory.
func TestNameIsCopied(t *testing.T) {
	request := strings.Repeat("x", 100_000) + "lobby"
	piece := request[100_000:]
	name, err := room.ParseName(piece)
	if err != nil || name != "lobby" || unsafe.StringData(string(name)) == unsafe.StringData(piece) {
		t.Errorf("got %q, %v, memory shared with the request: %v; want lobby, no error, false", name, err, unsafe.StringData(string(name)) == unsafe.StringData(piece))
	}
}
