package room

import (
	"cmp"
	"container/heap"
	"time"
)

// ends holds the next end of each user: the first time at which one of its grace periods or its ban
// ends. A user has at most one entry, so a part or a row that arrives again adds none.
type ends struct {
	users map[UserID]*userEnd
	queue endQueue // the same entries
}

type userEnd struct {
	at    time.Time
	user  UserID
	index int // in the queue
}

// set replaces the end of a user. The zero time removes it.
func (es *ends) set(u UserID, at time.Time) {
	e := es.users[u]
	switch {
	case at.IsZero() && e == nil:
	case at.IsZero():
		delete(es.users, u)
		heap.Remove(&es.queue, e.index)
	case e == nil:
		e = &userEnd{at: at, user: u}
		es.users[u] = e
		heap.Push(&es.queue, e)
	case !e.at.Equal(at):
		e.at = at
		heap.Fix(&es.queue, e.index)
	}
}

// first returns the entry with the earliest end, or nil.
func (es *ends) first() *userEnd {
	if len(es.queue) == 0 {
		return nil
	}
	return es.queue[0]
}

// endQueue is a heap by time, and then by user, so that all nodes end grace periods of the same
// time in the same order.
type endQueue []*userEnd

func (q endQueue) Len() int { return len(q) }
func (q endQueue) Less(i, j int) bool {
	return cmp.Or(q[i].at.Compare(q[j].at), cmp.Compare(q[i].user, q[j].user)) < 0
}
func (q endQueue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}
func (q *endQueue) Push(x any) {
	e := x.(*userEnd)
	e.index = len(*q)
	*q = append(*q, e)
}
func (q *endQueue) Pop() any {
	last := len(*q) - 1
	e := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	return e
}
