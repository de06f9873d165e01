package room

import (
	"strconv"
	"strings"
)

// Position is a position in the message log of a room. A client at a position has received every
// message up to Seq. In an event stream, a position is an event id of the form EPOCH-SEQ. Seq
// increases with each message and may have gaps.
type Position struct {
	Epoch string // of the message log; not empty, contains no "-" and no line break
	Seq   uint64
}

// String returns the position as an event id.
func (p Position) String() string { return p.Epoch + "-" + strconv.FormatUint(p.Seq, 10) }

// ParsePosition parses an event id. ok reports whether the id is valid.
func ParsePosition(id string) (p Position, ok bool) {
	epoch, digits, _ := strings.Cut(id, "-")
	seq, err := strconv.ParseUint(digits, 10, 64)
	p = Position{epoch, seq}
	return p, err == nil && epoch != "" && p.String() == id
}
