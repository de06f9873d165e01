package room

import (
	"errors"
	"time"
)

// ErrBansFull says that no more users can be kept out of rooms.
var ErrBansFull = errors.New("too many users are kept out of rooms just now")

// Bans are the users that rooms refuse, each for a time.
type Bans struct {
	most  int
	until map[ban]time.Time
}

type ban struct {
	room Name
	user UserID
}

// NewBans returns an empty table of so many bans at most.
func NewBans(most int) Bans { return Bans{most: most, until: map[ban]time.Time{}} }

// Add has the room refuse the user up to a time. The error is [ErrBansFull].
func (b *Bans) Add(room Name, u UserID, until, now time.Time) error {
	if len(b.until) >= b.most {
		b.Expire(now)
	}
	if len(b.until) >= b.most {
		return ErrBansFull
	}
	b.until[ban{room, u}] = until
	return nil
}

// Until returns when the room takes the user again; the zero time if it does
// so now.
func (b *Bans) Until(room Name, u UserID, now time.Time) time.Time {
	if end := b.until[ban{room, u}]; now.Before(end) {
		return end
	}
	return time.Time{}
}

// Len returns how many there are, those included that have ended since the last
// Expire.
func (b *Bans) Len() int { return len(b.until) }

// Expire forgets the bans that have ended.
func (b *Bans) Expire(now time.Time) {
	for key, end := range b.until {
		if !now.Before(end) {
			delete(b.until, key)
		}
	}
}
