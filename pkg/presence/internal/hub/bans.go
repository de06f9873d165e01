package hub

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/room"
)

// ban keeps a user out of a room for a time. It is stored as a row of the backplane's table. Every
// node watches the table, so every node rejects the user. The ban ends with the row, or when the
// row is deleted. The clocks of nodes may differ, so a row contains no time.
type ban struct {
	V    int         `json:"v"`
	ID   string      `json:"id"` // distinguishes the rows of one key
	Room room.Name   `json:"room"`
	User room.UserID `json:"user"`
}

const banPrefix = "ban/"

// key returns the row key of the ban. The key is unambiguous, because a room name contains no
// slash.
func (b ban) key() string { return banPrefix + string(b.Room) + "/" + string(b.User) }

// parseBan parses a ban row. A deleted row has no value, so its ban has no ID. The names share the
// memory of the key, which the engine keeps.
func parseBan(row backplane.Row) (b ban, err error) {
	name, user, ok := strings.Cut(strings.TrimPrefix(row.Key, banPrefix), "/")
	switch {
	case !ok:
		return ban{}, fmt.Errorf("row key %.80q malformed", row.Key)
	case row.Deleted:
	default:
		if err = parseFrame(row.Value, &b, &b.V); err == nil && (b.key() != row.Key || b.ID == "" || b.Room == "" || b.User == "") {
			err = fmt.Errorf("ban malformed (key %.80q)", row.Key)
		}
	}
	b.Room, b.User = room.Name(name), room.UserID(user)
	return b, err
}

// encode returns the value of the row. The engine keeps it, so it has no spare capacity.
func (b ban) encode() []byte { return bytes.Clone(encodeFrame(b)) }

// Ban is a ban of a user from a room.
type Ban struct {
	ID    room.UserID `json:"id"`
	Until time.Time   `json:"until"` // when the ban ends, in UTC, rounded up to a second
}

// bans is the node's copy of the bans in the backplane's table. Its size is bounded, because the
// table has a row limit.
type bans struct {
	mu      sync.Mutex // guards the fields below; acquired under a counter's mutex
	rooms   map[room.Name]map[room.UserID]banRow
	count   int           // number of all rows
	changed chan struct{} // closed when the next row, or its deletion, is applied
}

// banRow is a ban, by the clock of this node.
type banRow struct {
	until   time.Time
	applied []string // ids of the last rows that the node has applied, at most maxApplied
}

// maxApplied is the number of rows of one key whose application a node remembers. Several admins
// may remove a user at the same time.
const maxApplied = 4

// set adds a row, or replaces it. From now on, joins of the banned user are rejected.
func (b *bans) set(name room.Name, user room.UserID, until time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	rows := b.rooms[name]
	if rows == nil {
		rows = map[room.UserID]banRow{}
		b.rooms[name] = rows
	}
	row, there := rows[user]
	if !there {
		b.count++
	}
	row.until = until
	rows[user] = row
}

func (b *bans) remove(name room.Name, user room.UserID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	rows := b.rooms[name]
	if _, there := rows[user]; !there {
		return
	}
	b.count--
	if delete(rows, user); len(rows) == 0 {
		delete(b.rooms, name)
	}
}

// apply records that the user of the row was removed from the room, or readmitted if the row was
// deleted. It closes the channel that applied returns.
func (b *bans) apply(name room.Name, user room.UserID, id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if row, there := b.rooms[name][user]; there {
		row.applied = append(slices.Clone(row.applied[max(0, len(row.applied)+1-maxApplied):]), id)
		b.rooms[name][user] = row
	}
	close(b.changed)
	b.changed = make(chan struct{})
}

// end returns the time at which the user's ban from the room ends, or the zero time if there is
// none.
func (b *bans) end(name room.Name, user room.UserID, now time.Time) time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	if row := b.rooms[name][user]; now.Before(row.until) {
		return row.until
	}
	return time.Time{}
}

// check returns a [*BannedError] if the user is banned from the room.
func (b *bans) check(name room.Name, user room.UserID, now time.Time) error {
	if until := b.end(name, user, now); !until.IsZero() {
		return &BannedError{name, until}
	}
	return nil
}

// after returns up to limit bans from a room of users with greater ids than after, sorted by id. It
// omits bans that have ended. The slice is never nil. more reports whether further bans follow. A
// room may have all 100,000 bans, so after never sorts much more than the page.
func (b *bans) after(name room.Name, after room.UserID, limit int, now time.Time) (page []Ban, more bool) {
	byID := func(x, y Ban) int { return cmp.Compare(x.ID, y.ID) }
	page = []Ban{}
	var last room.UserID // no later user is on the page; empty: not known
	b.mu.Lock()
	for user, row := range b.rooms[name] {
		if user <= after || last != "" && user > last || !now.Before(row.until) {
			continue
		}
		page = append(page, Ban{user, shownEnd(row.until)})
		if len(page)/2 > limit {
			slices.SortFunc(page, byID)
			page, last = page[:limit+1], page[limit].ID
		}
	}
	b.mu.Unlock() // a page without a limit takes long to sort, and joins need the lock
	slices.SortFunc(page, byID)
	return page[:min(limit, len(page))], len(page) > limit
}

// of returns the ends of the bans from a room.
func (b *bans) of(name room.Name) map[room.UserID]time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	ends := map[room.UserID]time.Time{}
	for user, row := range b.rooms[name] {
		ends[user] = row.until
	}
	return ends
}

// applied reports whether the node has applied the row with this id, or, without an id, whether the
// user is not banned. It also returns a channel that is closed when the next row is applied.
func (b *bans) applied(name room.Name, user room.UserID, id string, now time.Time) (bool, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	row := b.rooms[name][user]
	if id == "" {
		return !now.Before(row.until), b.changed
	}
	return slices.Contains(row.applied, id), b.changed
}

func (b *bans) size() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.count
}
