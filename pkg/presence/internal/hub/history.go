package hub

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/internal/compact"
	"example.com/presence/pkg/presence/room"
)

const (
	// historyTime is the maximum time of the reads for a page.
	historyTime = 2 * time.Second
	// historyStep is the factor by which the second read of the log for a page is longer than the
	// first. The third is a read of the whole log.
	historyStep = 64
	// entryCost is the cost, in bytes, of an entry that is read from the log of one node. A read
	// takes about 50 ns of CPU per entry. That is the delivery of 10 bytes, but most of this time
	// the log is locked.
	entryCost = 64
)

// Len returns the number of messages.
func (p *History) Len() int { return len(p.messages) }

// Next returns the HistoryRequest.Before of the page before this one. ok is false if there is none.
func (p *History) Next() (before room.Position, ok bool) {
	if !p.More || len(p.messages) == 0 {
		return room.Position{}, false
	}
	return p.at(0), true
}

func (p *History) at(i int) room.Position {
	return room.Position{Epoch: p.Last.Epoch, Seq: p.messages[i].Position}
}

// AppendJSON appends the message with this index to b: the data of its event, with the name of the
// event.
func (p *History) AppendJSON(b []byte, i int) []byte {
	m := p.messages[i]
	b = append(dataHead(b, p.at(i).String()), `"event":`...)
	b = append(append(b, compact.Encode(m.event)...), ',')
	return dataTail(append(b, m.body...), m.At)
}

// Messages returns the messages, oldest first. It is never nil.
func (p *History) Messages(name room.Name) ([]room.Message, error) {
	all := make([]room.Message, 0, len(p.messages))
	for i, m := range p.messages {
		decoded, err := m.message(name, p.at(i).String(), m.At)
		if err != nil {
			return nil, err
		}
		all = append(all, decoded)
	}
	return all, nil
}

// History returns a page of the room's messages. The room need not be on this node, and History
// does not open it. A page before a position of another epoch is empty, because those messages are
// lost.
//
// The error is [ErrDraining], [ErrHistoryReads], [backplane.ErrUnavailable] or an error of ctx.
func (h *Hub) History(ctx context.Context, q HistoryRequest) (*History, error) {
	if h.closing.Load() {
		return nil, ErrDraining
	}
	if h.isCut() {
		return nil, backplane.ErrUnavailable
	}
	if p := h.recentHistory(q); p != nil {
		return p, nil
	}
	if h.isShared() && q.User != "" {
		return h.histories.do(ctx, q, func(ctx context.Context) (*History, error) { return h.readHistory(ctx, q) })
	}
	return h.readHistory(ctx, q)
}

// readHistory reads the page from the log. It repeats a read that fails, or during which the epoch
// has changed, for historyTime.
func (h *Hub) readHistory(ctx context.Context, q HistoryRequest) (*History, error) {
	limited, cancel := context.WithTimeout(ctx, historyTime)
	defer cancel()
	read := historyRead{bus: h.config.Bus, HistoryRequest: q, shared: h.isShared()}
	for {
		epoch := h.epoch()
		page, err := read.page(limited, epoch)
		switch {
		case errors.Is(err, backplane.ErrClosed):
			return nil, ErrDraining
		case err == nil && page != nil && h.epoch() == epoch:
			return page, nil
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case h.isCut() || !pause(limited, h.config.Clock, attemptPause):
			return nil, backplane.ErrUnavailable
		}
	}
}

// recentHistory returns the page if the ring of the room has more messages than fit into it.
// Otherwise it returns nil, because the log may have messages that the ring lacks.
func (h *Hub) recentHistory(q HistoryRequest) *History {
	if !h.isShared() {
		return nil
	}
	l := h.rooms.find(q.Room)
	if l == nil {
		return nil
	}
	end := uint64(math.MaxUint64)
	if q.Before != (room.Position{}) {
		end = q.Before.Seq
	}
	entries, last, ok := l.recent(end, q.Limit+1)
	if !ok || last.Epoch != h.epoch() || q.Before.Epoch != "" && q.Before.Epoch != last.Epoch {
		return nil
	}
	page := &History{Last: last}
	if page.fill(entries, end, q.Limit, q.Size); !page.More {
		return nil
	}
	return page
}

// recent returns the newest entries of the ring below a position, at most n, and the position of
// the room. ok is false if the ring may lack entries that the log has.
func (c *counter) recent(end uint64, n int) (entries []backplane.Entry, last room.Position, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.log == nil || c.closed || !c.opened || c.log.blind || c.lagsLocked() || c.waits != nil && c.waits.repairing {
		return nil, room.Position{}, false
	}
	return c.shared.rings.newest(&c.log.ring, min(end, c.position.Seq+1), n), c.position, true
}

// fill makes the page of the newest entries below a position. The entries are sorted by position.
// A malformed entry is no message. More is set if the page does not contain all entries below the
// position.
func (p *History) fill(entries []backplane.Entry, end uint64, limit, size int) {
	p.messages, p.Size, p.More = make([]historic, 0, min(limit, len(entries))), 0, false
	for _, e := range slices.Backward(entries) {
		if e.Position >= end {
			continue
		}
		n := len(e.Data) + messageCost
		if p.More = len(p.messages) == limit || p.Size > 0 && p.Size+n > size; p.More {
			break
		}
		r, err := parseRecord(e.Data)
		if err != nil {
			continue // deliverLocked logs it
		}
		p.messages = append(p.messages, historic{e, r})
		p.Size += n
	}
	slices.Reverse(p.messages)
}

// historyRead reads the log for a page.
type historyRead struct {
	bus    backplane.Bus
	shared bool // other nodes use the log too
	HistoryRequest
}

// page makes one attempt. It returns nil if the calls of the log do not fit together, as during a
// change of the server that answers.
//
// Each read begins a little below the page, because Bus.Read returns all entries up to the end. The
// positions of a room may have gaps, so that a read may lack older messages of the page. Then the
// next one begins earlier.
func (r *historyRead) page(ctx context.Context, epoch string) (*History, error) {
	last, err := r.bus.Last(ctx, r.Room) // before the reads: no message that they lack is below it
	if err != nil {
		return nil, err
	}
	p := &History{Last: room.Position{Epoch: epoch, Seq: last}}
	end := uint64(math.MaxUint64)
	if r.Before != (room.Position{}) {
		if r.Before.Epoch != epoch {
			return p, nil
		}
		end = r.Before.Seq
	}
	top, shortest := min(end, last+1), uint64(r.Limit)+2 // a page, and one message more
	for _, span := range []uint64{shortest, historyStep * shortest, math.MaxUint64} {
		after := top - min(top, span)
		entries, _, err := r.bus.Read(ctx, r.Room, after)
		if err != nil {
			return nil, err
		}
		p.Read += r.cost(entries)
		p.fill(entries, end, r.Limit, r.Size)
		switch n := len(entries); {
		case !p.More && after > 0:
			continue
		case n == 0:
			return r.confirmed(ctx, p)
		case entries[n-1].Position < last: // the log is behind its own last position
			return nil, nil
		default:
			p.Last.Seq = entries[n-1].Position
			return p, nil
		}
	}
	return nil, nil // not reached: the last read begins at 0
}

// cost returns the cost of a read in bytes. The log of one node copies no messages, only entries.
func (r *historyRead) cost(entries []backplane.Entry) (n int) {
	if !r.shared {
		return entryCost * len(entries)
	}
	for _, e := range entries {
		n += len(e.Data) + messageCost
	}
	return n
}

// confirmed returns the page if the log has no message after its last position, and nil otherwise.
func (r *historyRead) confirmed(ctx context.Context, p *History) (*History, error) {
	if !r.shared {
		return p, nil
	}
	entries, complete, err := r.bus.Read(ctx, r.Room, p.Last.Seq)
	if err != nil || len(entries) > 0 || !complete {
		return nil, err
	}
	return p, nil
}
