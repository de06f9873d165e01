package stream

import (
	"slices"
	"time"
)

// Event is one event in the event-stream format (WHATWG HTML, section 9.2). On the wire it is
//
//	id: 5f1c0a9e4b-17
//	data: 3
//	event: user count
//
// followed by a blank line. ID, Name and Data must not contain a line break.
type Event struct {
	ID   string // if empty, there is no id line, and the client keeps its last id
	Name string
	Data []byte // must not be empty, because clients do not dispatch an event without data

	Since time.Time // when the cause of the event happened, for Config.Delivered; only for Latest; zero: not measured
}

// Kind determines how a backlog treats an event.
type Kind int

const (
	// Every means that the event is always delivered.
	Every Kind = iota
	// Latest means that the event is delivered, unless a newer event of this kind replaces it in
	// the backlog.
	Latest
	// Free means that the event is always delivered, and does not count toward Config.MaxUnsent.
	Free
	// Reserved means that the event is always delivered, and then releases the slot that
	// [Stream.Reserve] reserved for it.
	Reserved
)

// eventSize is the length of an event's text without the values of its fields, in bytes.
const eventSize = len("id: \ndata: \nevent: \n\n")

// size returns the length of the event's text, or a little more.
func (e Event) size() int { return eventSize + len(e.ID) + len(e.Data) + len(e.Name) }

// Append appends the text of the event to b. The fields are in the order of r3labs/sse.
func (e Event) Append(b []byte) []byte {
	b = slices.Grow(b, e.size()) // to the exact size, because the result is often kept
	if e.ID != "" {
		b = append(append(append(b, "id: "...), e.ID...), '\n')
	}
	b = append(append(append(b, "data: "...), e.Data...), '\n')
	return append(append(append(b, "event: "...), e.Name...), "\n\n"...)
}
