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
