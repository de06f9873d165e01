package nats

import (
	"hash/maphash"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/room"
)

// subscriptions holds all subscriptions of a bus, and the workers that call their handlers.
type subscriptions struct {
	core    *core
	workers []*worker // the first one is for the topic of all nodes
	seed    maphash.Seed

	mu     sync.RWMutex // guards the fields below
	byNATS map[*nats.Subscription]*subscription
	all    map[*subscription]struct{}
	topics map[room.Name][]*subscription // that receive entries
}

// newSubscriptions starts the workers. They end with the bus.
func newSubscriptions(c *core) *subscriptions {
	ss := &subscriptions{core: c, seed: maphash.MakeSeed(), byNATS: map[*nats.Subscription]*subscription{},
		all: map[*subscription]struct{}{}, topics: map[room.Name][]*subscription{}}
	for range 1 + runtime.GOMAXPROCS(0) {
		w := newWorker(c, ss.find)
		ss.workers = append(ss.workers, w)
		c.running.Go(func() { w.run(c.life.Done()) })
	}
	return ss
}

func (ss *subscriptions) workerOf(topic room.Name) *worker {
	if topic == backplane.Nodes {
		return ss.workers[0] // heartbeats do not wait for the messages of rooms
	}
	rest := ss.workers[1:]
	return rest[maphash.String(ss.seed, string(topic))%uint64(len(rest))]
}

// subscribe adds a subscription. A message that arrives before it is in the map is dropped, because
// Subscribe has not returned yet.
func (ss *subscriptions) subscribe(topic room.Name, h backplane.Handler) (*subscription, error) {
	s := &subscription{handler: h, name: topic, topic: ss.core.subjects.topic(topic), worker: ss.workerOf(topic),
		since: time.Now(), epoch: ss.core.Status().Epoch}
	var subjects []string
	if h.Entry != nil || h.Message != nil {
		subjects = append(subjects, s.topic+">")
	}
	if h.Ask != nil {
		subjects = append(subjects, ss.core.subjects.ask(topic))
	}
	for _, subject := range subjects {
		sub, err := ss.core.conn.ChanSubscribe(subject, s.worker.messages)
		if err != nil {
			s.end()
			return nil, err
		}
		s.nats = append(s.nats, sub)
	}
	ss.register(s)
	return s, nil
}

func (ss *subscriptions) register(s *subscription) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	for _, sub := range s.nats {
		ss.byNATS[sub] = s
	}
	ss.all[s] = struct{}{}
	if s.handler.Entry != nil {
		ss.topics[s.name] = append(ss.topics[s.name], s)
	}
}

// remove ends a subscription. It does not wait for the connection, which may be slow.
func (ss *subscriptions) remove(s *subscription) {
	if s.ended.Swap(true) {
		return
	}
	ss.mu.Lock()
	defer ss.mu.Unlock()
	delete(ss.all, s)
	for _, sub := range s.nats {
		delete(ss.byNATS, sub)
	}
	if rest := slices.DeleteFunc(ss.topics[s.name], func(other *subscription) bool { return other == s }); len(rest) > 0 {
		ss.topics[s.name] = rest
	} else {
		delete(ss.topics, s.name)
	}
	ss.core.goUnlessClosed(s.end)
}

func (ss *subscriptions) find(sub *nats.Subscription) *subscription {
	ss.mu.RLock()
	defer ss.mu.RUnlock()
	return ss.byNATS[sub]
}

// located records the last position of a room for its subscriptions.
func (ss *subscriptions) located(name room.Name, position uint64) {
	ss.mu.RLock()
	defer ss.mu.RUnlock()
	for _, s := range ss.topics[name] {
		s.start.CompareAndSwap(0, position+1)
	}
}

// held returns the position up to which this node knows the room, if it knows the room up to after.
// A subscription that has received nothing above a position knows that no entry followed, up to the
// floor.
func (ss *subscriptions) held(name room.Name, after uint64) uint64 {
	ss.mu.RLock()
	defer ss.mu.RUnlock()
	for _, s := range ss.topics[name] {
		if s.knows(after) {
			return max(after, s.floor.Load())
		}
	}
	return after
}

// isQuiet reports whether a room has no entry above a position, because a subscription has received
// all entries up to it, and the room had no new entry during the last interruption. It is true once
// per interruption: later, an entry may have been lost without a report.
func (ss *subscriptions) isQuiet(name room.Name, after uint64) bool {
	ss.mu.RLock()
	defer ss.mu.RUnlock()
	for _, s := range ss.topics[name] {
		if s.quiet.Swap(false) && s.knows(after) {
			return true
		}
	}
	return false
}

// loseDropped makes the subscriptions receive Lost whose messages were dropped since the last call,
// because this node was too slow. NATS reports only the first of several drops.
func (ss *subscriptions) loseDropped(now time.Time) {
	ss.mu.RLock()
	defer ss.mu.RUnlock()
	for s := range ss.all {
		dropped := 0
		for _, sub := range s.nats {
			n, _ := sub.Dropped()
			dropped += n
		}
		if dropped > s.dropped {
			s.dropped = dropped
			s.interrupted(sample{}, false, false, now)
			s.worker.lose(s)
		}
	}
}

// loseAll makes all subscriptions receive Lost, because the connection was interrupted. The sample
// is the newest one before the interruption. recent are the rooms that have entries after it; nil:
// not known.
func (ss *subscriptions) loseAll(last sample, ok bool, recent map[string]bool, now time.Time) {
	lost := map[*worker][]*subscription{}
	ss.mu.RLock()
	for s := range ss.all {
		s.interrupted(last, ok, recent != nil && !recent[token(string(s.name))], now)
		lost[s.worker] = append(lost[s.worker], s)
	}
	ss.mu.RUnlock()
	for w, subs := range lost {
		w.lose(subs...)
	}
}
