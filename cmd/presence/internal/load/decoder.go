package load

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/textproto"
	"strconv"
	"strings"
)

// decoder parses an HTTP/1.1 response with an event stream (WHATWG HTML, section 9.2.6) from the
// bytes of a socket as they arrive. It keeps only incomplete lines, up to a limit. It ends a line
// at LF, and ignores a CR before it.
type decoder struct {
	sink    sink
	part    part
	status  int
	chunked bool
	left    int64 // unread bytes of the chunk

	header []byte // incomplete line of the header or of a chunk's size
	size   int    // bytes of the header so far
	line   []byte // incomplete line of the stream, its first maxLine bytes
	fields fields
}

// sink receives the results of a decoder. The slices are valid only during the call.
type sink interface {
	// head is called at the end of a response header with status 200 and an event stream.
	head()
	// field is called for each line of the stream with a field, with the first maxLine bytes.
	field(name, value []byte)
	// dispatch is called for each blank line, which ends an event.
	dispatch()
}

// fields are the response header fields that matter.
type fields struct {
	contentType, encoding, retryAfter string
}

// part is the part of the response that the next byte belongs to.
type part int8

const (
	inHead     part = iota
	inSize          // size of a chunk
	inChunk         // data of a chunk
	inChunkEnd      // line break after a chunk
	inBody          // body without chunks
	inTrailer       // after the last chunk
	inError         // body of a response with another status
)

const (
	maxHeader = 64 << 10 // bytes of a response header
	maxLine   = 4 << 10  // bytes of a line of the stream that are kept
	maxDetail = 200      // bytes of the detail of a problem that are kept
)

// errEnd is the end of a chunked response.
var errEnd = errors.New("closed by the server")

// statusError is a response that is no event stream.
type statusError struct {
	status int    // 0: the status is 200, but the response is no event stream
	text   string // such as "status 401", without parts that differ between clients
	detail string // of the problem document (RFC 9457), if it came with the header
	retry  string // Retry-After
}

func (e *statusError) Error() string { return e.text }

// reset prepares the decoder for a new response.
func (d *decoder) reset() {
	*d = decoder{sink: d.sink, header: d.header[:0], line: d.line[:0]}
}

// feed parses bytes. After an error, the connection must be closed.
func (d *decoder) feed(b []byte) error {
	for len(b) > 0 {
		switch d.part {
		case inBody:
			d.lines(b)
			return nil
		case inChunk:
			n := min(int64(len(b)), d.left)
			d.lines(b[:n])
			b, d.left = b[n:], d.left-n
			if d.left == 0 {
				d.part = inChunkEnd
			}
		case inError:
			return d.refused(b)
		default:
			line, rest, ok := cutLine(&d.header, b, maxHeader)
			if !ok {
				if len(d.header) >= maxHeader {
					return errors.New("response header too long")
				}
				return nil
			}
			b = rest
			if err := d.headerLine(line); err != nil {
				return err
			}
			d.header = d.header[:0]
		}
	}
	if d.part == inError {
		return d.refused(nil)
	}
	return nil
}

// cutLine returns the first line of kept and b, without its end, and the bytes after it. If the
// line is incomplete, it appends b to kept, up to a limit, and ok is false. The caller must empty
// kept after each complete line.
func cutLine(kept *[]byte, b []byte, limit int) (line, rest []byte, ok bool) {
	i := bytes.IndexByte(b, '\n')
	if i < 0 {
		*kept = appendUpTo(*kept, b, limit)
		return nil, nil, false
	}
	line, rest = b[:i], b[i+1:]
	if len(*kept) > 0 {
		*kept = appendUpTo(*kept, line, limit)
		line = *kept
	}
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	return line, rest, true
}

func appendUpTo(to, b []byte, limit int) []byte {
	return append(to, b[:max(0, min(len(b), limit-len(to)))]...)
}

// headerLine parses a line of the response header, or of the chunked encoding (RFC 9112, section
// 7.1).
func (d *decoder) headerLine(line []byte) error {
	switch d.part {
	case inHead:
		if d.size += len(line); d.size > maxHeader {
			return errors.New("response header too long")
		}
		return d.headLine(line)
	case inSize:
		digits, _, _ := bytes.Cut(line, []byte(";"))
		n, err := strconv.ParseInt(string(bytes.TrimSpace(digits)), 16, 64)
		switch {
		case err != nil || n < 0:
			return errors.New("malformed chunk")
		case n == 0:
			d.part = inTrailer
			return nil
		}
		d.part, d.left = inChunk, n
	case inChunkEnd:
		if len(line) > 0 {
			return errors.New("malformed chunk")
		}
		d.part = inSize
	case inTrailer:
		if len(line) == 0 {
			return errEnd
		}
	}
	return nil
}

func (d *decoder) headLine(line []byte) error {
	if d.status == 0 {
		version, rest, _ := strings.Cut(string(line), " ")
		code, _, _ := strings.Cut(rest, " ")
		status, err := strconv.Atoi(code)
		if err != nil || !strings.HasPrefix(version, "HTTP/1.") || status < 100 {
			return errors.New("no HTTP/1.1 response")
		}
		d.status = status
		return nil
	}
	if len(line) == 0 {
		return d.headEnd()
	}
	name, value, _ := strings.Cut(string(line), ":")
	value = strings.TrimSpace(value)
	switch textproto.CanonicalMIMEHeaderKey(name) {
	case "Transfer-Encoding":
		d.chunked = strings.EqualFold(value, "chunked")
	case "Content-Type":
		media, _, _ := strings.Cut(value, ";")
		d.fields.contentType = strings.ToLower(strings.TrimSpace(media))
	case "Content-Encoding":
		d.fields.encoding = strings.ToLower(value)
	case "Retry-After":
		d.fields.retryAfter = value
	}
	return nil
}

func (d *decoder) headEnd() error {
	if d.status < 200 { // an interim response (RFC 9110, section 15.2)
		d.status, d.fields = 0, fields{}
		return nil
	}
	switch f := d.fields; {
	case d.status != 200:
		d.part = inError
		return nil
	case f.contentType != "text/event-stream":
		return &statusError{text: fmt.Sprintf("content type %.40q", f.contentType)}
	case f.encoding != "" && f.encoding != "identity":
		return &statusError{text: fmt.Sprintf("content encoding %.40q", f.encoding)}
	}
	d.part = inBody
	if d.chunked {
		d.part = inSize
	}
	d.sink.head()
	return nil
}

// refused returns the error of a response with another status. body is the beginning of its body.
func (d *decoder) refused(body []byte) error {
	var problem struct{ Detail string }
	if i := bytes.IndexByte(body, '{'); i >= 0 { // after the size of the chunk, if any
		_ = json.NewDecoder(bytes.NewReader(body[i:])).Decode(&problem) // the status suffices
	}
	return &statusError{
		status: d.status, text: fmt.Sprintf("status %d", d.status), retry: d.fields.retryAfter,
		detail: string(appendUpTo(nil, []byte(problem.Detail), maxDetail)),
	}
}

// lines parses bytes of the stream.
func (d *decoder) lines(b []byte) {
	for len(b) > 0 {
		line, rest, ok := cutLine(&d.line, b, maxLine)
		if !ok {
			return
		}
		b = rest
		if len(line) == 0 {
			d.sink.dispatch()
		} else if name, value, _ := bytes.Cut(line, []byte(":")); len(name) > 0 { // else a comment
			d.sink.field(name, bytes.TrimPrefix(value, []byte(" ")))
		}
		if cap(d.line) > maxLine/4 && len(d.line) > 0 { // most lines are short
			d.line = nil
		}
		d.line = d.line[:0]
	}
}
