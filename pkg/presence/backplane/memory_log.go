package backplane

import (
	"sort"
	"time"

	"example.com/presence/pkg/presence/internal/fair"
	"example.com/presence/pkg/presence/room"
)

// entryOverhead is the approximate memory in bytes that an entry uses in addition to its data.
const entryOverhead = 200

// shareOverhead is the approximate memory in bytes that a share uses in addition to the user id,
// including the account of the sender over all rooms.
const shareOverhead = 200

// roomLog is the log of one room. It may be empty. No entry is missing between the oldest entry and
// the newest one.
type roomLog struct {
	name    room.Name
	entries []*logEntry // sorted by position
	last    uint64      // position of the newest entry, even if that entry was removed
	removed uint64      // highest position of a removed entry; in a new log, the floor
}

// share counts the bytes of a sender in a room. It exists while the log of the room has an entry of
// the sender.
type share = fair.Share[room.UserID, *roomLog]

// shareSize returns the memory in bytes of a share, without its entries.
func shareSize(s *share) int { return len(s.Holder()) + shareOverhead }

// logEntry is an entry of a log. It is linked into the list of all entries.
type logEntry struct {
	Entry
	share      *share
	prev, next *logEntry
}

func (e *logEntry) size() int { return len(e.Data) + entryOverhead }

// newRoomLog returns an empty log. The positions of its entries start at floor + 1.
func newRoomLog(name room.Name, floor uint64) roomLog {
	return roomLog{name: name, last: floor, removed: floor}
}

// after returns the entries above a position. complete reports whether no entry above it is
// missing.
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

// logs contains the entries of all rooms and enforces the limits. It has no lock and no clock: its
// methods receive the current time.
type logs struct {
	messages int           // maximum entries per room
	age      time.Duration // maximum age of an entry
	limit    int           // maximum bytes of all rooms

	// oldest is the head of the list of all entries. oldest.next is the oldest entry of all rooms,
	// and oldest.prev is the newest one.
	oldest logEntry
	bytes  int // always the total of accounts
	// accounts has the bytes of each sender in each room.
	accounts fair.Accounts[room.UserID, *roomLog]
	// evictions is the total of the entries that were evicted at the byte limit.
	evictions uint64
	// emptied is called when a log has lost its last entry, because its room can then be dropped.
	emptied func(*roomLog)
}

// init makes the list of all entries empty.
func (h *logs) init() { h.oldest.prev, h.oldest.next = &h.oldest, &h.oldest }

// add appends an entry to a log. At the entry limit of the room, it evicts the oldest entry of the
// room. At the byte limit, it finds the sender that uses the most bytes over all rooms, and evicts
// the oldest entry of the room in which this sender uses the most bytes. That entry may be from
// another sender, because a log has no holes. add repeats this until the limit is met. The new
// entry may be evicted too.
func (h *logs) add(l *roomLog, sender room.UserID, data []byte, now time.Time) Entry {
	l.last++
	e := &logEntry{Entry: Entry{Position: l.last, At: now, Data: data}}
	e.share = h.charge(sender, l, e.size())
	e.prev, e.next = h.oldest.prev, &h.oldest
	e.prev.next, e.next.prev = e, e
	l.entries = append(l.entries, e)
	if len(l.entries) > h.messages {
		h.remove(l.entries[0])
	}
	for h.bytes > h.limit {
		h.remove(h.accounts.Largest().Place().entries[0])
		h.evictions++
	}
	return e.Entry
}

// remove removes e, which must be the first entry of its log.
func (h *logs) remove(e *logEntry) {
	e.prev.next, e.next.prev = e.next, e.prev
	l := e.share.Place()
	h.refund(e.share, e.size())
	l.removed = e.Position
	l.entries[0] = nil
	if l.entries = l.entries[1:]; len(l.entries) == 0 {
		l.entries = nil
		h.emptied(l)
	}
}

// charge adds the size of an entry to the share of its sender in the room.
func (h *logs) charge(sender room.UserID, l *roomLog, size int) *share {
	s := h.accounts.Add(sender, l, size)
	if s.Units() == size { // the share is new
		h.accounts.Add(sender, l, shareSize(s))
		size += shareSize(s)
	}
	h.bytes += size
	return s
}

// refund subtracts the size of an entry from a share.
func (h *logs) refund(s *share, size int) {
	if s.Units() == size+shareSize(s) { // the share has no other entry
		size += shareSize(s)
	}
	h.accounts.Take(s, size)
	h.bytes -= size
}

// clear removes all entries of a log but keeps its last position.
func (h *logs) clear(l *roomLog) {
	for len(l.entries) > 0 {
		h.remove(l.entries[0])
	}
}

// expire removes the entries that have reached the maximum age.
func (h *logs) expire(now time.Time) {
	for e := h.oldest.next; e != &h.oldest && now.Sub(e.At) >= h.age; e = h.oldest.next {
		h.remove(e)
	}
}

// due returns when the oldest entry expires, or the zero time if there is no entry.
func (h *logs) due() time.Time {
	if e := h.oldest.next; e != &h.oldest {
		return e.At.Add(h.age)
	}
	return time.Time{}
}
