package fair

import (
	"maps"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestAccounts compares accounts with a plain map, after random changes.
func TestAccounts(t *testing.T) {
	type pair struct{ id, place int }
	random := rand.New(rand.NewPCG(1, 2))
	var accounts Accounts[int, int]
	want := map[pair]int{}
	shares := map[pair]*Share[int, int]{}
	for step := range 20_000 {
		p := pair{random.IntN(6), random.IntN(6)}
		if share := shares[p]; share != nil && random.IntN(3) > 0 {
			n := share.Units()
			if random.IntN(2) == 0 {
				n = 1 + random.IntN(n)
			}
			accounts.Take(share, n)
			if want[p] -= n; want[p] == 0 {
				delete(want, p)
				delete(shares, p)
			}
		} else {
			n := 1 + random.IntN(1000)
			shares[p] = accounts.Add(p.id, p.place, n)
			want[p] += n
		}
		got, totals := map[pair]int{}, map[int]int{}
		for s := range accounts.All() {
			got[pair{s.Holder(), s.Place()}] = s.Units()
			totals[s.Holder()] += s.Units()
		}
		if !maps.Equal(got, want) {
			t.Fatalf("step %d: got %v, want %v", step, got, want)
		}
		gotTotals := map[int]int{}
		for id, h := range accounts.holders {
			gotTotals[id] = h.rank.Weight()
		}
		if !maps.Equal(gotTotals, totals) || len(accounts.ranking.ranks) != len(totals) {
			t.Fatalf("step %d: got totals %v in %d ranks, want %v", step, gotTotals, len(accounts.ranking.ranks), totals)
		}
		s := accounts.Largest()
		if len(want) == 0 {
			if s != nil {
				t.Fatalf("step %d: got a largest share of %d units, want none", step, s.Units())
			}
			continue
		}
		most, largest := 0, 0
		for _, n := range totals {
			most = max(most, n)
		}
		for p, n := range want {
			if p.id == s.Holder() {
				largest = max(largest, n)
			}
		}
		if totals[s.Holder()] != most || s.Units() != largest {
			t.Fatalf("step %d: got a share of %d units of a holder of %d, want %d and %d", step, s.Units(), totals[s.Holder()], largest, most)
		}
	}
}

// A change of the largest share moves only O(log n) ranks: with many places of one holder, and with
// many holders of one place each.
func TestAccountsSteps(t *testing.T) {
	const n = 100_000
	limit := bits.Len(n) + 1 // the height of the heap, and the last rank if one is removed
	for name, id := range map[string]func(i int) int{
		"one holder": func(int) int { return 0 }, "many holders": func(i int) int { return i },
	} {
		var accounts Accounts[int, int]
		for i := range n {
			accounts.Add(id(i), i, 1000+i%977)
		}
		indexes := func() (indexes map[any]int) {
			indexes = make(map[any]int, 2*n)
			for _, h := range accounts.holders {
				indexes[h] = h.rank.index
			}
			for s := range accounts.All() {
				indexes[s] = s.rank.index
			}
			return indexes
		}
		before := indexes()
		for step := range 4 {
			units := []int{500, accounts.Largest().Units()}[step%2]
			accounts.Take(accounts.Largest(), units)
			after := indexes()
			moved := 0
			for rank, index := range after {
				if before[rank] != index {
					moved++
				}
			}
			if moved > limit {
				t.Errorf("%s: taking %d units moved %d ranks, want at most %d", name, units, moved, limit)
			}
			before = after
		}
		if got := len(slices.Collect(accounts.All())); got != n-2 {
			t.Errorf("%s: got %d shares, want %d", name, got, n-2)
		}
	}
}
