package fair

import (
	"math/rand/v2"
	"testing"
)

// TestRanking compares a ranking with a plain map, after random changes.
func TestRanking(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var ranking Ranking[int]
	ranks, weights := map[int]*Rank[int]{}, map[int]int{}
	for step := range 20_000 {
		id := random.IntN(40)
		if ranks[id] == nil {
			ranks[id] = &Rank[int]{Value: id}
		}
		if random.IntN(4) == 0 {
			weights[id] = 0
			ranking.Set(ranks[id], 0)
		} else {
			n := random.IntN(100)
			weights[id] += n
			ranking.Add(ranks[id], n)
		}
		most := 0
		for _, w := range weights {
			most = max(most, w)
		}
		switch largest := ranking.Largest(); {
		case largest == nil:
			if most != 0 {
				t.Fatalf("step %d: the ranking is empty, want the weight %d", step, most)
			}
		case largest.Weight() != most || weights[largest.Value] != most:
			t.Fatalf("step %d: largest has the weight %d, want %d", step, largest.Weight(), most)
		}
		if ranks[id].Weight() != weights[id] {
			t.Fatalf("step %d: weight of %d is %d, want %d", step, id, ranks[id].Weight(), weights[id])
		}
	}
}

// TestRankingOrder compares the order of ranks with the same weight with a plain map.
func TestRankingOrder(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	var ranking Ranking[int]
	type place struct {
		weight int
		order  uint64
	}
	ranks, places := map[int]*Rank[int]{}, map[int]place{}
	for step := range 20_000 {
		id := random.IntN(40)
		if ranks[id] == nil {
			ranks[id] = &Rank[int]{Value: id}
		}
		places[id] = place{random.IntN(4), uint64(step + 1)}
		if random.IntN(2) == 0 {
			places[id] = place{random.IntN(4), uint64(random.IntN(step + 1))}
		}
		ranking.Place(ranks[id], places[id].weight, places[id].order)
		var first place
		for _, p := range places {
			if p.weight > first.weight || p.weight == first.weight && p.order < first.order {
				first = p
			}
		}
		switch largest := ranking.Largest(); {
		case largest == nil:
			if first.weight != 0 {
				t.Fatalf("step %d: the ranking is empty, want %+v", step, first)
			}
		case places[largest.Value] != first:
			t.Fatalf("step %d: got %+v first, want %+v", step, places[largest.Value], first)
		}
	}
}
