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

// maxEvent is the maximum size of an event in bytes. The largest message is 1 MiB, which JSON
// escapes may expand to 6 MiB. The largest sync event depends on --member-limit: 500 members take
// less than 1 MiB.
const maxEvent = 16 << 20

// decoder parses the event-stream format (WHATWG HTML, section 9.2.6). It keeps the last id and the
// retry time from one stream to the next. The server uses r3labs/sse, but this package does not;
// r3labs_test.go lists the reasons.
type decoder struct {
	lastID string        // id of the last event
	retry  time.Duration // value of the latest retry field

	// The event that is being parsed. All fields except id are empty between two events.
	id, name string
	data     []byte // each line ends with LF
}

// decode parses events until r ends (io.EOF), r fails, or emit returns an error, and returns that
// error. It emits each event before it reads beyond the last byte of the event. It drops an
// unfinished event at the end of r. If an event is larger than maxEvent bytes, decode returns
// ErrTooLarge.
func (d *decoder) decode(r io.Reader, emit func(Event) error) error {
	// In the standard, each stream starts with an empty id. Here, an event without an id has the id
	// of the previous stream, because the client would otherwise lose the position from which it
	// resumes.
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

// field processes a line that is not empty. It decodes the UTF-8 of each value separately. The
// result is the same as for decoding the whole stream first, because line ends, colons and blanks
// are ASCII, and no invalid sequence contains ASCII.
func (d *decoder) field(line []byte) {
	name, value, _ := bytes.Cut(line, []byte(":")) // a comment has an empty name
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
		// ParseUint accepts only digits. A number that exceeds 32 bits becomes the 32-bit maximum,
		// which is 49 days in milliseconds.
		ms, err := strconv.ParseUint(string(value), 10, 32)
		if err == nil || errors.Is(err, strconv.ErrRange) {
			d.retry = time.Duration(ms) * time.Millisecond
		}
	}
}

// dispatch ends the current event. An event without data is dropped, but its id still counts.
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
