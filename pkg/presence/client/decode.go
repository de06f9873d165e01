package client

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"slices"
	"strconv"
	"time"
)

// maxEvent is the maximum size of an event in bytes. The largest message is 1 MiB; JSON may make 6
// MiB of it. The largest sync depends on --member-limit: 500 members are less than 1 MiB.
const maxEvent = 16 << 20

// decoder reads the event-stream format (WHATWG HTML, section 9.2.6). Its last id and its retry
// outlive a stream. The server uses r3labs/sse; r3labs_test.go lists why this package does not.
type decoder struct {
	lastID string        // of the last event
	retry  time.Duration // latest retry field of the stream

	// The event being read. All fields except id are empty between two events.
	id, name string
	data     []byte // each line ends with LF
}

// decode reads events until r ends (io.EOF), r fails, or emit returns an error. It returns that
// error. It emits an event before it reads beyond the event's last byte. It drops an event that r
// does not finish. An event of more than maxEvent bytes returns ErrTooLarge.
func (d *decoder) decode(r io.Reader, emit func(Event) error) error {
	// The standard starts each stream with an empty id. Here an event without an id has the id of
	// the previous stream: otherwise the client would lose the position from which it resumes.
	d.id, d.name, d.data = d.lastID, "", nil
	lines := lineReader{r: bufio.NewReader(r)}
	for first := true; ; first = false {
		line, err := lines.next(maxEvent - len(d.id) - len(d.name) - len(d.data))
		if err != nil {
			return err
		}
		if first { // "UTF-8 decode" (WHATWG Encoding, section 6) removes one byte order mark
			line = bytes.TrimPrefix(line, []byte("\xef\xbb\xbf"))
		}
		if len(line) > 0 {
			d.field(line)
		} else if e, ok := d.dispatch(); ok {
			if err := emit(e); err != nil {
				return err
			}
		}
	}
}

// field processes a line that is not empty. It decodes the UTF-8 of each value alone. The result is
// that of decoding the whole stream: line ends, colons and blanks are ASCII, and ASCII is never
// part of an invalid sequence.
func (d *decoder) field(line []byte) {
	name, value, _ := bytes.Cut(line, []byte(":")) // a comment is a field without a name
	value = bytes.TrimPrefix(value, []byte(" "))
	switch string(name) {
	case "data":
		d.data = appendUTF8(slices.Grow(d.data, len(value)+1), value)
		d.data = append(d.data, '\n')
	case "event":
		d.name = string(appendUTF8(nil, value))
	case "id":
		if bytes.IndexByte(value, 0) < 0 {
			d.id = string(appendUTF8(nil, value))
		}
	case "retry":
		// ParseUint accepts only digits. A number above 32 bits becomes the 32-bit maximum: 49 days
		// in milliseconds.
		ms, err := strconv.ParseUint(string(value), 10, 32)
		if err == nil || errors.Is(err, strconv.ErrRange) {
			d.retry = time.Duration(ms) * time.Millisecond
		}
	}
}

// dispatch ends the event being read. Without data there is no event, but its id counts.
func (d *decoder) dispatch() (e Event, ok bool) {
	d.lastID = d.id
	if len(d.data) > 0 {
		e = Event{ID: d.id, Name: d.name, Data: bytes.TrimSuffix(d.data, []byte("\n"))}
		if e.Name == "" {
			e.Name = "message"
		}
		ok = true
	}
	d.name, d.data = "", nil
	return e, ok
}
