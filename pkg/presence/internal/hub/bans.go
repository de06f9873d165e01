package hub

import (
	"encoding/json"
	"sync"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/room"
)

// ban keeps a user out of a room for a time. It is a row of the backplane's table, which each node
// watches, so that every node refuses the user.
type ban struct {
	Room  room.Name   `json:"room"`
	User  room.UserID `json:"user"`
	Until time.Time   `json:"until"`
}

// banPrefix begins the keys of the rows that are bans.
const banPrefix = "ban/"

// key is the key of the ban's row: a room's name has no slash.
func (b ban) key() string { return banPrefix + string(b.Room) + "/" + string(b.User) }

// parseBan reads a row that is not deleted.
func parseBan(row backplane.Row) (b ban, err error) {
	err = json.Unmarshal(row.Value, &b)
	return b, err
}

// bans is the node's copy of the rows. Its size is bounded by the table.
type bans struct {
	mu      sync.Mutex // guards what follows; taken under a room's
	rows    map[string]banRow
	changed chan struct{} // closed when a row is applied
}

// banRow is the end of a ban.
type banRow struct {
	until   time.Time
	applied bool // the user was removed
}

// set notes a row, for every join from now on.
func (b *bans) set(key string, until time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rows[key] = banRow{until: until}
}

// remove notes that a row is gone.
func (b *bans) remove(key string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.rows, key)
}

// apply notes that the user of a row was removed, and wakes the callers of applied.
func (b *bans) apply(key string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if row, there := b.rows[key]; there {
		b.rows[key] = banRow{row.until, true}
	}
	close(b.changed)
	b.changed = make(chan struct{})
}

// end returns the end of the user's ban from the room; the zero time if there is none.
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

// applied reports whether the row has that end and was applied, and returns a channel that is
// closed when the next row is.
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
