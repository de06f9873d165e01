package load

import (
	"bytes"
	"strconv"
	"time"
)

// message is a numbered message of a room. Its text has only characters that need no escape in
// JSON, in a URL and in HTML:
//
//	load.RUN.ROOM.NUMBER.SENT.xxxxx
//
// RUN distinguishes this run from others. ROOM is the index of the room, and SENT the time of the
// request in nanoseconds since the start of the run. The rest fills the text up to its size.
type message struct {
	room   int
	number int64
	sent   time.Duration
}

// prefixOf returns the beginning of all texts of a run.
func prefixOf(run string) []byte { return []byte("load." + run + ".") }

// text returns the text of the message, of this size in bytes.
func (m message) text(prefix []byte, size int) string {
	b := make([]byte, 0, max(size, MinSize))
	b = append(b, prefix...)
	for _, n := range []int64{int64(m.room), m.number, int64(m.sent)} {
		b = append(strconv.AppendInt(b, n, 10), '.')
	}
	if fill := size - len(b); fill > 0 {
		b = append(b, bytes.Repeat([]byte("x"), fill)...)
	}
	return string(b)
}

// findMessage returns the first message in b, and the bytes after its numbers. ok is false if there
// is none.
func findMessage(b, prefix []byte) (m message, rest []byte, ok bool) {
	i := bytes.Index(b, prefix)
	if i < 0 {
		return m, nil, false
	}
	rest = b[i+len(prefix):]
	var fields [3]int64
	for f := range fields {
		n, digits := int64(0), 0
		for digits < len(rest) && rest[digits]-'0' <= 9 && digits < 18 {
			n = 10*n + int64(rest[digits]-'0')
			digits++
		}
		if digits == 0 || digits == len(rest) || rest[digits] != '.' {
			return m, nil, false
		}
		fields[f], rest = n, rest[digits+1:]
	}
	return message{int(fields[0]), fields[1], time.Duration(fields[2])}, rest, true
}
