package hub_test

import (
	"context"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/room"
)

// simStale is how old the result of a stale read may be. The log remembers removed entries for
// longer.
const simStale = 200 * time.Millisecond

// simLog contains the logs of all rooms. As in a JetStream stream, the rooms share one sequence of
// positions, so each room has gaps.
type simLog struct {
	epoch string
	last  uint64
	rooms map[room.Name]*simRoomLog
	keys  map[simKey]simUsed
}

// simRoomLog is the log of one room.
type simRoomLog struct {
	entries []simEntry
	base    uint64 // position of the last entry that is no longer in entries
}

type simEntry struct {
	backplane.Entry
	removed time.Time // zero: the entry is in the log
}

type simKey struct {
	name room.Name
	key  string
}

type simUsed struct {
	position uint64
	at       time.Time
}

func (e *simEngine) newLog() simLog {
	return simLog{epoch: e.newEpoch(), rooms: map[room.Name]*simRoomLog{}, keys: map[simKey]simUsed{}}
}

func (l *simLog) room(name room.Name) *simRoomLog {
	r := l.rooms[name]
	if r == nil {
		r = &simRoomLog{}
		l.rooms[name] = r
	}
	return r
}

// was reports whether the entry was in the log at the time at.
func (en *simEntry) was(at time.Time) (added, removed bool) {
	return !en.At.After(at), !en.removed.IsZero() && !en.removed.After(at)
}

// lastAt returns the last position at the time at.
func (r *simRoomLog) lastAt(at time.Time) uint64 {
	for i := len(r.entries) - 1; i >= 0; i-- {
		if added, _ := r.entries[i].was(at); added {
			return r.entries[i].Position
		}
	}
	return r.base
}

// read returns the entries above a position at the time at.
func (r *simRoomLog) read(after uint64, at time.Time) (entries []backplane.Entry, complete bool) {
	if after > r.lastAt(at) {
		return nil, false
	}
	missing := r.base
	for _, en := range r.entries {
		switch added, removed := en.was(at); {
		case removed:
			missing = max(missing, en.Position)
		case added && en.Position > after:
			entries = append(entries, en.Entry)
		}
	}
	return entries, after >= missing
}

// trim removes the oldest entries until at most n are left. It forgets those that no stale read can
// return.
func (r *simRoomLog) trim(n int) {
	now, left := time.Now(), 0
	for i := len(r.entries) - 1; i >= 0; i-- {
		if en := &r.entries[i]; en.removed.IsZero() {
			if left++; left > n {
				en.removed = now
			}
		}
	}
	for len(r.entries) > 0 && !r.entries[0].removed.IsZero() && now.Sub(r.entries[0].removed) > 2*simStale {
		r.base = r.entries[0].Position
		r.entries = r.entries[1:]
	}
}

// simAppended is the result of Append.
type simAppended struct {
	position  uint64
	duplicate bool
}

func (b *simBus) Append(ctx context.Context, name room.Name, key string, data []byte) (position uint64, duplicate bool, err error) {
	a, err := simAnswer(ctx, b, func() simPlan { return b.appendFaultLocked(name) }, func(simPlan) simAppended {
		return b.engine.acceptLocked(name, key, data)
	})
	return a.position, a.duplicate, err
}

func (b *simBus) appendFaultLocked(name room.Name) (p simPlan) {
	e := b.engine
	if !chance(b.dice, e.faults.appends) {
		return p
	}
	e.stats.appendsFailed++
	p.failed, p.ignored = true, chance(b.dice, 0.5)
	if chance(b.dice, 0.5) { // may be accepted after the caller has repeated the call
		p.before = between(b.dice, 0, 1500*time.Millisecond)
	}
	if p.after = between(b.dice, 0, time.Second); chance(b.dice, 0.5) {
		p.after = 10 * time.Second // the ctx of the call ends before
	}
	e.trace("%s: Append to %s fails, accepted %v", b.name, name, !p.ignored)
	return p
}

// acceptLocked adds a message to the log and sends it to all nodes.
func (e *simEngine) acceptLocked(name room.Name, key string, data []byte) simAppended {
	now, k := time.Now(), simKey{name, key}
	if used, ok := e.log.keys[k]; ok && key != "" && now.Sub(used.at) < backplane.KeyAge {
		return simAppended{used.position, true}
	}
	e.log.last++
	entry := backplane.Entry{Position: e.log.last, At: now, Data: data}
	e.log.keys[k] = simUsed{entry.Position, now}
	r := e.log.room(name)
	r.entries = append(r.entries, simEntry{Entry: entry})
	r.trim(e.messages)
	e.order++
	for _, b := range e.buses {
		if len(b.subs[name]) > 0 && !b.cutOff {
			b.deliverLocked(name, entry, e.order)
		}
	}
	return simAppended{entry.Position, false}
}

// deliverLocked sends an entry to one node.
func (b *simBus) deliverLocked(name room.Name, entry backplane.Entry, order uint64) {
	e := b.engine
	if chance(e.dice, e.faults.entryLoss) {
		e.stats.entriesLost++
		e.trace("%s: entry %d of %s is lost", b.name, entry.Position, name)
		return
	}
	b.inLogOrderLocked(func() {
		for _, s := range b.subs[name] {
			if s.Handler.Entry != nil && s.order < order {
				e.callLocked(&s.simReceiver, func() { s.Handler.Entry(entry) })
			}
		}
	})
}

// simRead is the result of Read.
type simRead struct {
	entries  []backplane.Entry
	complete bool
}

func (b *simBus) Read(ctx context.Context, name room.Name, after uint64) (entries []backplane.Entry, complete bool, err error) {
	r, err := simAnswer(ctx, b, b.readFaultLocked, func(p simPlan) (r simRead) {
		r.entries, r.complete = b.engine.log.room(name).read(after, time.Now().Add(-p.stale))
		return r
	})
	return r.entries, r.complete, err
}

func (b *simBus) Last(ctx context.Context, name room.Name) (position uint64, err error) {
	return simAnswer(ctx, b, b.readFaultLocked, func(p simPlan) uint64 {
		return b.engine.log.room(name).lastAt(time.Now().Add(-p.stale))
	})
}

func (b *simBus) readFaultLocked() (p simPlan) {
	e := b.engine
	if !chance(b.dice, e.faults.reads) {
		return p
	}
	switch b.dice.IntN(3) {
	case 0:
		e.stats.readsFailed++
		p.failed, p.after = true, between(b.dice, 0, time.Second)
		e.trace("%s: a read fails", b.name)
	case 1:
		e.stats.readsSlow++
		p.before, p.after = between(b.dice, 0, 750*time.Millisecond), between(b.dice, 0, 750*time.Millisecond)
		e.trace("%s: a read takes %v", b.name, p.before+p.after)
	default:
		e.stats.readsStale++
		p.stale = between(b.dice, 0, simStale)
		e.trace("%s: a read is %v old", b.name, p.stale)
	}
	return p
}

func (b *simBus) Clear(ctx context.Context, name room.Name) error {
	_, err := simAnswer(ctx, b, nil, func(simPlan) (none struct{}) {
		b.engine.log.last++ // the clear marker
		b.engine.log.room(name).trim(0)
		return none
	})
	return err
}
