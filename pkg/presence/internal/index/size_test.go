package index

import (
	"fmt"
	"testing"
)

type entry string

func (e *entry) Key() string { return string(*e) }

// An index has one to two slots per object while it grows, and at least a quarter of them are free.
// It shrinks with its objects.
func TestSize(t *testing.T) {
	var x Index[string, *entry]
	const entries = 10_000
	for i := range entries {
		e := entry(fmt.Sprint(i))
		x.Put(&e)
		if free := len(x.slots) - x.Len(); i > 10 && (free < len(x.slots)/4 || len(x.slots) > 2*x.Len()+2) {
			t.Fatalf("%d objects: got %d slots, want up to twice as many, and a quarter free", x.Len(), len(x.slots))
		}
	}
	for i := range entries {
		x.Delete(fmt.Sprint(i))
		if len(x.slots) > 8*x.Len()+8 {
			t.Fatalf("%d objects are left: got %d slots, want at most 8 for each", x.Len(), len(x.slots))
		}
	}
	if x.slots != nil {
		t.Errorf("got %d slots of an empty index, want none", len(x.slots))
	}
}
