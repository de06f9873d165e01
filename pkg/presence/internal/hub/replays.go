package hub

import (
	"sync"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/internal/fair"
	"example.com/presence/pkg/presence/room"
)

const (
	// replayDelay is the time after which the messages of an unsent replay count. Most replays are
	// sent immediately, and counting their messages would cost more than sending them.
	replayDelay = 100 * time.Millisecond
	// messageCost is the memory overhead of a message in bytes.
	messageCost = 200
	// replayCost is the memory of a message in a replay besides the message itself, in bytes: its
	// id, its time and its pieces.
	replayCost = 250
	// replayReserve is the part of the replay budget for this memory, in bytes.
	replayReserve = 64 << 20
	// smallReplay is the maximum size of a replay that does not count, in bytes. Like a small
	// snapshot, it is never refused: the connection limit bounds the total size.
	smallReplay = 8 << 10
	// largeReplay is the size above which the messages of a replay count before it starts, in
	// bytes.
	largeReplay = 1 << 20
)

// replays is the replay budget. It limits the total size of the unsent replays, over all rooms.
// Without it, slow clients could keep any number of messages in memory that the log has already
// dropped.
//
// A message counts once, however many replays contain it, and once for each user. Each replay also
// takes replayCost for each of its messages. Messages that are still in the log count too, although
// they need no more memory. So the limit is twice that of the log, and replayReserve for the rest.
// A client that resumes is refused if its user holds more than is free, unless the end of stalled
// clients frees enough.
type replays struct {
	clock Clock

	mu       sync.Mutex           // guards the fields below
	budget   fair.Budget          // in bytes
	underWay map[*replay]struct{} // unsent
	fresh    []*replay            // those that are not counted yet, the oldest first
	holders  map[heldMessage]int  // number of counted replays that contain each message
	timer    Timer                // calls review; nil if every replay counts already
	search   search
}

// replay tracks one unsent replay.
type replay struct {
	conn    *Connection
	entries []backplane.Entry
	since   time.Time
	counted bool
}

// heldMessage is a message in the replays of one user, or, with an empty user, of all users.
type heldMessage struct {
	user room.UserID
	id   *byte // see holderID
}

func newReplays(limit int, clock Clock) replays {
	return replays{clock: clock, budget: fair.NewBudget(2*limit + replayReserve), underWay: map[*replay]struct{}{}, holders: map[heldMessage]int{}}
}

// fits returns [ErrReplays] if a user may not hold a replay of these messages. The caller must
// disconnect the connections in stalled.
func (r *replays) fits(user room.UserID, entries []backplane.Entry) (stalled []*Connection, err error) {
	size := sizeOf(entries)
	if size <= smallReplay {
		return nil, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	more := replayCost * len(entries)
	if size > largeReplay {
		for _, e := range entries {
			if r.holders[heldMessage{user, holderID(e)}] == 0 {
				more += len(e.Data) + messageCost
			}
		}
	}
	fits := func() bool { return r.budget.Fits(string(user), more) }
	if !fits() {
		stalled = r.relieveLocked(fits, r.budget.Held(string(user)))
	}
	if !fits() {
		return stalled, ErrReplays
	}
	return stalled, nil
}

// relieveLocked ends the replays of stalled clients until enough is true, but not those of users
// that hold less than the given number of bytes.
func (r *replays) relieveLocked(enough func() bool, least int) (stalled []*Connection) {
	if !r.search.begin(r.clock.Now(), least) {
		return nil
	}
	all, of := holders{}, map[*Connection]*replay{}
	for p := range r.underWay {
		all.add(p.conn, 0, p.conn.client.Held().Stalled)
		of[p.conn] = p
	}
	return all.release(&r.budget, least, enough, func(conn *Connection) { r.removeLocked(of[conn]) })
}

// sizeOf returns the size of a replay.
func sizeOf(entries []backplane.Entry) (size int) {
	for _, e := range entries {
		size += len(e.Data) + messageCost + replayCost
	}
	return size
}

// start adds a replay. entries must not be empty. It returns nil if the replay is too small to
// count.
func (r *replays) start(conn *Connection, entries []backplane.Entry) *replay {
	size := sizeOf(entries)
	if size <= smallReplay {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	p := &replay{conn: conn, entries: entries, since: r.clock.Now()}
	r.underWay[p] = struct{}{}
	r.fresh = append(r.fresh, p)
	r.budget.Hold(string(conn.user), replayCost*len(entries))
	r.budget.Grow(replayCost * len(entries))
	if size > largeReplay {
		r.countLocked(p)
	}
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

// review counts the messages of the replays that have been unsent for replayDelay. If the budget is
// exceeded then, it disconnects stalled clients.
func (r *replays) review() {
	r.mu.Lock()
	now, n := r.clock.Now(), 0
	for n < len(r.fresh) && now.Sub(r.fresh[n].since) >= replayDelay {
		r.countLocked(r.fresh[n])
		n++
	}
	clear(r.fresh[:n])
	r.fresh = r.fresh[n:]
	var stalled []*Connection
	if r.budget.Exceeds() {
		stalled = r.relieveLocked(func() bool { return !r.budget.Exceeds() }, 0)
	}
	switch r.timer = nil; {
	case len(r.fresh) > 0:
		r.timer = r.clock.AfterFunc(replayDelay, r.review)
	case r.budget.Exceeds(): // until more clients have stalled
		r.timer = r.clock.AfterFunc(lookTime, r.review)
		fallthrough
	default:
		r.fresh = nil
	}
	r.mu.Unlock()
	drop(stalled)
}

func (r *replays) countLocked(p *replay) {
	if _, there := r.underWay[p]; !there || p.counted {
		return
	}
	p.counted = true
	for _, e := range p.entries {
		r.holdLocked(p, e, 1)
	}
}

// holdLocked adds n, which is 1 or -1, to the number of replays that contain a message.
func (r *replays) holdLocked(p *replay, e backplane.Entry, n int) {
	size := n * (len(e.Data) + messageCost)
	for _, user := range []room.UserID{"", p.conn.user} {
		m := heldMessage{user, holderID(e)}
		before := r.holders[m]
		if r.holders[m] = before + n; before+n == 0 {
			delete(r.holders, m)
		}
		switch {
		case before > 0 && before+n > 0: // another replay contains it
		case user == "":
			r.budget.Grow(size)
		default:
			r.budget.Hold(string(user), size)
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
	if _, there := r.underWay[p]; !there {
		return
	}
	delete(r.underWay, p)
	r.budget.Hold(string(p.conn.user), -replayCost*len(p.entries))
	r.budget.Grow(-replayCost * len(p.entries))
	if p.counted {
		for _, e := range p.entries {
			r.holdLocked(p, e, -1)
		}
	}
	p.entries = nil
}

func (r *replays) held() (count, bytes int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.underWay), r.budget.Total()
}

func (r *replays) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.timer != nil {
		r.timer.Stop()
	}
}
