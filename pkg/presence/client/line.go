package client

import (
	"bufio"
	"bytes"
)

// keepLine is the largest line buffer, in bytes, that a lineReader keeps for its next line.
const keepLine = 64 << 10

// lineReader splits a stream at CR LF, LF and CR. It scans each byte once, even if a line needs
// many reads.
type lineReader struct {
	r       *bufio.Reader
	long    []byte // the start of a line that needs more than one read
	afterCR bool   // the previous line ended with CR: an LF that follows belongs to that end
}

// next returns the next line without its end. The slice is valid until the next call. A line of
// more than limit bytes returns ErrTooLarge. If the stream ends or fails within a line, next drops
// the line and returns the stream's error.
//
// A CR ends its line at once. Waiting for the following byte would delay an event until the next
// one arrives.
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
		l.r.Discard(end + 1) // chunk, and so line, stays valid until the next Peek
		return line, nil
	}
}
