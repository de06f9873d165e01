package room

import (
	"crypto/sha256"
	"errors"
	"time"
)

// ErrRetriesFull says that more messages with an id of their sender's came than
// can be known again.
var ErrRetriesFull = errors.New("too many messages with ids of their own")

// Retries knows messages again by the ids that their senders gave them, for a
// while, so that a message that is sent again is the same one.
type Retries struct {
	age   time.Duration
	most  int
	seqs  map[retry]uint64
	order []sent // by time
}

// retry is a hash of room, user and id: what is known takes the same room
// however long those are.
type retry [16]byte

type sent struct {
	retry
	at time.Time
}

// NewRetries returns one that knows a message for that long, and so many at
// once.
func NewRetries(age time.Duration, most int) Retries {
	return Retries{age: age, most: most, seqs: map[retry]uint64{}}
}

// Find returns the place of the message that the user sent to the room with
// this id.
func (r *Retries) Find(room Name, u UserID, id string, now time.Time) (seq uint64, found bool) {
	r.Expire(now)
	seq, found = r.seqs[hash(room, u, id)]
	return seq, found
}

// Len returns how many messages are known.
func (r *Retries) Len() int { return len(r.seqs) }

// Full reports whether no message can be added.
func (r *Retries) Full(now time.Time) bool {
	r.Expire(now)
	return len(r.seqs) >= r.most
}

// Add remembers the message.
func (r *Retries) Add(room Name, u UserID, id string, seq uint64, now time.Time) {
	key := hash(room, u, id)
	r.seqs[key] = seq
	r.order = append(r.order, sent{key, now})
}

// Expire forgets what is too old to be sent again.
func (r *Retries) Expire(now time.Time) {
	for len(r.order) > 0 && now.Sub(r.order[0].at) >= r.age {
		delete(r.seqs, r.order[0].retry)
		r.order = r.order[1:]
	}
	if len(r.order) == 0 {
		r.order = nil
	}
}

// hash is of the three with a byte between that neither of the first two can
// hold.
func hash(room Name, u UserID, id string) retry {
	sum := sha256.Sum256([]byte(string(room) + "\x00" + string(u) + "\x00" + id))
	return retry(sum[:16])
}
