package client

// The habits of r3labs/sse v2.10 that one must know here, each with the test
// that shows it:
//
//   - Its Subscribe returns for good when a stream ends cleanly, as every
//     server's does that restarts (TestR3labsSubscribeIsOverAfterACleanEnd).
//   - Unless told otherwise it breaks on an event of 64 KiB, and then asks for
//     the same event for ever (TestR3labsSubscribeBreaksOnALargeEvent).
//   - Its event reader hands out what was left unfinished when the stream
//     broke off as if it were an event (TestR3labsReaderHandsOutTheRest).
//   - It tells blank lines apart by the pairs of line ends it knows, of which
//     LF CR is none, and cuts off the pair (TestDecode, "line ends").
//
// So the loop around it is our own, and of the library's client half it is the
// event reader alone that is used: it finds the blocks between blank lines.

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"iter"
	"strconv"
	"time"

	"github.com/r3labs/sse/v2"
)

// maxEvent bounds an event, in bytes. The largest message is 1 MiB, of which
// JSON may make six; the largest sync depends on --member-limit, 500 members
// being less than 1 MiB. The reader starts with 4 KiB and grows as it must.
const maxEvent = 16 << 20

// decoder reads the event-stream format (WHATWG HTML, section 9.2.6). What it
// has learned outlives the stream.
type decoder struct {
	lastID string        // of the last event
	retry  time.Duration // as the stream asked last

	// The event being read, empty between two events; id alone stays.
	id, name string
	data     []byte
}

// decode reads events until r ends, which is io.EOF, or breaks, or tell returns
// an error, and returns that. An event that r does not finish is not told.
func (d *decoder) decode(r io.Reader, tell func(Event) error) error {
	// The standard starts each stream without an id; browsers start with the
	// one they hold, and an event that carries none must not lose it.
	d.id, d.name, d.data = d.lastID, "", nil
	stream := &ending{r: r}
	blocks := sse.NewEventStreamReader(stream, maxEvent)
	for first := true; ; first = false {
		block, err := blocks.ReadEvent()
		switch {
		case errors.Is(err, bufio.ErrTooLong):
			return ErrTooLarge
		case err != nil:
			return err
		case first:
			block = bytes.TrimPrefix(block, []byte("\xef\xbb\xbf"))
		}
		for line := range lines(block, stream.err == nil) {
			if e, ok := d.line(line); ok {
				if err := tell(e); err != nil {
					return err
				}
			}
		}
	}
}

// ending remembers how the stream ended, and says so in a read of its own.
//
// A scanner looks at what it holds before it reads on, so a block that it hands
// out after this read has no blank line behind it: it is the unfinished rest.
type ending struct {
	r   io.Reader
	err error
}

func (e *ending) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	if n > 0 {
		return n, nil // r says its error again, or there is more
	}
	e.err = err
	return 0, err
}

// lines splits a block at CR LF, LF and CR. A whole block has lost its last
// line end and the blank line behind it, and gets both back; of the rest of a
// broken stream the last line does not count.
func lines(block []byte, whole bool) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for {
			i := bytes.IndexAny(block, "\r\n")
			if i < 0 {
				break
			}
			if !yield(block[:i]) {
				return
			}
			if block[i] == '\r' && bytes.HasPrefix(block[i+1:], []byte("\n")) {
				i++
			}
			block = block[i+1:]
		}
		if whole && yield(block) {
			yield(nil)
		}
	}
}

// line takes in one line; ok says that it ended the event e.
func (d *decoder) line(line []byte) (e Event, ok bool) {
	if len(line) == 0 {
		return d.dispatch()
	}
	field, value, _ := bytes.Cut(line, []byte(":")) // a comment is a field without a name
	value = bytes.TrimPrefix(value, []byte(" "))
	switch string(field) {
	case "data":
		d.data = append(append(d.data, value...), '\n')
	case "event":
		d.name = string(value)
	case "id":
		if bytes.IndexByte(value, 0) < 0 {
			d.id = string(value)
		}
	case "retry":
		// 32 bits of milliseconds are 49 days; ParseUint takes digits alone.
		if ms, err := strconv.ParseUint(string(value), 10, 32); err == nil {
			d.retry = time.Duration(ms) * time.Millisecond
		}
	}
	return Event{}, false
}

// dispatch ends the event being read: without data it is none, but its id
// holds.
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
