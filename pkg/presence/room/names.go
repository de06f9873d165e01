package room

import (
	"errors"
	"fmt"
	"strings"

	"example.com/presence/pkg/presence/internal/input"
)

// ErrName means that a string is not a valid room name.
var ErrName = fmt.Errorf("room name must be 1 to %d characters of A-Z a-z 0-9 . _ -", input.MaxRoomName)

// Name is the name of a room: 1 to 128 of A-Z a-z 0-9 . _ -
type Name string

// Lobby is the room of a request that names none.
const Lobby Name = "lobby"

// ParseName checks a room name. The error is [ErrName]. The result shares no memory with s, which
// may be a part of a long request.
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

// ErrEventName means that a string is not a valid event name of a message.
var ErrEventName = fmt.Errorf("event name must be 1 to %d characters of UTF-8, without control characters and without blanks at its ends",
	input.MaxEventName)

// ErrEventReserved means that the server or the browser uses the event name itself.
var ErrEventReserved = errors.New("event name is reserved for the server and the browser")

// EventName is the name of an event on the stream. It has no line break, so it cannot forge a field
// of the event-stream format (WHATWG HTML, section 9.2.6).
type EventName string

// The events that the server itself sends, and EventMessage, the default event name of a message.
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

// reserved lists the names that a message must not have: the server's own events, and the two that
// EventSource itself dispatches.
var reserved = map[EventName]bool{
	EventCount: true, EventSync: true, EventJoin: true, EventLeave: true, EventUpdate: true,
	EventReset: true, EventExpiring: true, EventGoodbye: true, EventPing: true,
	"open": true, "error": true,
}

// ParseEventName checks the event name of a message. An empty name means [EventMessage]. The error
// is [ErrEventName] or [ErrEventReserved].
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
