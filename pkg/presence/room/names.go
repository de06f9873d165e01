package room

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"example.com/presence/pkg/presence/internal/input"
)

// ErrName means that a string is not a valid room name.
var ErrName = fmt.Errorf("room name must be 1 to %d characters of A-Z a-z 0-9 . _ -", input.MaxRoomName)

// Name is the name of a room: 1 to 128 characters of A-Z a-z 0-9 . _ -
type Name string

// Lobby is the default room, used if a request does not name a room.
const Lobby Name = "lobby"

// ParseName validates a room name. The error is [ErrName]. The result does not share memory with s,
// which may be a part of a long request.
func ParseName(s string) (Name, error) {
	if len(s) < 1 || len(s) > input.MaxRoomName {
		return "", ErrName
	}
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			return "", ErrName
		}
	}
	return Name(strings.Clone(s)), nil
}

// ErrEventName means that a string is not a valid event name for a message. Format characters
// (category Cf) are rejected because most of them are invisible: two names could look equal.
var ErrEventName = fmt.Errorf("event name must be 1 to %d UTF-8 characters, without control or format characters or leading or trailing white space",
	input.MaxEventName)

// ErrEventReserved means that the event name is reserved for the server or the browser, or differs
// from such a name only in invisible characters or in the kind of a blank.
var ErrEventReserved = errors.New("event name reserved for the server or the browser")

// EventName is the name of an event on the stream. It contains no line break, so it cannot inject a
// field into the event stream (WHATWG HTML, section 9.2.6).
type EventName string

// The events that the server sends. EventMessage is the default event name of a message.
const (
	EventCount    EventName = "user count"
	EventSync     EventName = "sync"
	EventJoin     EventName = "join"
	EventLeave    EventName = "leave"
	EventUpdate   EventName = "update"
	EventReset    EventName = "reset"
	EventExpiring EventName = "expiring"
	EventGoodbye  EventName = "goodbye"
	EventPing     EventName = "ping"
	EventMessage  EventName = "message"
)

// reserved contains the event names that a message cannot use: the server's own events, and the two
// events that EventSource itself dispatches.
var reserved = map[EventName]bool{
	EventCount: true, EventSync: true, EventJoin: true, EventLeave: true, EventUpdate: true,
	EventReset: true, EventExpiring: true, EventGoodbye: true, EventPing: true,
	"open": true, "error": true,
}

// ParseEventName validates the event name of a message. An empty name means [EventMessage]. The
// error is [ErrEventName] or [ErrEventReserved].
func ParseEventName(s string) (EventName, error) {
	switch {
	case s == "":
		return EventMessage, nil
	case !input.PlainChars(s, input.MaxEventName), strings.ContainsFunc(s, isFormat), strings.TrimSpace(s) != s:
		return "", ErrEventName
	case reserved[EventName(displayed(s))]:
		return "", ErrEventReserved
	}
	return EventName(s), nil
}

func isFormat(r rune) bool { return unicode.Is(unicode.Cf, r) }

// displayed returns an event name as it is displayed: with plain blanks, none of them at its ends,
// and without the code points that have no glyph (Unicode Standard section 5.21). The blank of
// Braille, U+2800, has none either.
func displayed(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r), r == '\u2800':
			return ' '
		case unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector):
			return -1
		}
		return r
	}, s))
}
