package hub

import (
	"container/list"
	"hash/fnv"
	"maps"
	"slices"
	"sync"
	"time"

	"example.com/presence/pkg/presence/room"
)

const (
	// announceTime is the time between the two announcements of a message.
	announceTime = time.Second
	// maxAcked is the maximum number of positions in a frame.
	maxAcked = 256
	// maxAcks is the maximum number of messages of a room that wait for an announcement.
	maxAcks = 4096
)

// repeatTimes are the times after the last frame with changes at which a node repeats its totals.
// From then on it repeats them every repeatTime while its part has a user.
var repeatTimes = []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second}

const repeatTime = 30 * time.Second

// ownPart is the state of the frames that this node publishes for its part of a room.
type ownPart struct {
	number    uint64    // of the last own frame with changes
	changedAt time.Time // of that frame
	sentAt    time.Time // of the last own frame
	repeats   int       // number of repeats since changedAt
	acks      []ack     // messages of this node that must be announced, in the order of their answers
	unlisted  *ack      // the lowest message that is no longer in acks; nil: none
	epoch     string    // of acks and unlisted
}

// ack is a message of this node that the log has accepted.
type ack struct {
	position uint64
	due      time.Time // of the next announcement
	again    bool      // it was announced once
	sending  bool      // it is in a frame that is being published for the first time
	over     bool      // it was announced twice
}

// addAck schedules the announcements of a message. If there are too many, the oldest half is no
// longer listed: the peers compare the log from the lowest of them on.
func (o *ownPart) addAck(p room.Position, now time.Time) {
	if o.epoch != p.Epoch {
		o.epoch, o.acks, o.unlisted = p.Epoch, nil, nil
	}
	if len(o.acks) >= maxAcks {
		lowest := o.acks[0].position
		for _, a := range o.acks[:maxAcks/2] { // two answers may arrive in another order
			lowest = min(lowest, a.position)
		}
		if o.unlisted != nil {
			lowest = min(lowest, o.unlisted.position)
		}
		o.acks = slices.Delete(o.acks, 0, maxAcks/2)
		o.unlisted = &ack{position: lowest, due: now}
	}
	o.acks = append(o.acks, ack{position: p.Seq, due: now})
}

// takeAcks returns the positions to announce, and when the next announcement is due; the zero time
// if there is none. from is the lowest position that is not listed, or 0. If many or more messages
// follow a message, its second announcement does not wait for its time.
func (o *ownPart) takeAcks(now time.Time, many int) (positions []uint64, from uint64, next time.Time) {
	if a := o.unlisted; a != nil && a.take(now, many == 0) {
		from = a.position
	}
	if o.unlisted != nil && o.unlisted.over {
		o.unlisted = nil
	}
	rest, count := o.acks[:0], len(o.acks)
	for i, a := range o.acks {
		if a.take(now, count-i > many) {
			positions = append(positions, a.position)
		}
		if !a.over {
			rest = append(rest, a)
			next = earlier(next, a.due)
		}
	}
	if o.acks = rest; len(rest) == 0 {
		o.acks = nil
	}
	if o.unlisted != nil {
		next = earlier(next, o.unlisted.due)
	}
	return positions, from, next
}

// announce adds the announcements that are due to the frames, and returns when the next are due;
// the zero time if there are none. epoch is that of the room; see takeAcks for many. Each frame has
// at most maxAcked positions, so there may be further frames.
func (o *ownPart) announce(frames []partFrame, epoch string, many int, now time.Time) ([]partFrame, time.Time) {
	acked, from, next := o.takeAcks(now, many)
	if o.epoch != epoch {
		return frames, next
	}
	further := frames[len(frames)-1]
	further.Changed, further.More = nil, false
	frames[0].AckedFrom = from
	for i := 0; len(acked) > 0; i++ {
		if i == len(frames) {
			frames = append(frames, further)
		}
		n := min(len(acked), maxAcked)
		frames[i].Acked, acked = acked[:n:n], acked[n:]
	}
	return frames, next
}

// maxWaiting returns how many of the last messages may wait for their second announcement. ring is
// the maximum number of entries in a ring: the rings of the peers must still have the entries
// around the message.
func maxWaiting(ring int) int { return min(max(1, ring/2), maxAcks/2) }

// endPublication reports that the publication of the frames that were made at the time start has
// ended now. Their repeats and second announcements are due later by that time. The announcements
// in the frames that have failed are made again. endPublication returns when the next announcement
// is due; the zero time if there is none.
func (o *ownPart) endPublication(failed []partFrame, start, now time.Time) (due time.Time) {
	if o.changedAt.Equal(start) {
		o.changedAt = now
	}
	again := map[uint64]bool{} // announcements in the failed frames
	from := uint64(0)
	for _, f := range failed {
		if p, ok := room.ParsePosition(f.Position); ok && p.Epoch == o.epoch {
			for _, position := range f.Acked {
				again[position] = true
			}
			from = max(from, f.AckedFrom)
		}
	}
	if from > 0 && o.unlisted == nil {
		o.unlisted = &ack{position: from}
	}
	if o.unlisted != nil {
		o.unlisted.endPublication(from > 0, now)
		due = o.unlisted.due
	}
	for i := range o.acks {
		a := &o.acks[i]
		a.endPublication(again[a.position], now)
		due = earlier(due, a.due)
		delete(again, a.position)
	}
	for _, position := range slices.Sorted(maps.Keys(again)) {
		o.acks = append(o.acks, ack{position: position, due: now.Add(announceTime), again: true})
		due = earlier(due, now.Add(announceTime))
	}
	return due
}

// endPublication puts off the second announcement if the first one was published. An announcement
// that has failed is made again.
func (a *ack) endPublication(failed bool, now time.Time) {
	switch {
	case failed:
		a.again, a.due = false, now.Add(announceTime)
	case a.sending:
		a.due = now.Add(announceTime)
	}
	a.sending = false
}

// take reports whether an announcement is due, or must not wait, and prepares the next one.
func (a *ack) take(now time.Time, urgent bool) bool {
	if a.due.After(now) && !urgent {
		return false
	}
	a.sending = !a.again
	a.over, a.again, a.due = a.again, true, now.Add(announceTime)
	return true
}

// nextRepeat returns when the totals must be sent again after changedAt. ok is false if they need
// not. Rooms and nodes repeat at different times.
func (o *ownPart) nextRepeat(name room.Name, node room.NodeID, empty bool) (due time.Time, ok bool) {
	if o.changedAt.IsZero() || empty && o.repeats > len(repeatTimes) {
		return due, false
	}
	after := repeatTimes[min(o.repeats, len(repeatTimes)-1)]
	if n := o.repeats - len(repeatTimes); n >= 0 {
		after = time.Duration(n+1) * repeatTime
	}
	h := fnv.New32a()
	h.Write([]byte(name))
	h.Write([]byte(node))
	return o.changedAt.Add(after - after*time.Duration(h.Sum32()%100)/1000), true // up to 10 % earlier
}

// isQuiet reports whether all repeats of an empty part were published. A room whose part is not
// quiet does not expire, so that its peers can find out that they have lost a frame.
func (o *ownPart) isQuiet() bool {
	return o.isAnnounced() && (o.changedAt.IsZero() || o.repeats > len(repeatTimes))
}

// isSettled reports whether the part needs no repeat soon: the repeats of the first seconds were
// published, and no message must be announced.
func (o *ownPart) isSettled() bool { return o.isAnnounced() && o.isRepeated() }

func (o *ownPart) isAnnounced() bool { return len(o.acks) == 0 && o.unlisted == nil }

func (o *ownPart) isRepeated() bool {
	return o.changedAt.IsZero() || o.repeats >= len(repeatTimes)
}

// maxEvicted is the maximum number of evicted rooms whose repeats a node still publishes.
const maxEvicted = 1000

// evicted contains the parts of rooms that were evicted before they were settled. They are empty.
// The node still repeats their totals, so that its peers can find out that they have lost a frame.
type evicted struct {
	mu    sync.Mutex // guards the fields below; no other mutex is acquired while it is held
	parts map[room.Name]*list.Element
	order list.List // of *evictedPart; the part that was added first is first
}

type evictedPart struct {
	ownPart
	name     room.Name
	position room.Position // of the room
}

// add adds the part of a room, unless it is settled. If there are too many parts, it drops the one
// that was added first.
func (e *evicted) add(name room.Name, o ownPart, p room.Position) {
	if o.isSettled() {
		return
	}
	o.acks = slices.Clone(o.acks)
	if o.unlisted != nil {
		o.unlisted = new(*o.unlisted)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.removeLocked(name)
	e.addLocked(&evictedPart{o, name, p})
}

// addLocked adds the part of a room that has none.
func (e *evicted) addLocked(p *evictedPart) *list.Element {
	if len(e.parts) >= maxEvicted {
		e.removeLocked(e.order.Front().Value.(*evictedPart).name)
	}
	if e.parts == nil {
		e.parts = map[room.Name]*list.Element{}
	}
	e.parts[p.name] = e.order.PushBack(p)
	return e.parts[p.name]
}

// removeLocked removes the part of a room and returns it. It returns nil if there is none.
func (e *evicted) removeLocked(name room.Name) *evictedPart {
	element := e.parts[name]
	if element == nil {
		return nil
	}
	delete(e.parts, name)
	return e.order.Remove(element).(*evictedPart)
}

// take removes the part of a room that is opened again. It returns the zero part if there is none.
func (e *evicted) take(name room.Name) ownPart {
	e.mu.Lock()
	defer e.mu.Unlock()
	if p := e.removeLocked(name); p != nil {
		return p.ownPart
	}
	return ownPart{}
}

// unannounced returns the rooms with messages that must be announced.
func (e *evicted) unannounced() (names []room.Name) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for element := e.order.Front(); element != nil; element = element.Next() {
		if p := element.Value.(*evictedPart); !p.isAnnounced() {
			names = append(names, p.name)
		}
	}
	return names
}

// endPublication reports the end of a publication; see ownPart.endPublication. If announcements
// have failed, it also adds the part of a room that was dropped meanwhile.
func (e *evicted) endPublication(name room.Name, failed []partFrame, start, now time.Time) (due time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	element := e.parts[name]
	if element == nil && slices.ContainsFunc(failed, func(f partFrame) bool { return len(f.Acked) > 0 || f.AckedFrom > 0 }) {
		p, _ := room.ParsePosition(failed[0].Position)
		element = e.addLocked(&evictedPart{ownPart{number: failed[0].Number, epoch: p.Epoch}, name, p})
	}
	if element == nil {
		return due
	}
	return element.Value.(*evictedPart).endPublication(failed, start, now)
}

// frames returns the frames of a room that are due, and when the next ones are due; the zero time
// if there are no others. See takeAcks for many.
func (e *evicted) frames(name room.Name, node room.NodeID, many int, now time.Time) (frames []partFrame, next time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	element := e.parts[name]
	if element == nil {
		return nil, next
	}
	p := element.Value.(*evictedPart)
	frames = []partFrame{{V: frameVersion, From: node, Number: p.number, Position: p.position.String(), Whole: true}}
	frames, next = p.announce(frames, p.position.Epoch, many, now)
	due, _ := p.nextRepeat(name, node, true)
	for ; !p.isRepeated() && !due.After(now); due, _ = p.nextRepeat(name, node, true) {
		p.repeats++
	}
	if !p.isRepeated() {
		next = earlier(next, due)
	}
	if p.sentAt = now; p.isSettled() {
		e.removeLocked(name)
	}
	return frames, next
}
