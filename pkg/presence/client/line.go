package client

import (
	"bufio"
	"bytes"
)

// keepLine is the maximum size in bytes of a line buffer that a lineReader reuses for its next
// line.
const keepLine = 64 << 10

// lineReader splits a stream into lines, which end with CR LF, LF or CR. It scans each byte only
// once, even if a line needs many reads.
type lineReader struct {
	r       *bufio.Reader
	long    []byte // the start of a line that needs more than one read
	afterCR bool   // the previous line ended with CR, so an LF that follows is part of the same line end
}

// next returns the next line without its line end. The slice is valid until the next call. If a
// line has more than limit bytes, next returns ErrTooLarge. If the stream ends or fails within a
// line, next drops the line and returns the error of the stream.
//
// A CR ends its line immediately, because waiting for the following byte would delay an event until
// the next one arrives.
func (l *lineReader) next(limit int) ([]byte, error) {
	if cap(l.long) > keepLine {
		l.long = nil
	}
	l.long = l.long[:0]
	for {
		if _, err := l.r.Peek(1); err != nil {
			return nil, err
		}
		chunk, _ := l.r.Peek(l.r.Buffered())
		if l.afterCR {
			l.afterCR = false
			if chunk[0] == '\n' {
				l.r.Discard(1)
				continue
			}
		}
		end := bytes.IndexAny(chunk, "\r\n")
		line := chunk
		if end >= 0 {
			line = chunk[:end]
		}
		if len(l.long)+len(line) > limit {
			return nil, ErrTooLarge
		}
		if end < 0 || len(l.long) > 0 {
			l.long = append(l.long, line...)
			line = l.long
		}
		if end < 0 {
			l.r.Discard(len(chunk))
			continue
		}
		l.afterCR = chunk[end] == '\r'
		l.r.Discard(end + 1) // chunk and line stay valid until the next Peek
		return line, nil
	}
}
