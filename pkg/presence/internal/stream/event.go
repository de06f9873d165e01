package stream

import "slices"

// Event is one event of the event-stream format (WHATWG HTML, section 9.2).
// On the wire it is
//
//	id: 5f1c0a9e4b-17
//	data: 3
//	event: user count
//
// and a blank line. ID, Name and Data must hold no line break.
type Event struct {
	ID   string // empty: no id line, and the client keeps the id it has
	Name string
	Data []byte // not empty: a client does not dispatch an event without data
}

// Kind decides how an event is treated in a backlog.
type Kind int

const (
	// Every event of this kind is delivered.
	Every Kind = iota
	// Latest is delivered unless a later event of this kind is in the backlog.
	Latest
	// Free is delivered, and not counted in Config.MaxUnsent.
	Free
	// Reserved is delivered, and returns a slot that [Stream.Reserve] took.
	Reserved
)

// eventSize is the number of bytes that the text of an event adds to its fields.
const eventSize = len("id: \ndata: \nevent: \n\n")

// size returns the length of the event's text, or a little more.
func (e Event) size() int { return eventSize + len(e.ID) + len(e.Data) + len(e.Name) }

// Append appends the text of the event to b, in the order of fields of r3labs/sse.
func (e Event) Append(b []byte) []byte {
	b = slices.Grow(b, e.size()) // exactly, as the result is often kept
	if e.ID != "" {
		b = append(append(append(b, "id: "...), e.ID...), '\n')
	}
	b = append(append(append(b, "data: "...), e.Data...), '\n')
	return append(append(append(b, "event: "...), e.Name...), "\n\n"...)
}
