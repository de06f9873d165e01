package fair

import (
	"iter"
	"maps"
)

// Accounts counts units for each pair of a holder and a place: for example, the bytes of each user
// in each room. It finds the share that must give way first. The zero value is empty. It is not
// safe for concurrent use. Add and Take need O(log n) steps, and Largest needs one.
type Accounts[H, P comparable] struct {
	ranking Ranking[*holder[H, P]] // weight: the units of the holder in all places
	holders map[H]*holder[H, P]
	shares  map[pair[H, P]]*Share[H, P]
}

// Share has the units of one holder in one place.
type Share[H, P comparable] struct {
	place  P
	holder *holder[H, P]
	rank   Rank[*Share[H, P]] // in holder.shares
}

type holder[H, P comparable] struct {
	id     H
	rank   Rank[*holder[H, P]]   // in Accounts.ranking
	shares Ranking[*Share[H, P]] // weight: the units of the share
}

type pair[H, P comparable] struct {
	holder *holder[H, P]
	place  P
}

// Holder returns the holder of the share.
func (s *Share[H, P]) Holder() H { return s.holder.id }

// Place returns the place of the share.
func (s *Share[H, P]) Place() P { return s.place }

// Units returns the units of the share. It is 0 after Take has removed them all.
func (s *Share[H, P]) Units() int { return s.rank.Weight() }

// Add adds units to the share of a holder in a place, and returns this share. units must be
// positive.
func (a *Accounts[H, P]) Add(id H, place P, units int) *Share[H, P] {
	if a.holders == nil {
		a.holders, a.shares = map[H]*holder[H, P]{}, map[pair[H, P]]*Share[H, P]{}
	}
	h := a.holders[id]
	if h == nil {
		h = &holder[H, P]{id: id}
		h.rank.Value = h
		a.holders[id] = h
	}
	s := a.shares[pair[H, P]{h, place}]
	if s == nil {
		s = &Share[H, P]{place: place, holder: h}
		s.rank.Value = s
		a.shares[pair[H, P]{h, place}] = s
	}
	a.change(s, units)
	return s
}

// Take removes units from a share: a positive number, and at most s.Units(). A share without units
// is removed. It must not be used again.
func (a *Accounts[H, P]) Take(s *Share[H, P], units int) {
	a.change(s, -units)
	if s.Units() > 0 {
		return
	}
	delete(a.shares, pair[H, P]{s.holder, s.place})
	if s.holder.rank.Weight() == 0 {
		delete(a.holders, s.holder.id)
	}
}

func (a *Accounts[H, P]) change(s *Share[H, P], n int) {
	s.holder.shares.Add(&s.rank, n)
	a.ranking.Add(&s.holder.rank, n)
}

// Largest returns the largest share of the holder with the most units in all places. It returns nil
// if there is no share.
func (a *Accounts[H, P]) Largest() *Share[H, P] {
	first := a.ranking.Largest()
	if first == nil {
		return nil
	}
	return first.Value.shares.Largest().Value
}

// All iterates over all shares, in no particular order.
func (a *Accounts[H, P]) All() iter.Seq[*Share[H, P]] { return maps.Values(a.shares) }
