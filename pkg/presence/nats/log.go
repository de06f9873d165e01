package nats

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/room"
)

// Append adds a message to the log of a room. See [backplane.Bus].
func (b *Bus) Append(ctx context.Context, name room.Name, key string, data []byte) (position uint64, duplicate bool, err error) {
	epoch, err := b.ready(ctx)
	if err != nil {
		return 0, false, err
	}
	m := nats.NewMsg(b.subjects.log(epoch, name))
	m.Data = data
	if key != "" {
		m.Header.Set(jetstream.MsgIDHeader, messageID(epoch, name, key))
	}
	high := b.progress.high(epoch)
	ack, err := b.publishAcked(ctx, m)
	for isInProcess(err) && wait(ctx, processTime) {
		ack, err = b.publishAcked(ctx, m)
	}
	if err != nil {
		return 0, false, b.callError(ctx, "append", err)
	}
	if !ack.Duplicate && ack.Sequence <= high { // the log went back
		b.doubt()
		return 0, false, b.callError(ctx, "append", fmt.Errorf("sequence number %d was used before", ack.Sequence))
	}
	b.progress.reached(epoch, ack.Sequence)
	return ack.Sequence, ack.Duplicate, nil
}

// processTime is how long Append waits for a message with the same id, which the replicas of the
// stream store just now.
const processTime = 10 * time.Millisecond

// isInProcess reports whether the stream has rejected a message because another one with its id is
// in process.
func isInProcess(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && api.ErrorCode == codeInProcess
}

// messageID returns the id of a message in the stream. The server compares the ids of all rooms, so
// the id contains the room.
func messageID(epoch string, name room.Name, key string) string {
	sum := sha256.Sum256([]byte(epoch + "\x00" + string(name) + "\x00" + key))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// Read returns the entries of a room above a position. See [backplane.Bus].
//
// It needs one request if there is none, and otherwise one request per entry; many entries are read
// in batches. The result is complete if
//
//   - the entry at the position is still there, or it is the last one,
//   - or the stream has removed no entry above it: its first message is not above the next
//     position, and the room is below its limit, because limits remove the oldest messages first,
//   - or the room's first entry is not above it.
func (b *Bus) Read(ctx context.Context, name room.Name, after uint64) (entries []backplane.Entry, complete bool, err error) {
	epoch, err := b.ready(ctx)
	if err != nil {
		return nil, false, err
	}
	if b.subs.isQuiet(name, after) {
		return nil, true, nil
	}
	release, err := b.acquire(ctx)
	if err != nil {
		return nil, false, b.callError(ctx, "read", err)
	}
	defer release()
	r := reading{subs: b.subs, stream: *b.stream.Load(), subject: b.subjects.log(epoch, name), name: name}
	entries, complete, err = r.read(ctx, after)
	if err != nil {
		return nil, false, b.callError(ctx, "read", err)
	}
	return entries, complete, nil
}

// Last returns the position of the last entry of a room. See [backplane.Bus].
func (b *Bus) Last(ctx context.Context, name room.Name) (position uint64, err error) {
	epoch, err := b.ready(ctx)
	if err != nil {
		return 0, err
	}
	release, err := b.acquire(ctx)
	if err != nil {
		return 0, b.callError(ctx, "last", err)
	}
	defer release()
	r := reading{subs: b.subs, stream: *b.stream.Load(), subject: b.subjects.log(epoch, name), name: name}
	for {
		m, err := r.last(ctx)
		if err != nil {
			return 0, b.callError(ctx, "last", err)
		}
		if m != nil {
			position = m.Sequence
			if before, marker := cleared(m.Header); marker {
				position = before
			}
			b.subs.located(name, position)
			return position, nil
		}
		info, err := r.info(ctx)
		if err != nil {
			return 0, b.callError(ctx, "last", err)
		}
		if len(info.State.Subjects) == 0 {
			position = max(info.State.FirstSeq, 1) - 1
			b.subs.located(name, position)
			return position, nil
		}
	}
}

// codeWrongLast is the error of the JetStream API if the last message of a subject is not the
// expected one.
const codeWrongLast = jetstream.JSErrCodeStreamWrongLastSequence

// Clear removes the entries of a room. It replaces them by a marker that has their last position.
// See [backplane.Bus].
func (b *Bus) Clear(ctx context.Context, name room.Name) error {
	epoch, err := b.ready(ctx)
	if err != nil {
		return err
	}
	r := reading{subs: b.subs, stream: *b.stream.Load(), subject: b.subjects.log(epoch, name), name: name}
	for {
		last, err := r.last(ctx)
		if err != nil {
			return b.callError(ctx, "clear", err)
		}
		if last == nil {
			return nil
		}
		if _, marker := cleared(last.Header); marker {
			return nil
		}
		sequence := strconv.FormatUint(last.Sequence, 10)
		m := nats.NewMsg(r.subject)
		m.Header.Set(headerRollup, "sub")
		m.Header.Set(headerExpected, sequence)
		m.Header.Set(headerCleared, sequence)
		_, err = b.publishAcked(ctx, m)
		var api *jetstream.APIError
		if err == nil {
			return nil
		}
		if !errors.As(err, &api) || api.ErrorCode != codeWrongLast { // otherwise an entry came meanwhile
			return b.callError(ctx, "clear", err)
		}
	}
}
