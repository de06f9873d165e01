package hub

import (
	"container/list"
	"sync"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/internal/stream"
)

const (
	// replayPatience is the time after which a replay under way counts. Most are sent at once; to
	// count each message of those would cost more than to send it.
	replayPatience = 100 * time.Millisecond
	// messageCost is the bytes that a message in memory takes beside its own.
	messageCost = 200
)

// replays bounds the messages that replays under way hold, over all rooms: a client that reads
// slowly holds messages that the log has dropped meanwhile. A message counts once, however many
// replays hold it. The log has a limit of its own, of the same size: as long as the log holds
// all of these messages, no replay is ended. Above the limit the oldest replays end, also those
// whose messages the log still has.
type replays struct {
	limit int // bytes
	clock Clock

	mu       sync.Mutex // guards what follows
	underWay list.List  // of *replay, the oldest first
	holders  map[*byte]int
	bytes    int   // of the messages in holders
	timer    Timer // calls review; nil while every replay counts
}

// replay is the account of one.
type replay struct {
	conn    *Connection
	entries []backplane.Entry
	since   time.Time
	counted bool
	element *list.Element // nil once it is over
}

// start adds a replay, which must not be empty.
func (r *replays) start(conn *Connection, entries []backplane.Entry) *replay {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := &replay{conn: conn, entries: entries, since: r.clock.Now()}
	p.element = r.underWay.PushBack(p)
	if r.timer == nil {
		r.timer = r.clock.AfterFunc(replayPatience, r.review)
	}
	return p
}

// sent ends the account of a replay. A second call does nothing.
func (r *replays) sent(p *replay) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.removeLocked(p)
}

// review counts the replays that are under way for long. Above the limit it ends the connections of
// the older half of them. They count no more, though they have 2 s for their goodbye: else the next
// ones would have to go as well.
func (r *replays) review() {
	r.mu.Lock()
	now := r.clock.Now()
	counted, waiting := 0, false
	for e := r.underWay.Front(); e != nil; e = e.Next() {
		p := e.Value.(*replay)
		if !p.counted && now.Sub(p.since) < replayPatience {
			waiting = true
			break
		}
		r.countLocked(p)
		counted++
	}
	var slow []*Connection
	for r.bytes > r.limit && counted > 1 {
		half := (counted + 1) / 2
		for range half {
			p := r.underWay.Front().Value.(*replay)
			slow = append(slow, p.conn)
			r.removeLocked(p)
		}
		counted -= half
	}
	r.timer = nil
	if waiting {
		r.timer = r.clock.AfterFunc(replayPatience, r.review)
	}
	r.mu.Unlock()
	for _, conn := range slow {
		conn.client.End(stream.Slow)
	}
}

func (r *replays) countLocked(p *replay) {
	if p.counted {
		return
	}
	p.counted = true
	for _, e := range p.entries {
		id := holderID(e)
		if r.holders[id]++; r.holders[id] == 1 {
			r.bytes += len(e.Data) + messageCost
		}
	}
}

// holderID returns what tells the bytes of an entry from those of another: a message of the memory
// log is in memory once. Entries without bytes, which are no messages, count as one.
func holderID(e backplane.Entry) *byte {
	if len(e.Data) == 0 {
		return nil
	}
	return &e.Data[0]
}

func (r *replays) removeLocked(p *replay) {
	if p.element == nil {
		return
	}
	r.underWay.Remove(p.element)
	p.element = nil
	if p.counted {
		for _, e := range p.entries {
			id := holderID(e)
			if r.holders[id]--; r.holders[id] == 0 {
				delete(r.holders, id)
				r.bytes -= len(e.Data) + messageCost
			}
		}
	}
	p.entries = nil
}

// close stops the timer.
func (r *replays) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.timer != nil {
		r.timer.Stop()
	}
}
