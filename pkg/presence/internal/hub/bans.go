package hub

import (
	"encoding/json"
	"sync"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/room"
)

// ban keeps a user out of a room until a given time. It is stored as a row of the backplane's
// table. Every node watches the table, so every node rejects the user.
type ban struct {
	Room  room.Name   `json:"room"`
	User  room.UserID `json:"user"`
	Until time.Time   `json:"until"`
}

const banPrefix = "ban/"

// key returns the row key of the ban. The key is unambiguous, because a room name contains no
// slash.
func (b ban) key() string { return banPrefix + string(b.Room) + "/" + string(b.User) }

// parseBan parses the value of a ban row. The row must not be deleted.
func parseBan(row backplane.Row) (b ban, err error) {
	err = json.Unmarshal(row.Value, &b)
	return b, err
}

// bans is the node's copy of the bans in the backplane's table. Its size is bounded, because the
// table has a row limit.
type bans struct {
	mu      sync.Mutex        // guards the fields below; acquired under a counter's mutex
	rows    map[string]banRow // by row key
	changed chan struct{}     // closed when the next row is applied
}

type banRow struct {
	until   time.Time
	applied bool // the node has removed the user
}

// set adds a row. From now on, joins of the banned user are rejected.
func (b *bans) set(key string, until time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rows[key] = banRow{until: until}
}

func (b *bans) remove(key string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.rows, key)
}

// apply records that the user of the row was removed from the room. It closes the channel that
// applied returns.
func (b *bans) apply(key string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if row, there := b.rows[key]; there {
		b.rows[key] = banRow{row.until, true}
	}
	close(b.changed)
	b.changed = make(chan struct{})
}

// end returns the time at which the user's ban from the room ends, or the zero time if there is
// none.
func (b *bans) end(name room.Name, user room.UserID, now time.Time) time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.rows) == 0 {
		return time.Time{}
	}
	if row := b.rows[ban{Room: name, User: user}.key()]; now.Before(row.until) {
		return row.until
	}
	return time.Time{}
}

// applied reports whether the node has applied the row with this key and end. It also returns a
// channel that is closed when the next row is applied.
func (b *bans) applied(key string, until time.Time) (bool, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	row := b.rows[key]
	return row.applied && row.until.Equal(until), b.changed
}

func (b *bans) size() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.rows)
}
