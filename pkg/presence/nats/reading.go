package nats

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go/jetstream"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/room"
)

// reading is one call of Read or Last.
type reading struct {
	subs    *subscriptions
	stream  jetstream.Stream
	subject string
	name    room.Name
}

// last returns the last message of the room; nil: none.
func (r reading) last(ctx context.Context) (*jetstream.RawStreamMsg, error) {
	m, err := r.stream.GetLastMsgForSubject(ctx, r.subject)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil
	}
	return m, err
}

// next returns the first message of the room whose sequence number is not below from; nil: none.
func (r reading) next(ctx context.Context, from uint64) (*jetstream.RawStreamMsg, error) {
	m, err := r.stream.GetMsg(ctx, max(from, 1), jetstream.WithGetMsgSubject(r.subject))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil
	}
	return m, err
}

func (r reading) read(ctx context.Context, after uint64) (entries []backplane.Entry, complete bool, err error) {
	last, err := r.last(ctx)
	if err != nil {
		return nil, false, err
	}
	if last == nil {
		complete, err = r.isWhole(ctx, after)
		return nil, complete, err
	}
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
	position, marker := cleared(first.Header)
	switch {
	case first.Sequence == after || marker && position <= after:
		complete = true
	case marker:
	default:
		if complete, err = r.isWhole(ctx, after); err != nil {
			return nil, false, err
		}
	}
	for m := first; m != nil && m.Sequence <= last.Sequence; {
		if _, marker := cleared(m.Header); m.Sequence > after && !marker {
			entries = append(entries, backplane.Entry{Position: m.Sequence, At: m.Time, Data: m.Data})
		}
		if m.Sequence == last.Sequence {
			break
		}
		if m, err = r.next(ctx, m.Sequence+1); err != nil {
			return nil, false, err
		}
	}
	return entries, complete, nil
}

// isWhole reports whether the stream has removed no entry of the room above a position that is not
// in the stream. It must be called after the entries were read: the first sequence number of the
// stream only grows.
func (r reading) isWhole(ctx context.Context, after uint64) (bool, error) {
	info, err := r.stream.Info(ctx, jetstream.WithSubjectFilter(r.subject))
	if err != nil {
		return false, err
	}
	if after > info.State.LastSeq {
		return false, nil
	}
	held := r.subs.held(r.name, after)
	count := info.State.Subjects[r.subject]
	if held+1 >= info.State.FirstSeq && count < uint64(r.subs.core.config.Messages) {
		return true, nil
	}
	if count == 0 {
		return false, nil
	}
	first, err := r.next(ctx, 1)
	if err != nil || first == nil {
		return false, err
	}
	position, marker := cleared(first.Header)
	return first.Sequence <= after || marker && position <= after, nil
}
