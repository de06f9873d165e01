package backplane

import (
	"slices"
	"time"

	"example.com/presence/pkg/presence/internal/index"
	"example.com/presence/pkg/presence/room"
)

// topics contains the rooms that have a subscription or an entry.
type topics struct {
	logs   logs
	byName index.Index[room.Name, *topic]
	// floor is the highest last position of all dropped logs. A new log starts there, so that no
	// position of a room is assigned twice.
	floor uint64
}

// topic contains the log and the subscriptions of a room, or the subscriptions of Nodes.
type topic struct {
	roomLog
	first *subscription // head of a list that is linked by subscription.next
}

// Key returns the name of the room, for the index of the topics.
func (tp *topic) Key() room.Name { return tp.name }

// subscription is a handler with the queue of its deliveries. Each call of Subscribe creates one.
type subscription struct {
	queue[delivery]
	Handler
	topic *topic
	next  *subscription
	lossy bool // the newest delivery is Lost; guarded by Memory.mu
}

// delivery contains the arguments for one call of a Handler function.
type delivery struct {
	kind    kind
	Entry                 // for kindEntry; kindMessage and kindAsk use only its Data
	answers chan<- []byte // for kindAsk; buffers one answer per subscription
}

type kind uint8

const (
	kindEntry kind = iota
	kindMessage
	kindAsk
	kindLost
)

// wants reports whether the handler has a function for this kind of delivery.
func (s *subscription) wants(k kind) bool {
	switch k {
	case kindEntry:
		return s.Handler.Entry != nil
	case kindMessage:
		return s.Message != nil
	case kindAsk:
		return s.Ask != nil
	default:
		return s.Lost != nil
	}
}

func (s *subscription) deliver(d delivery) {
	switch d.kind {
	case kindEntry:
		s.Handler.Entry(d.Entry)
	case kindMessage:
		s.Message(d.Data)
	case kindAsk:
		d.answers <- s.Ask(d.Data)
	case kindLost:
		s.Lost()
	}
}

func (s *subscription) discard(d delivery) {
	if d.kind == kindAsk {
		d.answers <- nil
	}
}

// open returns the topic, and creates it if necessary.
func (t *topics) open(name room.Name) *topic {
	tp := t.byName.Get(name)
	if tp == nil {
		tp = &topic{roomLog: newRoomLog(name, t.floor)}
		t.byName.Put(tp)
	}
	return tp
}

// subscriptions returns the first subscription of a topic, or nil if there is none.
func (t *topics) subscriptions(name room.Name) *subscription {
	if tp := t.byName.Get(name); tp != nil {
		return tp.first
	}
	return nil
}

// subscribe adds a subscription to the end of the topic's list.
func (t *topics) subscribe(name room.Name, h Handler) *subscription {
	s := &subscription{Handler: h, topic: t.open(name)}
	end := &s.topic.first
	for *end != nil {
		end = &(*end).next
	}
	*end = s
	return s
}

// unsubscribe removes a subscription, and the room's log if no subscription is left. Calling it
// again is a no-op.
func (t *topics) unsubscribe(s *subscription) {
	for at := &s.topic.first; *at != nil; at = &(*at).next {
		if *at == s {
			*at = s.next
			if s.topic.first == nil {
				t.logs.clear(&s.topic.roomLog)
				t.release(&s.topic.roomLog)
			}
			return
		}
	}
}

// full returns nil if every subscription that wants this kind of delivery has space in its backlog.
// Otherwise it returns a channel that is closed when a full backlog has space again.
func (t *topics) full(name room.Name, k kind) <-chan struct{} {
	for s := t.subscriptions(name); s != nil; s = s.next {
		if s.wants(k) {
			if full := s.full(); full != nil {
				return full
			}
		}
	}
	return nil
}

// add appends an entry to the room's log.
func (t *topics) add(name room.Name, sender room.UserID, data []byte, now time.Time) Entry {
	return t.logs.add(&t.open(name).roomLog, sender, data, now)
}

// log returns the room's log. If the room is unknown, it returns an empty log that is not stored.
func (t *topics) log(name room.Name) *roomLog {
	if tp := t.byName.Get(name); tp != nil {
		return &tp.roomLog
	}
	l := newRoomLog(name, t.floor)
	return &l
}

// release drops a topic that has neither entries nor subscriptions. It is called when a log becomes
// empty or the last subscription of a topic ends.
func (t *topics) release(l *roomLog) {
	if tp := t.byName.Get(l.name); tp != nil && tp.first == nil && len(tp.entries) == 0 {
		t.byName.Delete(l.name)
		t.floor = max(t.floor, l.last)
	}
}

// recreate empties all logs and restarts their positions.
func (t *topics) recreate() {
	for _, tp := range slices.Collect(t.byName.All()) { // clear may drop the topic
		t.logs.clear(&tp.roomLog)
		tp.roomLog = newRoomLog(tp.name, 0)
	}
	t.floor = 0
}
