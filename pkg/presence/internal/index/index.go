// Package index finds objects by a string that they contain. It needs a third of the memory of a
// map, because a map stores the string of each entry once more, and a small map has space for eight
// entries. It is used where a server has an entry per connection or a set per room. An index grows
// in one step, which takes some milliseconds with 100,000 entries; a map of Go grows in parts.
package index

import (
	"hash/maphash"
	"iter"
	"math/bits"
)

// seed makes the places of the entries unpredictable, so that a client cannot choose strings that
// slow down a server.
var seed = maphash.MakeSeed()

// Keyed is a pointer to an object with a key, which never changes.
type Keyed[K ~string] interface {
	comparable
	Key() K
}

// Index is a set of objects with different keys. The zero value is empty. It is not safe for
// concurrent use.
//
// It is a hash table with linear probing: an object is in the first free slot from its home on. A
// slot between its home and its place is never free.
type Index[K ~string, E Keyed[K]] struct {
	slots []E // the zero value is a free slot
	size  int
}

// Len returns the number of objects.
func (x *Index[K, E]) Len() int { return x.size }

// Get returns the object with the key, or nil.
func (x *Index[K, E]) Get(key K) (found E) {
	if at, there := x.find(key); there {
		return x.slots[at]
	}
	return found
}

// Put adds the object. It replaces an object with the same key.
func (x *Index[K, E]) Put(e E) {
	at, there := x.find(e.Key())
	if !there {
		if x.size >= len(x.slots)-len(x.slots)/4 {
			x.resize(len(x.slots)*3/2 + 1)
			at, _ = x.find(e.Key())
		}
		x.size++
	}
	x.slots[at] = e
}

// Delete removes the object with the key, if there is one.
func (x *Index[K, E]) Delete(key K) {
	gap, there := x.find(key)
	if !there {
		return
	}
	var none E
	x.slots[gap] = none
	x.size--
	if x.size < len(x.slots)/8 {
		x.resize(2 * x.size)
		return
	}
	// Move each of the following objects to the gap, unless its home is behind the gap.
	for at := x.after(gap); x.slots[at] != none; at = x.after(at) {
		home := x.home(x.slots[at].Key())
		if x.distance(home, at) >= x.distance(gap, at) {
			x.slots[gap], x.slots[at] = x.slots[at], none
			gap = at
		}
	}
}

// All iterates over the objects in any order. The loop must not change the index.
func (x *Index[K, E]) All() iter.Seq[E] {
	var none E
	return func(yield func(E) bool) {
		for _, e := range x.slots {
			if e != none && !yield(e) {
				return
			}
		}
	}
}

// find returns the slot of the object with the key. If there is none, it returns the free slot for
// the object. A full index has no free slot; then at is invalid.
func (x *Index[K, E]) find(key K) (at int, there bool) {
	var none E
	if len(x.slots) == 0 {
		return 0, false
	}
	at = x.home(key)
	for range len(x.slots) {
		switch e := x.slots[at]; {
		case e == none:
			return at, false
		case e.Key() == key:
			return at, true
		}
		at = x.after(at)
	}
	return 0, false
}

func (x *Index[K, E]) home(key K) int {
	at, _ := bits.Mul64(maphash.String(seed, string(key)), uint64(len(x.slots)))
	return int(at)
}

func (x *Index[K, E]) after(at int) int {
	if at++; at < len(x.slots) {
		return at
	}
	return 0
}

// distance returns the number of steps from a slot to another one.
func (x *Index[K, E]) distance(from, to int) int {
	if to < from {
		return to - from + len(x.slots)
	}
	return to - from
}

func (x *Index[K, E]) resize(slots int) {
	old := *x
	*x = Index[K, E]{size: old.size}
	if slots == 0 {
		return
	}
	x.slots = make([]E, slots)
	for e := range old.All() {
		at, _ := x.find(e.Key())
		x.slots[at] = e
	}
}
