package room

import (
	"strconv"
	"strings"
)

// Position is a position in a room's messages: a client that holds it has every message up to Seq.
// On the wire it is an event's id, EPOCH-SEQ. Seq grows from message to message and may have gaps.
type Position struct {
	Epoch string // of the message log; not empty, without - or a line break
	Seq   uint64
}

// String returns the position as an event's id.
func (p Position) String() string { return p.Epoch + "-" + strconv.FormatUint(p.Seq, 10) }

// ParsePosition reads an event's id; ok reports whether it is one.
func ParsePosition(id string) (p Position, ok bool) {
	epoch, digits, _ := strings.Cut(id, "-")
	seq, err := strconv.ParseUint(digits, 10, 64)
	p = Position{epoch, seq}
	return p, err == nil && epoch != "" && p.String() == id
}
