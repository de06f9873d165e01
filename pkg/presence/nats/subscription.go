package nats

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/room"
)

const (
	// noticeTime is the maximum time until an interruption is noticed: two pings, and a margin.
	noticeTime = 5 * time.Second
	// repairTime is the time after an interruption in which a room reads the entries that it has
	// missed.
	repairTime = 15 * time.Second
)

// subscription is a handler of a topic. Each call of Subscribe creates one. A worker calls the
// handler.
type subscription struct {
	handler backplane.Handler
	name    room.Name
	topic   string // the subject without its last tokens
	worker  *worker
	nats    []*nats.Subscription // one for messages, and one for requests
	ended   atomic.Bool

	epoch string // of the entries that the handler receives; only the worker uses it
	// seen is the sequence number of the last message of the room's log that was received; 0: not
	// known. The worker sets it.
	seen atomic.Uint64
	// start is 1 plus the last position of the room, as Last has returned it after the subscription
	// was made; 0: not known.
	start atomic.Uint64
	// floor is a sequence number of the epoch. Before the last interruption, the handler received
	// all entries of the room up to it. Only the contact and a change of the epoch set it.
	floor atomic.Uint64
	// quiet reports that the room had no new entry during the last interruption. The next Read
	// needs no request then.
	quiet   atomic.Bool
	dropped int // messages that NATS has dropped; only the goroutine of the contact uses it
	// since is when the subscription was made or interrupted. Only the goroutine of the contact
	// uses it, after the subscription was made.
	since time.Time
}

func (s *subscription) end() {
	for _, sub := range s.nats {
		sub.Unsubscribe()
	}
}

// knows reports whether the handler has received all entries of the room above a position, until
// the last interruption.
func (s *subscription) knows(position uint64) bool {
	start := s.start.Load()
	return start > 0 && position+1 >= start && position >= s.seen.Load()
}

// last returns the sequence number of the room's last message, as far as the subscription knows. A
// marker of Clear that Last has found is not counted, so the first entry after it causes Lost.
func (s *subscription) last() (sequence uint64, known bool) {
	if seen := s.seen.Load(); seen > 0 {
		return seen, true
	}
	start := s.start.Load()
	return max(start, 1) - 1, start > 0
}

// receive calls the handler with a message of the topic. Only the worker calls it.
func (s *subscription) receive(c *core, m *nats.Msg) {
	kind, epoch := kindOf(m.Subject, s.topic)
	switch {
	case s.ended.Load():
	case kind == kindMessage && s.handler.Message != nil:
		s.handler.Message(m.Data)
	case strings.HasPrefix(m.Reply, c.subjects.inboxes()) && s.handler.Ask != nil:
		if answer := s.handler.Ask(m.Data); answer != nil {
			if err := c.conn.Publish(m.Reply, answer); err != nil {
				c.warn.Warn(c.life, "reply not sent", "topic", s.topic, "bytes", len(answer), "err", err)
			}
		}
	case kind == kindEntry && s.handler.Entry != nil:
		s.receiveEntry(c, m, epoch)
	}
}

// receiveEntry calls the handler with an entry, once and in log order. If the entry before it was
// not delivered, or if the epoch has changed, it calls Lost first.
func (s *subscription) receiveEntry(c *core, m *nats.Msg, epoch string) {
	r, err := parseRepublished(m)
	if err != nil {
		c.warn.Warn(c.life, "entry ignored", "subject", m.Subject, "err", err)
		return
	}
	if current := c.Status().Epoch; epoch != current {
		c.doubt() // if the epoch is new, Lost follows
		return
	}
	c.progress.delivered(epoch, r.Position, r.At)
	if s.epoch != epoch {
		s.lose(epoch)
	}
	seen := s.seen.Load()
	if r.Position <= seen {
		return
	}
	s.quiet.Store(false) // before Lost: the owner may read at once
	if last, known := s.last(); known && r.before > last {
		s.lose(epoch)
	}
	s.seen.Store(r.Position)
	if !r.marker && !s.ended.Load() {
		s.handler.Entry(r.Entry)
	}
}

// lose calls Lost. Only the worker calls it.
func (s *subscription) lose(epoch string) {
	if s.epoch != epoch {
		s.epoch = epoch
		s.seen.Store(0)
		s.start.Store(0)
		s.floor.Store(0)
		s.quiet.Store(false)
	}
	if s.handler.Lost != nil && !s.ended.Load() {
		s.handler.Lost()
	}
}

// interrupted records that the subscription may have lost messages, at most noticeTime before the
// interruption was noticed. The sample is the newest one before that. Up to it, the handler has
// received every entry of its room, unless the subscription is new or has been interrupted shortly
// before.
//
// quiet reports whether the room has no entry after the sample.
func (s *subscription) interrupted(last sample, ok, quiet bool, now time.Time) {
	known := ok && last.at.Sub(s.since) > repairTime
	if known {
		s.floor.Store(max(s.floor.Load(), last.sequence))
	}
	s.quiet.Store(known && quiet)
	s.since = now
}

// queueSize is the maximum number of messages that wait for a worker. If more arrive, they are
// dropped, and their subscriptions receive Lost.
const queueSize = 16384

// worker calls the handlers of its subscriptions, one call at a time. A subscription per room would
// otherwise need a goroutine per room.
type worker struct {
	core     *core
	find     func(*nats.Subscription) *subscription
	messages chan *nats.Msg
	wake     chan struct{}

	mu   sync.Mutex // guards lost
	lost []*subscription
}

func newWorker(c *core, find func(*nats.Subscription) *subscription) *worker {
	return &worker{core: c, find: find, messages: make(chan *nats.Msg, queueSize), wake: make(chan struct{}, 1)}
}

// run calls handlers until stop is closed.
func (w *worker) run(stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-w.wake:
			w.mu.Lock()
			lost := w.lost
			w.lost = nil
			w.mu.Unlock()
			epoch := w.core.Status().Epoch
			for _, s := range lost {
				s.lose(epoch)
			}
		case m := <-w.messages:
			if s := w.find(m.Sub); s != nil {
				s.receive(w.core, m)
			}
		}
	}
}

// lose makes the worker call Lost of subscriptions.
func (w *worker) lose(subs ...*subscription) {
	if len(subs) == 0 {
		return
	}
	w.mu.Lock()
	w.lost = append(w.lost, subs...)
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}
