package room

import (
	"container/list"
	"time"
)

// HistoryConfig bounds a [History].
type HistoryConfig struct {
	Messages int           // of each room; 0 keeps none
	Age      time.Duration // of a message
	Bytes    int           // of all rooms together
}

// keeping is about what it costs to keep a message, beside its own bytes.
const keeping = 200

// History keeps the last messages of rooms, as they went on the wire, for
// clients that come back. Of each room it holds a run without a gap up to the
// last message, or nothing.
type History struct {
	config HistoryConfig
	rooms  map[Name][]*list.Element // of order, in the order of their places
	order  *list.List               // of kept: the messages of all rooms, the oldest first
	bytes  int
	held   int // bytes of what is gone and held
}

type kept struct {
	room  Name
	seq   uint64
	event []byte
	at    time.Time
	held  int  // by how many replays
	gone  bool // it was let go of
}

func (m *kept) size() int { return len(m.event) + keeping }

// Replay is messages on their way to a client. They stay in memory for as long
// as it is not released, whatever the history lets go of.
type Replay struct{ messages []*kept }

// Events returns the messages as they go on the wire, in order.
func (r *Replay) Events() [][]byte {
	events := make([][]byte, len(r.messages))
	for i, m := range r.messages {
		events[i] = m.event
	}
	return events
}

// Late reports whether the history has let go of some of it.
func (r *Replay) Late() bool { return len(r.messages) > 0 && r.messages[0].gone }

// NewHistory returns an empty history.
func NewHistory(c HistoryConfig) History {
	return History{config: c, rooms: map[Name][]*list.Element{}, order: list.New()}
}

// Add keeps the room's next message, whose place is seq. It keeps event, which
// must not be changed.
func (h *History) Add(room Name, seq uint64, event []byte, now time.Time) {
	h.Expire(now)
	if h.config.Messages == 0 {
		return
	}
	if len(h.rooms[room]) == h.config.Messages {
		h.forget(h.rooms[room][0])
	}
	m := &kept{room: room, seq: seq, event: event, at: now}
	h.rooms[room] = append(h.rooms[room], h.order.PushBack(m))
	h.bytes += m.size()
	for h.bytes > h.config.Bytes {
		h.forget(h.order.Front())
	}
}

// After returns the room's messages above seq, up to the last one, whose place
// is end, to be given to [History.Release]; ok is false if not all of them are
// kept.
func (h *History) After(room Name, seq, end uint64, now time.Time) (r *Replay, ok bool) {
	h.Expire(now)
	messages := h.rooms[room]
	if seq > end || end-seq > uint64(len(messages)) {
		return nil, false
	}
	r = &Replay{make([]*kept, 0, end-seq)}
	for _, e := range messages[uint64(len(messages))-(end-seq):] {
		m := e.Value.(*kept)
		m.held++
		r.messages = append(r.messages, m)
	}
	return r, true
}

// Release says that the client has the messages, or is not to have them. It is
// called for each replay; a second time it does nothing.
func (h *History) Release(r *Replay) {
	for _, m := range r.messages {
		if m.held--; m.gone && m.held == 0 {
			h.held -= m.size()
		}
	}
	r.messages = nil
}

// Bytes returns what the messages take that are kept, in bytes.
func (h *History) Bytes() int { return h.bytes }

// Held returns how many bytes replays hold of what the history has let go of,
// which is beyond its bounds.
func (h *History) Held() int { return h.held }

// Expire lets go of what is too old.
func (h *History) Expire(now time.Time) {
	for e := h.order.Front(); e != nil && now.Sub(e.Value.(*kept).at) >= h.config.Age; e = h.order.Front() {
		h.forget(e)
	}
}

// Drop forgets the room.
func (h *History) Drop(room Name) {
	for len(h.rooms[room]) > 0 {
		h.forget(h.rooms[room][0])
	}
}

// forget lets go of a message, which is the first of its room.
func (h *History) forget(e *list.Element) {
	m := h.order.Remove(e).(*kept)
	h.bytes -= m.size()
	if m.gone = true; m.held > 0 {
		h.held += m.size()
	}
	messages := h.rooms[m.room]
	messages[0] = nil
	if h.rooms[m.room] = messages[1:]; len(messages) == 1 {
		delete(h.rooms, m.room)
	}
}
