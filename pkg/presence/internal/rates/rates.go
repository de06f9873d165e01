// Package rates limits how much each user does per second.
package rates

import (
	"container/list"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// MaxUsers is the maximum number of token buckets of a [Table]. One more replaces the bucket that
// was not used for the longest time, so its user has a full bucket again. A bucket takes some 300
// bytes, and the id of its user.
const MaxUsers = 1 << 16

// Table limits how much each user does, with one token bucket for each user. It is safe for
// concurrent use.
type Table struct {
	limit rate.Limit // tokens per second; negative: unlimited
	burst int        // size of a bucket, in tokens

	mu     sync.Mutex // guards the fields below
	users  map[string]*list.Element
	recent list.List // of *userRate, the most recently used first
}

type userRate struct {
	user   string
	bucket *rate.Limiter
}

// NewTable returns a table with full buckets. A negative number of tokens per second means
// unlimited. burst is the size of a bucket.
func NewTable(perSecond float64, burst int) *Table {
	return &Table{limit: rate.Limit(perSecond), burst: burst, users: map[string]*list.Element{}}
}

// Take takes cost tokens from the user's bucket, if it has at least one. Otherwise Take takes none,
// and returns the time until the bucket has one.
//
// A cost may exceed the tokens of the bucket, and even its size. The bucket is then in debt, and
// the user waits until the debt is paid. So the mean rate holds, and no request is too large to be
// accepted at all.
func (r *Table) Take(user string, cost int, now time.Time) (wait time.Duration) {
	return r.take(user, cost, now, false)
}

// Charge is like [Table.Take], but takes the tokens in any case.
func (r *Table) Charge(user string, cost int, now time.Time) { r.take(user, cost, now, true) }

// Wait returns the time until the user's bucket has a token, or 0 if it has one.
func (r *Table) Wait(user string, now time.Time) time.Duration { return r.take(user, 0, now, false) }

func (r *Table) take(user string, cost int, now time.Time, force bool) (wait time.Duration) {
	if r.limit < 0 {
		return 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	bucket := r.bucketLocked(user, now)
	if tokens := bucket.TokensAt(now); tokens < 1 && !force {
		seconds := (1 - tokens) / float64(r.limit)
		return time.Duration(min(seconds, time.Hour.Seconds()) * float64(time.Second))
	}
	if cost > r.burst { // a reservation has at most the size of the bucket
		bucket.SetBurstAt(now, cost)
		defer bucket.SetBurstAt(now, r.burst)
	}
	bucket.ReserveN(now, cost)
	return 0
}

// bucketLocked returns the user's bucket, which becomes the most recently used one.
func (r *Table) bucketLocked(user string, now time.Time) *rate.Limiter {
	if e := r.users[user]; e != nil {
		r.recent.MoveToFront(e)
		return e.Value.(*userRate).bucket
	}
	// A full bucket is like a new one. Two are freed for each new one, so that those of users that
	// are gone do not stay.
	for range 2 {
		if u := r.oldestLocked(); u != nil && (u.bucket.TokensAt(now) >= float64(r.burst) || len(r.users) >= MaxUsers) {
			r.recent.Remove(r.recent.Back())
			delete(r.users, u.user)
		}
	}
	u := &userRate{user, rate.NewLimiter(r.limit, r.burst)}
	r.users[user] = r.recent.PushFront(u)
	return u.bucket
}

// oldestLocked returns the user whose bucket was not used for the longest time, or nil.
func (r *Table) oldestLocked() *userRate {
	if e := r.recent.Back(); e != nil {
		return e.Value.(*userRate)
	}
	return nil
}
