package presence

import (
	"sync"
	"time"

	"golang.org/x/time/rate"

	"example.com/presence/pkg/presence/room"
)

const (
	// maxRates is the maximum number of token buckets. Each user has one.
	maxRates = 1 << 20
	// ratesAge is the interval at which full buckets are deleted.
	ratesAge = time.Minute
)

// rates holds the message rate limits: one token bucket per user.
type rates struct {
	limit rate.Limit // negative: unlimited
	burst int

	mu    sync.Mutex // guards users and timer
	users map[room.UserID]*rate.Limiter
	timer *time.Timer // calls expire; nil if there is no bucket
}

func newRates(perSecond float64, burst int) *rates {
	return &rates{limit: rate.Limit(perSecond), burst: burst, users: map[room.UserID]*rate.Limiter{}}
}

// take takes one token from the user's bucket. If the bucket is empty, take returns the time until
// the next token is available.
func (r *rates) take(user room.UserID, now time.Time) (wait time.Duration) {
	if r.limit < 0 {
		return 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	bucket := r.users[user]
	if bucket == nil {
		if len(r.users) >= maxRates {
			return time.Second // retry until expire has deleted some buckets
		}
		bucket = rate.NewLimiter(r.limit, r.burst)
		r.users[user] = bucket
		if r.timer == nil {
			r.timer = time.AfterFunc(ratesAge, r.expire)
		}
	}
	if bucket.AllowN(now, 1) {
		return 0
	}
	seconds := (1 - bucket.TokensAt(now)) / float64(r.limit)
	return time.Duration(min(seconds, time.Hour.Seconds()) * float64(time.Second))
}

// expire deletes the full buckets. This changes no limit, because a new bucket is full too.
func (r *rates) expire() {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	for user, bucket := range r.users {
		if bucket.TokensAt(now) >= float64(r.burst) {
			delete(r.users, user)
		}
	}
	r.timer = nil
	if len(r.users) > 0 {
		r.timer = time.AfterFunc(ratesAge, r.expire)
	}
}
