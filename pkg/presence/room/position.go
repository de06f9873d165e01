package room

import (
	"strconv"
	"strings"
)

// Position is a position in the messages of a room: a client at a position has every message up to
// Seq. On the wire it is the id of an event, EPOCH-SEQ. Seq grows with each message and may have
// gaps.
type Position struct {
	Epoch string // of the message log; not empty, without - and line breaks
	Seq   uint64
}

// String returns the position as the id of an event.
func (p Position) String() string { return p.Epoch + "-" + strconv.FormatUint(p.Seq, 10) }

// ParsePosition parses the id of an event. ok reports whether the id is valid.
func ParsePosition(id string) (p Position, ok bool) {
	epoch, digits, _ := strings.Cut(id, "-")
	seq, err := strconv.ParseUint(digits, 10, 64)
	p = Position{epoch, seq}
	return p, err == nil && epoch != "" && p.String() == id
}
