package hub

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"example.com/presence/pkg/presence/internal/fair"
	"example.com/presence/pkg/presence/internal/stream"
	"example.com/presence/pkg/presence/room"
)

// At a limit on memory, the stalled clients go first, and of them those of the user that holds most
// (promise 9 of package presence). A client that takes at least 32 KiB in 15 s is never
// disconnected for the sake of another.

// lookTime is the minimum time between two searches for stalled clients. A client needs 15 s to
// become stalled, so a search is rarely useful soon after another.
const lookTime = 250 * time.Millisecond

// search limits how often a budget is searched for stalled clients.
type search struct {
	at    time.Time // of the last search
	least int       // its users held at least this much
}

// begin reports whether to search now for stalled clients of users that hold at least least. A
// search that would find more than the last one is never too soon.
func (s *search) begin(now time.Time, least int) bool {
	if now.Sub(s.at) < lookTime && least >= s.least {
		return false
	}
	s.at, s.least = now, least
	return true
}

// holders collects the bytes that users hold, and their stalled connections.
type holders map[room.UserID]*holder

type holder struct {
	user    room.UserID
	held    int           // bytes, of all connections of the user
	stalled []*Connection // those to disconnect
}

// add adds a connection that holds this number of bytes.
func (h holders) add(conn *Connection, held int, stalled bool) {
	one := h[conn.user]
	if one == nil {
		one = &holder{user: conn.user}
		h[conn.user] = one
	}
	one.held += held
	if stalled {
		one.stalled = append(one.stalled, conn)
	}
}

// stalled returns the stalled connections. Those of the user that holds most come first.
func (h holders) stalled() iter.Seq2[*holder, *Connection] {
	return func(yield func(*holder, *Connection) bool) {
		ordered := slices.SortedFunc(maps.Values(h), func(a, b *holder) int {
			return cmp.Or(cmp.Compare(b.held, a.held), cmp.Compare(a.user, b.user))
		})
		for _, one := range ordered {
			for _, conn := range one.stalled {
				if !yield(one, conn) {
					return
				}
			}
		}
	}
}

// release ends the holdings of stalled clients, until it is enough. It spares the users that hold
// less than least. end must release the holding of a connection.
func (h holders) release(b *fair.Budget, least int, enough func() bool, end func(*Connection)) (stalled []*Connection) {
	for user, one := range h {
		one.held = b.Held(string(user))
	}
	for one, conn := range h.stalled() {
		if enough() {
			break
		}
		if one.held >= least {
			stalled = append(stalled, conn)
			end(conn)
		}
	}
	return stalled
}

// drop disconnects the connections of stalled clients. They get no goodbye, because it could keep
// their holdings in memory for seconds.
func drop(stalled []*Connection) {
	for _, conn := range stalled {
		conn.client.Drop(stream.Slow)
	}
}

// relief disconnects stalled clients when the backlogs of all streams exceed their limit.
type relief struct {
	mu     sync.Mutex // guards looked
	looked time.Time  // last search for stalled clients
}

// relieve disconnects stalled clients when the backlogs of all streams exceed their limit by the
// given number of bytes, but does nothing shortly after another call. It disconnects those in rooms
// over their share, and then others until their backlogs have that size. A shared event counts for
// each of its clients here, so relieve may disconnect too few. A later call then follows.
func (r *relief) relieve(bytes int, conns *connections, overloaded func(room.Name) bool, now time.Time) {
	if bytes <= 0 || !r.take(now) {
		return
	}
	all, over := holders{}, map[room.Name]bool{}
	var stalled []*Connection
	for _, conn := range conns.counted() {
		held := conn.client.Held()
		if held.Stalled {
			if _, known := over[conn.room]; !known {
				over[conn.room] = overloaded(conn.room)
			}
		}
		if held.Stalled && over[conn.room] {
			stalled = append(stalled, conn)
			bytes -= held.Unsent
		} else if held.Unsent > 0 {
			all.add(conn, held.Unsent, held.Stalled)
		}
	}
	for _, conn := range all.stalled() {
		if bytes <= 0 {
			break
		}
		bytes -= conn.client.Held().Unsent
		stalled = append(stalled, conn)
	}
	drop(stalled)
}

// take reports whether it is time to search again, and notes the search.
func (r *relief) take(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.looked) < lookTime {
		return false
	}
	r.looked = now
	return true
}
