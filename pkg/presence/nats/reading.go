package nats

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/room"
)

// reading is one call of Read or Last. Each of its requests ends after requestTime, so that a lost
// answer does not take the time of the whole call.
type reading struct {
	subs    *subscriptions
	stream  jetstream.Stream
	subject string
	name    room.Name
}

// requestTime is the timeout of one request of a reading. A fetch from a consumer must receive a
// message in this time.
const requestTime = 2 * time.Second

// last returns the last message of the room; nil: none.
func (r reading) last(ctx context.Context) (*jetstream.RawStreamMsg, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	m, err := r.stream.GetLastMsgForSubject(ctx, r.subject)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil
	}
	return m, err
}

// next returns the first message of the room whose sequence number is not below from; nil: none.
func (r reading) next(ctx context.Context, from uint64) (*jetstream.RawStreamMsg, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	m, err := r.stream.GetMsg(ctx, max(from, 1), jetstream.WithGetMsgSubject(r.subject))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil
	}
	return m, err
}

func (r reading) read(ctx context.Context, after uint64) (entries []backplane.Entry, complete bool, err error) {
	for range maxTurns {
		last, err := r.last(ctx)
		if err != nil {
			return nil, false, err
		}
		if last != nil {
			return r.readTo(ctx, after, last)
		}
		if complete, empty, err := r.isWhole(ctx, after); err != nil || empty {
			return nil, complete, err
		}
	}
	return nil, false, nil // entries appear and disappear
}

// maxTurns is the maximum number of times that a call finds an entry in a room that was just empty.
const maxTurns = 3

// readTo is read for a room whose last message is known.
func (r reading) readTo(ctx context.Context, after uint64, last *jetstream.RawStreamMsg) (entries []backplane.Entry, complete bool, err error) {
	if position, marker := cleared(last.Header); marker {
		return nil, after == position, nil
	}
	if after >= last.Sequence {
		return nil, after == last.Sequence, nil
	}
	first, err := r.next(ctx, after)
	if err != nil || first == nil {
		return nil, false, err
	}
	if entries, err = r.between(ctx, first, after, last.Sequence); err != nil {
		return nil, false, err
	}
	// Meanwhile the stream may have removed messages. It removes the oldest ones first, and a
	// marker removes all, so none is missing from the first one that is still there.
	again, err := r.next(ctx, after)
	if err != nil || again == nil {
		return nil, false, err
	}
	if again.Sequence != first.Sequence {
		i := slices.IndexFunc(entries, func(e backplane.Entry) bool { return e.Position >= again.Sequence })
		if i < 0 {
			return nil, false, nil
		}
		return entries[i:], false, nil
	}
	position, marker := cleared(first.Header)
	switch {
	case first.Sequence == after || marker && position <= after:
		return entries, true, nil
	case marker:
		return entries, false, nil
	}
	complete, _, err = r.isWhole(ctx, after)
	return entries, complete, err
}

// between returns the entries above a position, from the message first to a sequence number. It
// reads them one by one, which is cheapest for a few. If this takes too long, because there are
// many or because the way to the server is long, it reads the rest through a consumer.
func (r reading) between(ctx context.Context, first *jetstream.RawStreamMsg, after, last uint64) (entries []backplane.Entry, err error) {
	start := time.Now()
	for m := first; m != nil; {
		if _, marker := cleared(m.Header); m.Sequence > after && !marker {
			entries = append(entries, backplane.Entry{Position: m.Sequence, At: m.Time, Data: m.Data})
		}
		if m.Sequence >= last {
			return entries, nil
		}
		if len(entries) >= maxSingle || time.Since(start) > singleTime {
			return r.consume(ctx, entries, m.Sequence+1, last)
		}
		if m, err = r.next(ctx, m.Sequence+1); err != nil {
			return nil, err
		}
	}
	return entries, nil
}

const (
	// maxSingle is the maximum number of entries of one call that are read one by one.
	maxSingle = 32
	// singleTime is the time after which the rest is read through a consumer.
	singleTime = 100 * time.Millisecond
	// consumerTime is how long the server keeps a consumer that is not deleted.
	consumerTime = 10 * time.Second
	// maxFetch is the maximum number of messages of one fetch.
	maxFetch = 256
)

// consume appends the entries from one sequence number to another. The consumer may live on a copy
// of the stream that is behind; then consume waits. The server does not deliver a message again, so
// a message that was lost on its way is an error. The caller may repeat the read.
func (r reading) consume(ctx context.Context, entries []backplane.Entry, from, last uint64) ([]backplane.Entry, error) {
	consumer, err := r.consumer(ctx, from)
	if err != nil {
		return nil, err
	}
	defer r.subs.core.goUnlessClosed(func() { // does not keep the caller waiting
		ctx, cancel := context.WithTimeout(r.subs.core.life, callTime)
		defer cancel()
		r.stream.DeleteConsumer(ctx, consumer.CachedInfo().Name) // otherwise it ends after consumerTime
	})
	c := consumption{consumer: consumer, last: last, entries: entries}
	for ctx.Err() == nil {
		if done, err := c.fetch(ctx); err != nil {
			return nil, err
		} else if done {
			return c.entries, nil
		}
	}
	return nil, context.Cause(ctx)
}

// consumption is the state of consume.
type consumption struct {
	consumer jetstream.Consumer
	last     uint64
	received uint64 // number of messages; the server numbers those of a consumer from 1
	entries  []backplane.Entry
}

// fetch appends up to maxFetch entries. done reports that the last one is there.
func (c *consumption) fetch(ctx context.Context) (done bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	batch, err := c.consumer.Fetch(maxFetch, jetstream.FetchContext(ctx))
	if err != nil {
		return false, err
	}
	before := c.received
	for m := range batch.Messages() {
		meta, err := m.Metadata()
		if err != nil {
			return false, err
		}
		if c.received++; meta.Sequence.Consumer != c.received {
			return false, fmt.Errorf("message %d of the read was lost", c.received)
		}
		sequence := meta.Sequence.Stream
		if _, marker := cleared(m.Headers()); !marker && sequence <= c.last {
			c.entries = append(c.entries, backplane.Entry{Position: sequence, At: meta.Timestamp, Data: m.Data()})
		}
		if sequence >= c.last {
			return true, nil
		}
	}
	if err := batch.Error(); err != nil {
		return false, err
	}
	if c.received == before {
		return false, fmt.Errorf("message %d of the read did not arrive", c.received+1)
	}
	return false, nil
}

// consumer creates a consumer of the entries from a sequence number.
func (r reading) consumer(ctx context.Context, from uint64) (jetstream.Consumer, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	return r.stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
		FilterSubject:     r.subject,
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       from,
		AckPolicy:         jetstream.AckNonePolicy,
		MemoryStorage:     true,
		Replicas:          1,
		InactiveThreshold: consumerTime,
	})
}

// isWhole reports whether the stream has removed no entry of the room above a position that is not
// in the stream. empty reports that the room has no message. isWhole must be called after the
// entries were read: the first sequence number of the stream only grows.
func (r reading) isWhole(ctx context.Context, after uint64) (complete, empty bool, err error) {
	info, err := r.info(ctx)
	if err != nil {
		return false, false, err
	}
	count := int64(info.State.Subjects[r.subject])
	held := r.subs.held(r.name, after)
	switch {
	case count == 0 && after >= max(info.State.FirstSeq, 1): // above Last, which is before the first message
		return false, true, nil
	case after > info.State.LastSeq:
		return false, count == 0, nil
	case held+1 >= info.State.FirstSeq && count < leastMessages(info.Config), count == 0:
		return held+1 >= info.State.FirstSeq, count == 0, nil
	}
	first, err := r.next(ctx, 1)
	if err != nil || first == nil {
		return false, false, err
	}
	position, marker := cleared(first.Header)
	return first.Sequence <= after || marker && position <= after, false, nil
}

// info returns the state of the stream, with the number of the room's messages.
func (r reading) info(ctx context.Context) (*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	return r.stream.Info(ctx, jetstream.WithSubjectFilter(r.subject))
}
