package backplanetest

import (
	"context"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/room"
)

// gapStep is the average distance between two consecutive positions of [Gaps].
const gapStep = 1000

// Gaps returns a bus that wraps b and leaves up to 1,998 unused positions between two entries. The
// gaps are the same for every handle, so all handles of an engine can be wrapped. Close closes b.
func Gaps(b backplane.Bus) backplane.Bus { return gaps{b} }

type gaps struct{ backplane.Bus }

// widen converts a position of the wrapped bus to a position with gaps. The result increases with
// the position, and 0 stays 0.
func widen(position uint64) uint64 {
	if position == 0 {
		return 0
	}
	return position*gapStep + position*7919%gapStep
}

// narrow returns the highest position of the wrapped bus for which widen(below) <= position. exact
// reports whether widen(below) equals position.
func narrow(position uint64) (below uint64, exact bool) {
	below = position / gapStep
	if widen(below) > position {
		below--
	}
	return below, widen(below) == position
}

func (g gaps) Subscribe(topic room.Name, h backplane.Handler) (cancel func(), err error) {
	if entry := h.Entry; entry != nil {
		h.Entry = func(e backplane.Entry) {
			e.Position = widen(e.Position)
			entry(e)
		}
	}
	return g.Bus.Subscribe(topic, h)
}

func (g gaps) Append(ctx context.Context, name room.Name, key string, data []byte) (position uint64, duplicate bool, err error) {
	position, duplicate, err = g.Bus.Append(ctx, name, key, data)
	return widen(position), duplicate, err
}

func (g gaps) Read(ctx context.Context, name room.Name, after uint64) (entries []backplane.Entry, complete bool, err error) {
	below, exact := narrow(after)
	entries, complete, err = g.Bus.Read(ctx, name, below)
	if !exact && len(entries) == 0 {
		complete = false // after is greater than Last
	}
	for i := range entries {
		entries[i].Position = widen(entries[i].Position)
	}
	return entries, complete, err
}

func (g gaps) Last(ctx context.Context, name room.Name) (position uint64, err error) {
	position, err = g.Bus.Last(ctx, name)
	return widen(position), err
}
