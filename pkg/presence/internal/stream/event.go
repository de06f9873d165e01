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
	Data []byte // not empty: an event without data is not dispatched
}

// Append appends the event as it goes on the wire, in the order of fields that
// r3labs/sse has too.
func (e Event) Append(b []byte) []byte {
	b = slices.Grow(b, len("id: \ndata: \nevent: \n\n")+len(e.ID)+len(e.Data)+len(e.Name)) // it is often kept
	if e.ID != "" {
		b = append(append(append(b, "id: "...), e.ID...), '\n')
	}
	b = append(append(append(b, "data: "...), e.Data...), '\n')
	return append(append(append(b, "event: "...), e.Name...), "\n\n"...)
}

// ping is what a connection gets every heartbeat: an event, as a browser shows
// no comment to a script.
var ping = func() *frame {
	f := new(frame)
	f.encoded(Event{Name: "ping", Data: []byte("{}")}.Append(nil))
	return f
}()

// Goodbye returns the event that tells a client why the server ends its
// connection.
func Goodbye(why End) Event {
	return Event{Name: "goodbye", Data: []byte(`{"reason":"` + string(why) + `"}`)}
}

// End says why a connection ended. It holds no character that JSON escapes.
type End string

// The ends that a connection finds by itself; the rest are the caller's.
const (
	Closed  End = "closed"  // the client went
	Timeout End = "timeout" // the client vanished without a word
	Slow    End = "slow"    // the client stopped reading
)
