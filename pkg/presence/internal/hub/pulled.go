package hub

import (
	"time"

	"example.com/presence/pkg/presence/room"
)

// pulledPart is a part that a node has read in pieces. While it reads them, the part changes. So a
// piece may be newer than the first one. The frames since the first piece, which the node holds
// meanwhile, contain the other changes. Up to the number of the last piece, the totals of these
// frames may lack users that a later piece contains.
type pulledPart struct {
	number   uint64        // of the first piece
	last     uint64        // of the last piece
	position room.Position // of the first piece
	entries  []entry
	at       []time.Time // when each entry was received
	more     bool
	failed   bool // a piece was malformed
}

// after returns the user after which the next piece begins.
func (a *pulledPart) after() room.UserID {
	if len(a.entries) == 0 {
		return ""
	}
	return a.entries[len(a.entries)-1].ID
}

// add adds the next piece, in which the users are sorted. A piece that no node sends makes the part
// fail: it has too many entries, or it does not end after the piece before. Otherwise a peer that
// repeats a piece would be asked forever.
func (a *pulledPart) add(p partPiece, now time.Time) {
	if n := len(p.Entries); n > maxPieceEntries || n > 0 && p.Entries[n-1].ID <= a.after() {
		a.failed, a.more = true, false
		return
	}
	if a.at == nil {
		a.number = p.Number
		a.position, _ = room.ParsePosition(p.Position)
	}
	a.last = max(a.last, p.Number)
	for _, e := range p.Entries {
		a.entries, a.at = append(a.entries, e), append(a.at, now)
	}
	a.more = p.More && len(p.Entries) > 0
}

// presences converts the entries. It drops those that no node sends.
func (a *pulledPart) presences(now time.Time) []room.Presence {
	ps := make([]room.Presence, 0, len(a.entries))
	for i, e := range a.entries {
		if one, err := presences([]entry{e}, a.at[i]); err == nil {
			ps = append(ps, one...)
		}
	}
	return ps
}
