package presence

import (
	"sync"
	"time"

	"golang.org/x/time/rate"

	"example.com/presence/pkg/presence/room"
)

// maxRates bounds the users whose messages are being counted.
const maxRates = 1 << 20

// rates are the users' token buckets.
type rates struct {
	limit rate.Limit
	burst int

	mu    sync.Mutex // guards users
	users map[room.UserID]*rate.Limiter
}

func newRates(perSecond float64, burst int) rates {
	return rates{limit: rate.Limit(perSecond), burst: burst, users: map[room.UserID]*rate.Limiter{}}
}

// take takes a token of the user's. If there is none it returns how long until
// there is.
func (r *rates) take(user room.UserID, now time.Time) (wait time.Duration) {
	if r.limit < 0 {
		return 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	bucket := r.users[user]
	if bucket == nil {
		if len(r.users) >= maxRates {
			return time.Second // until Server.sweep has made room
		}
		bucket = rate.NewLimiter(r.limit, r.burst)
		r.users[user] = bucket
	}
	if bucket.AllowN(now, 1) {
		return 0
	}
	seconds := (1 - bucket.TokensAt(now)) / float64(r.limit)
	return time.Duration(min(seconds, time.Hour.Seconds()) * float64(time.Second))
}

// expire forgets the users whose bucket is full again: a new one is the same.
func (r *rates) expire(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for user, bucket := range r.users {
		if bucket.TokensAt(now) >= float64(r.burst) {
			delete(r.users, user)
		}
	}
}
