package backplane

import (
	"sort"
	"time"

	"example.com/presence/pkg/presence/room"
)

// entryOverhead is the approximate memory of an entry without its data, in bytes.
const entryOverhead = 200

// roomLog is the log of one room. Its entries have no gap up to the newest one. It may be empty.
type roomLog struct {
	name    room.Name
	entries []*kept // by position
	last    uint64  // the position of the newest entry, removed or not
	removed uint64  // the highest position whose entry was removed; the floor in a new log
}

// kept is an entry of a log.
type kept struct {
	Entry
	log        *roomLog
	prev, next *kept // in logs.oldest
}

func (e *kept) size() int { return len(e.Data) + entryOverhead }

// newRoomLog returns an empty log whose positions follow floor.
func newRoomLog(name room.Name, floor uint64) roomLog {
	return roomLog{name: name, last: floor, removed: floor}
}

// after returns the entries above a position. complete reports that none is missing.
func (l *roomLog) after(position uint64) (entries []Entry, complete bool) {
	if position > l.last {
		return nil, false
	}
	from := sort.Search(len(l.entries), func(i int) bool { return l.entries[i].Position > position })
	if from < len(l.entries) {
		entries = make([]Entry, 0, len(l.entries)-from)
		for _, e := range l.entries[from:] {
			entries = append(entries, e.Entry)
		}
	}
	return entries, position >= l.removed
}

// logs bounds the logs of all rooms. It is plain data.
type logs struct {
	messages int           // maximum entries per room
	age      time.Duration // maximum age of an entry
	limit    int           // maximum bytes of all rooms

	oldest kept // its next is the oldest entry of all rooms, its prev the newest
	bytes  int
	// emptied is called when a log has lost its last entry. Its room can then be dropped.
	emptied func(*roomLog)
}

// init empties the list of all entries.
func (h *logs) init() { h.oldest.prev, h.oldest.next = &h.oldest, &h.oldest }

// add appends an entry to a log. At a limit it evicts the oldest entry of the room, then the oldest
// of all rooms.
func (h *logs) add(l *roomLog, data []byte, now time.Time) Entry {
	l.last++
	e := &kept{Entry: Entry{Position: l.last, At: now, Data: data}, log: l}
	e.prev, e.next = h.oldest.prev, &h.oldest
	e.prev.next, e.next.prev = e, e
	l.entries = append(l.entries, e)
	h.bytes += e.size()
	if len(l.entries) > h.messages {
		h.remove(l.entries[0])
	}
	for h.bytes > h.limit {
		h.remove(h.oldest.next)
	}
	return e.Entry
}

// remove removes e, which must be the first entry of its log.
func (h *logs) remove(e *kept) {
	e.prev.next, e.next.prev = e.next, e.prev
	h.bytes -= e.size()
	l := e.log
	l.removed = e.Position
	l.entries[0] = nil
	if l.entries = l.entries[1:]; len(l.entries) == 0 {
		l.entries = nil
		h.emptied(l)
	}
}

// clear removes all entries of a log and keeps its last position.
func (h *logs) clear(l *roomLog) {
	for len(l.entries) > 0 {
		h.remove(l.entries[0])
	}
}

// expire removes the entries that are too old.
func (h *logs) expire(now time.Time) {
	for e := h.oldest.next; e != &h.oldest && now.Sub(e.At) >= h.age; e = h.oldest.next {
		h.remove(e)
	}
}

// due returns when the oldest entry expires; the zero time without an entry.
func (h *logs) due() time.Time {
	if e := h.oldest.next; e != &h.oldest {
		return e.At.Add(h.age)
	}
	return time.Time{}
}
