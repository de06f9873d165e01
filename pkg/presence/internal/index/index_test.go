package index_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"example.com/presence/pkg/presence/internal/index"
)

type user struct{ id string }

func (u *user) Key() string { return u.id }

// An index agrees with a map while it grows and shrinks, at each size from 0 to 300.
func TestIndex(t *testing.T) {
	var x index.Index[string, *user]
	want := map[string]*user{}
	rnd := rand.New(rand.NewPCG(1, 2))
	for step := range 60_000 {
		id := fmt.Sprint(rnd.IntN(300))
		if growing := step/10_000%2 == 0; rnd.IntN(4) > 0 == growing {
			u := &user{id}
			x.Put(u)
			want[id] = u
		} else {
			x.Delete(id)
			delete(want, id)
		}
		if got := x.Get(id); got != want[id] {
			t.Fatalf("step %d: got %v for %s, want %v", step, got, id, want[id])
		}
		if x.Len() != len(want) {
			t.Fatalf("step %d: got length %d, want %d", step, x.Len(), len(want))
		}
		if step%100 > 0 {
			continue
		}
		seen := 0
		for u := range x.All() {
			if seen++; want[u.id] != u {
				t.Fatalf("step %d: got %v in the iteration, want %v", step, u, want[u.id])
			}
		}
		for id, u := range want {
			if x.Get(id) != u {
				t.Fatalf("step %d: got %v for %s, want %v", step, x.Get(id), id, u)
			}
		}
		if seen != len(want) {
			t.Fatalf("step %d: got %d in the iteration, want %d", step, seen, len(want))
		}
	}
}

// An index of the zero value, and one that became empty, has no object.
func TestEmpty(t *testing.T) {
	var x index.Index[string, *user]
	for range 2 {
		x.Delete("alice")
		if got := x.Get("alice"); got != nil || x.Len() != 0 {
			t.Errorf("got %v and length %d, want an empty index", got, x.Len())
		}
		x.Put(&user{"alice"})
		x.Delete("alice")
	}
}
