package hub

import (
	"container/list"
	"sync"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/internal/stream"
)

const (
	// replayPatience is the time after which an unsent replay counts. Most replays are sent at
	// once. Counting each of their messages would cost more than sending it.
	replayPatience = 100 * time.Millisecond
	// messageCost is the overhead of a message in memory, in bytes.
	messageCost = 200
)

// replays is the budget of replays: it limits the bytes of messages that unsent replays hold, over
// all rooms. Without it, slow clients could keep any number of messages in memory that the log has
// dropped meanwhile.
//
// A message counts once, however many replays hold it. Above the limit the oldest replays end, even
// if the log still has their messages. The log has its own limit of the same size. So no replay
// ends as long as the log holds all of these messages.
type replays struct {
	limit int // bytes
	clock Clock

	mu       sync.Mutex    // guards the fields below
	underWay list.List     // of *replay, the oldest first
	holders  map[*byte]int // number of counted replays that hold each message, by holderID
	bytes    int           // of the messages in holders
	timer    Timer         // calls review; nil while every replay counts
}

// replay is the account of one unsent replay.
type replay struct {
	conn    *Connection
	entries []backplane.Entry
	since   time.Time
	counted bool
	element *list.Element // in replays.underWay; nil after the end
}

// start adds a replay. entries must not be empty.
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

// review counts the replays that have been unsent for replayPatience. While they exceed the limit,
// it ends the connections of the older half.
//
// A connection has 2 s for its goodbye, but its replay stops counting at once. Otherwise the next
// review would end further connections.
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

// holderID identifies the bytes of an entry by their address. A message of the memory log is in
// memory once, so all replays have the same address. Entries without bytes are no messages, and
// count as one.
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
