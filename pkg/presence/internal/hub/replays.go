package hub

import (
	"container/list"
	"sync"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/internal/stream"
)

const (
	// replayDelay is the time after which an unsent replay counts. Most replays are sent
	// immediately, and counting their messages would cost more than sending them.
	replayDelay = 100 * time.Millisecond
	// messageCost is the memory overhead of a message in bytes.
	messageCost = 200
)

// replays is the replay budget. It limits the total size of the messages in unsent replays, over
// all rooms. Without it, slow clients could keep any number of messages in memory that the log has
// already dropped.
//
// A message counts once, however many replays contain it. Above the limit, the clients with the
// oldest replays are disconnected, even if the log still contains their messages. The log has the
// same size limit. Therefore no client is disconnected while the log contains all messages of the
// unsent replays.
type replays struct {
	limit int // bytes
	clock Clock

	mu       sync.Mutex    // guards the fields below
	underWay list.List     // of *replay, the oldest first
	holders  map[*byte]int // number of counted replays that contain each message, by holderID
	bytes    int           // total size of the messages in holders
	timer    Timer         // calls review; nil if every replay counts already
}

// replay tracks one unsent replay.
type replay struct {
	conn    *Connection
	entries []backplane.Entry
	since   time.Time
	counted bool
	element *list.Element // in replays.underWay; nil after removal
}

// start adds a replay. entries must not be empty.
func (r *replays) start(conn *Connection, entries []backplane.Entry) *replay {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := &replay{conn: conn, entries: entries, since: r.clock.Now()}
	p.element = r.underWay.PushBack(p)
	if r.timer == nil {
		r.timer = r.clock.AfterFunc(replayDelay, r.review)
	}
	return p
}

// sent removes a replay that was sent or whose connection is closed. A second call does nothing.
func (r *replays) sent(p *replay) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.removeLocked(p)
}

// review counts the replays that have been unsent for replayDelay. While they exceed the limit, it
// disconnects the clients with the older half of the replays.
//
// A client has 2 s to read its goodbye, but its replay stops counting immediately. Otherwise the
// next review would disconnect more clients than necessary.
func (r *replays) review() {
	r.mu.Lock()
	now := r.clock.Now()
	counted, waiting := 0, false
	for e := r.underWay.Front(); e != nil; e = e.Next() {
		p := e.Value.(*replay)
		if !p.counted && now.Sub(p.since) < replayDelay {
			waiting = true
			break
		}
		r.countLocked(p)
		counted++
	}
	var slow []*Connection
	for r.bytes > r.limit && counted > 1 { // a single replay may exceed the limit
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
		r.timer = r.clock.AfterFunc(replayDelay, r.review)
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

// holderID identifies the data of an entry by its address. The memory log keeps each message in
// memory once, so all replays of a message have the same address. Entries without data are not
// messages, and all of them count as one.
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

func (r *replays) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.timer != nil {
		r.timer.Stop()
	}
}
