package hub

import "container/heap"

// expiries is a heap by the time of the next step.
type expiries []*expiry

// set adds the expiry, or moves it after its next step has changed.
func (q *expiries) set(e *expiry) {
	if e.index < 0 {
		heap.Push(q, e)
	} else {
		heap.Fix(q, int(e.index))
	}
}

// remove removes the expiry, if it is in the queue.
func (q *expiries) remove(e *expiry) {
	if e.index >= 0 {
		heap.Remove(q, int(e.index))
	}
}

// Len implements [heap.Interface], as do the methods below.
func (q expiries) Len() int           { return len(q) }
func (q expiries) Less(i, j int) bool { return q[i].next < q[j].next }
func (q expiries) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = int32(i), int32(j)
}
func (q *expiries) Push(x any) {
	e := x.(*expiry)
	e.index = int32(len(*q))
	*q = append(*q, e)
}
func (q *expiries) Pop() any {
	last := len(*q) - 1
	e := (*q)[last]
	e.index, (*q)[last] = -1, nil
	*q = (*q)[:last]
	return e
}
