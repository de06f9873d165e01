package presence

import (
	"container/list"
	"sync"
	"time"

	"example.com/presence/pkg/presence/room"
)

const (
	// retryAge is how long a message is known again by its sender's id for it.
	retryAge = 2 * time.Minute
	// maxRetries bounds the messages that are known so, in all: 100 bytes each.
	// It is 8,700 messages a second.
	maxRetries = 1 << 20
	// maxBans bounds the users that are kept out of rooms.
	maxBans = 100_000
	// maxSyncs bounds the states of rooms that are on their way to who joined, in
	// bytes. Each interval's is another one.
	maxSyncs = 64 << 20
)

// memory is what is remembered of rooms beyond who is in them, and bounded over
// all of them. Its lock is taken last.
type memory struct {
	most      int // Config.HistoryBytes
	mostSyncs int // maxSyncs

	mu      sync.Mutex // guards what follows
	history room.History
	replays *list.List // of replay: those that are under way, the oldest first
	retries room.Retries
	bans    room.Bans
	syncs   *list.List // of *syncing: those that are under way, the oldest first
	telling int        // bytes of them
}

// replay is on its way to a client.
type replay struct {
	*room.Replay
	conn *connection
}

// syncing is the state of a room on its way to those that joined in one interval.
type syncing struct {
	size int
	to   map[*connection]struct{} // who does not have it yet
	in   *list.Element            // of memory.syncs
}

func newMemory(c Config) memory {
	return memory{
		most:      c.HistoryBytes,
		mostSyncs: maxSyncs,
		replays:   list.New(),
		syncs:     list.New(),
		history:   room.NewHistory(room.HistoryConfig{Messages: c.History, Age: c.HistoryAge, Bytes: c.HistoryBytes}),
		retries:   room.NewRetries(retryAge, maxRetries),
		bans:      room.NewBans(maxBans),
	}
}

// sent returns the place of a message that was said before, if it was; else
// the error says whether it may be said.
func (m *memory) sent(name room.Name, by room.UserID, id string, now time.Time) (seq uint64, found bool, err error) {
	if id == "" {
		return 0, false, nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if seq, found = m.retries.Find(name, by, id, now); !found && m.retries.Full(now) {
		err = room.ErrRetriesFull
	}
	return seq, found, err
}

// keep remembers a message that is said: its event, and its sender's id for it,
// if there is one. It returns connections that are to end, as replays hold more
// of what is no longer remembered than may be remembered.
func (m *memory) keep(name room.Name, seq uint64, event []byte, by room.UserID, id string, now time.Time) (slow []*connection) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.history.Add(name, seq, event, now)
	if id != "" {
		m.retries.Add(name, by, id, seq, now)
	}
	if m.history.Held() > m.most {
		slow = m.slowLocked()
	}
	return slow
}

// slowLocked gives up the older half of the replays that hold what the history
// has let go of, and returns their connections. What they hold counts no more,
// though it goes with the connection, which has 2 s: else those that come next
// would have to go for it as well.
func (m *memory) slowLocked() []*connection {
	var late []*list.Element
	for e := m.replays.Front(); e != nil; e = e.Next() {
		if e.Value.(*replay).Late() {
			late = append(late, e)
		}
	}
	var slow []*connection
	for _, e := range late[:(len(late)+1)/2] {
		slow = append(slow, e.Value.(*replay).conn)
		m.releaseLocked(e)
	}
	return slow
}

// releaseLocked says that a replay is over; a second time it does nothing.
func (m *memory) releaseLocked(e *list.Element) {
	m.history.Release(e.Value.(*replay).Replay)
	m.replays.Remove(e)
}

// missed returns the messages since the one whose id the client holds, and what
// is to be called when it has them; ok is false if some are not known any more,
// or the id is none of this room's.
func (m *memory) missed(conn *connection, lastID string, here room.Place, now time.Time) (events [][]byte, taken func(), ok bool) {
	last, ok := room.ParsePlace(lastID)
	if !ok || last.Epoch != here.Epoch {
		return nil, nil, false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	run, ok := m.history.After(conn.room, last.Seq, here.Seq, now)
	if !ok || last.Seq == here.Seq {
		return nil, nil, ok
	}
	e := m.replays.PushBack(&replay{Replay: run, conn: conn})
	return run.Events(), func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.releaseLocked(e)
	}, true
}

// tell says that a state of so many bytes goes to those who joined, and returns
// what each has taken is to be called with. It also returns connections that are
// to end, as more of such states wait for clients than may: those of the older
// half of them. The newest always goes.
func (m *memory) tell(size int, joiners []joiner) (state *syncing, slow []*connection) {
	m.mu.Lock()
	defer m.mu.Unlock()
	state = &syncing{size: size, to: make(map[*connection]struct{}, len(joiners))}
	for _, j := range joiners {
		state.to[j.connection] = struct{}{}
	}
	older := m.syncs.Len()
	state.in = m.syncs.PushBack(state)
	if m.telling += size; m.telling <= m.mostSyncs {
		return state, nil
	}
	for range (older + 1) / 2 {
		old := m.syncs.Front().Value.(*syncing)
		for conn := range old.to {
			slow = append(slow, conn)
		}
		m.forgetLocked(old)
	}
	return state, slow
}

// taken says that the client has taken the state, or is not to have it. A second
// time it does nothing.
func (m *memory) taken(state *syncing, conn *connection) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(state.to, conn)
	if len(state.to) == 0 {
		m.forgetLocked(state)
	}
}

// forgetLocked says that the state waits for nobody any more, or will not in a
// moment. A second time it does nothing.
func (m *memory) forgetLocked(state *syncing) {
	if state.in != nil {
		m.syncs.Remove(state.in)
		m.telling -= state.size
		state.in, state.to = nil, nil
	}
}

// drop forgets the room's history.
func (m *memory) drop(name room.Name) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.history.Drop(name)
}

// expire forgets what is too old to matter, and what nobody may have asked for
// since.
func (m *memory) expire(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.history.Expire(now)
	m.retries.Expire(now)
	m.bans.Expire(now)
}

func (m *memory) ban(name room.Name, user room.UserID, until, now time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.bans.Add(name, user, until, now)
}

// banned returns until when the room refuses the user; the zero time if it does
// not.
func (m *memory) banned(name room.Name, user room.UserID, now time.Time) time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.bans.Until(name, user, now)
}
