package fair

import "container/heap"

// Ranking is a set of ranks, the one with the greatest weight first. Of ranks with the same weight,
// the one with the lowest order is first. The zero value is empty. It is not safe for concurrent
// use. Set and Place take O(log n).
type Ranking[T any] struct{ ranks ranks[T] }

// Rank is one entry of a [Ranking]. Make it with Value set, and use it in one ranking only.
type Rank[T any] struct {
	Value  T
	weight int
	order  uint64
	index  int // in the ranking, plus one; 0: not in it
}

// Weight returns the weight, or 0 if the rank is in no ranking.
func (r *Rank[T]) Weight() int { return r.weight }

// Set changes the weight of a rank. It adds a rank that is not in the ranking. The weight 0 removes
// it.
func (r *Ranking[T]) Set(rank *Rank[T], weight int) {
	rank.weight = weight
	switch {
	case weight == 0 && rank.index > 0:
		heap.Remove(&r.ranks, rank.index-1)
	case weight == 0:
	case rank.index > 0:
		heap.Fix(&r.ranks, rank.index-1)
	default:
		heap.Push(&r.ranks, rank)
	}
}

// Add adds n, which may be negative, to the weight of a rank.
func (r *Ranking[T]) Add(rank *Rank[T], n int) { r.Set(rank, rank.weight+n) }

// Place is like Set, but also changes the order of the rank, which is 0 at first.
func (r *Ranking[T]) Place(rank *Rank[T], weight int, order uint64) {
	if rank.weight != weight || rank.order != order {
		rank.order = order
		r.Set(rank, weight)
	}
}

// Largest returns the rank with the greatest weight, or nil if the ranking is empty.
func (r *Ranking[T]) Largest() *Rank[T] {
	if len(r.ranks) == 0 {
		return nil
	}
	return r.ranks[0]
}

// ranks implements [heap.Interface].
type ranks[T any] []*Rank[T]

func (r ranks[T]) Len() int { return len(r) }
func (r ranks[T]) Less(i, j int) bool {
	return r[i].weight > r[j].weight || r[i].weight == r[j].weight && r[i].order < r[j].order
}
func (r ranks[T]) Swap(i, j int) {
	r[i], r[j] = r[j], r[i]
	r[i].index, r[j].index = i+1, j+1
}

func (r *ranks[T]) Push(x any) {
	rank := x.(*Rank[T])
	*r = append(*r, rank)
	rank.index = len(*r)
}

func (r *ranks[T]) Pop() any {
	last := len(*r) - 1
	rank := (*r)[last]
	(*r)[last] = nil
	*r = (*r)[:last]
	rank.index = 0
	return rank
}
