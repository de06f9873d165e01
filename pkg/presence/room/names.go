package room

import (
	"errors"
	"fmt"
	"strings"

	"example.com/presence/pkg/presence/internal/input"
)

// ErrName says that a string is no room's name.
var ErrName = fmt.Errorf("a room's name is 1 to %d of A-Z a-z 0-9 . _ -", input.MaxRoomName)

// Name is a room's name: 1 to 128 of A-Z a-z 0-9 . _ -
type Name string

// Lobby is the room of a request that names none.
const Lobby Name = "lobby"

// ParseName checks a room's name; the error is [ErrName]. The name shares no
// memory with s, which may be a piece of a long request.
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

// ErrEventName says that a string cannot name a message.
var ErrEventName = fmt.Errorf("an event's name is 1 to %d characters of UTF-8, none of them a control character, with no blank at its ends",
	input.MaxEventName)

// ErrEventReserved says that a name is one of the server's own or the browser's.
var ErrEventReserved = errors.New("that event's name is kept for the server's own events")

// EventName is the name of an event on the stream. It cannot hold a line
// break, so that it cannot forge a field of the event-stream format (WHATWG
// HTML, section 9.2.6).
type EventName string

// The events that the server tells of its own accord, and the default name of
// a message.
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

// reserved are the names that no message may bear: the server's own events and
// the two which EventSource dispatches itself.
var reserved = map[EventName]bool{
	EventCount: true, EventSync: true, EventJoin: true, EventLeave: true, EventUpdate: true,
	EventReset: true, EventExpiring: true, EventGoodbye: true, EventPing: true,
	"open": true, "error": true,
}

// ParseEventName checks the name of a message's event; empty means
// [EventMessage]. The error is [ErrEventName] or [ErrEventReserved].
func ParseEventName(s string) (EventName, error) {
	switch {
	case s == "":
		return EventMessage, nil
	case !input.PlainChars(s, input.MaxEventName), strings.TrimSpace(s) != s:
		return "", ErrEventName
	case reserved[EventName(s)]:
		return "", ErrEventReserved
	}
	return EventName(s), nil
}
