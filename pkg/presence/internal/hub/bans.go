package hub

import (
	"encoding/json"
	"sync"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/room"
)

// ban keeps a user out of a room until a time. It is a row of the backplane's table. Each node
// watches the table, so every node refuses the user.
type ban struct {
	Room  room.Name   `json:"room"`
	User  room.UserID `json:"user"`
	Until time.Time   `json:"until"`
}

// banPrefix is the prefix of the keys of bans.
const banPrefix = "ban/"

// key returns the key of the ban's row. It is unambiguous because a room name has no slash.
func (b ban) key() string { return banPrefix + string(b.Room) + "/" + string(b.User) }

// parseBan parses a row that is not deleted.
func parseBan(row backplane.Row) (b ban, err error) {
	err = json.Unmarshal(row.Value, &b)
	return b, err
}

// bans is the node's copy of the bans in the table. The limit of the table bounds its size.
type bans struct {
	mu      sync.Mutex        // guards the fields below; taken under a counter's mutex
	rows    map[string]banRow // by key
	changed chan struct{}     // closed when a row is applied
}

// banRow is the copy of one row.
type banRow struct {
	until   time.Time
	applied bool // the node has removed the user
}

// set adds a row. From now on every join of the user is refused.
func (b *bans) set(key string, until time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rows[key] = banRow{until: until}
}

// remove removes a row.
func (b *bans) remove(key string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.rows, key)
}

// apply notes that the user of a row was removed. It closes the channel that applied returned.
func (b *bans) apply(key string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if row, there := b.rows[key]; there {
		b.rows[key] = banRow{row.until, true}
	}
	close(b.changed)
	b.changed = make(chan struct{})
}

// end returns the end of the user's ban from the room, or the zero time if there is none.
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

// applied reports whether the row has this end and was applied. It also returns a channel that is
// closed when the next row is applied.
func (b *bans) applied(key string, until time.Time) (bool, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	row := b.rows[key]
	return row.applied && row.until.Equal(until), b.changed
}

// size returns the number of rows.
func (b *bans) size() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.rows)
}
