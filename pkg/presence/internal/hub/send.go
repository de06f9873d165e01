package hub

import (
	"context"
	"errors"
	"strconv"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/room"
)

// sendTime is the maximum time that a message waits for a stream slot and for the log.
const sendTime = 2 * time.Second

// Send appends the message to the room's log and returns its id. The log delivers it to every
// client of the room. sender is the sending user, or empty for the server. key is the idempotency
// key, or empty. If the sender has used the same key in this room within the last two minutes, Send
// returns the id of the earlier message.
//
// The error is [ErrBanned], [ErrBusy], [ErrOverloaded], [ErrTooManyRooms], [ErrUserRooms],
// [ErrDraining], an error of ctx, or a backplane error. If the log failed or was too slow, the
// message may still be delivered. A node that is cut off, or whose engine has had no contact for 3
// s, rejects messages at once; until then, an attempt lasts up to 2 s.
func (h *Hub) Send(ctx context.Context, name room.Name, d Draft, sender room.UserID, key string) (id string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, sendTime, ErrBusy)
	defer cancel()
	if h.isShared() && (h.peers.isCut() || !h.config.Bus.Status().Connected && h.peers.isDown(h.config.Clock.Now())) { // the attempts would only take time
		return "", backplane.ErrUnavailable
	}
	for {
		l, err := h.open(ctx, name, sender)
		if err != nil {
			return "", err
		}
		if err := l.stream.Reserve(ctx); err != nil {
			return "", context.Cause(ctx)
		}
		if err := h.overloaded(l); err != nil { // others may have sent meanwhile
			l.stream.Release()
			return "", err
		}
		number := h.lastMessage.Add(1)
		if err := l.expect(number, sender); err != nil {
			l.stream.Release()
			if errors.Is(err, errClosed) { // the room was dropped in between: open it again
				continue
			}
			return "", err
		}
		return h.append(ctx, l, d, sender, key, number)
	}
}

// append appends the message to the log. number identifies the stream slot of the message.
func (h *Hub) append(ctx context.Context, l *live, d Draft, sender room.UserID, key string, number uint64) (id string, err error) {
	if l.exchange != nil {
		defer func() { h.note(l, l.appended()) }()
	}
	if key != "" {
		key = string(sender) + "\x00" + key // unambiguous, because a user id contains no control character
	}
	// Read the epoch before the append. If the log is recreated in between, the id has the old
	// epoch, and a client that resumes with it is sent reset. With the new epoch, the id could
	// belong to another message.
	epoch := h.epoch()
	record := newRecord(string(h.node), number, d)
	position, duplicate, err := h.tryAppend(ctx, l.name, sender, key, record, number, epoch)
	if err != nil || duplicate {
		h.note(l, l.abandon(number))
	}
	switch {
	case err == nil:
		p := room.Position{Epoch: epoch, Seq: position}
		if !duplicate && h.isShared() {
			h.note(l, l.accepted(number, p, record))
		}
		h.announcePosition(l, p)
		return p.String(), nil
	case h.isShared() && context.Cause(ctx) == ErrBusy: // the log did not answer
		return "", backplane.ErrUnavailable
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case errors.Is(err, backplane.ErrClosed):
		return "", ErrDraining
	}
	return "", engineError(err)
}

const (
	// attemptTime is the timeout of one attempt to append a message. Two more attempts fit into
	// sendTime.
	attemptTime = 800 * time.Millisecond
	// attemptPause is the delay between two attempts, because an engine may fail immediately.
	attemptPause = 100 * time.Millisecond
)

// tryAppend appends a record of a sender. If other nodes use the log, tryAppend repeats a failed
// append until ctx ends. A failed append may have been accepted, so all attempts have the same key:
// if the message has none, it gets one.
//
// If the log is recreated between two attempts, it has lost the keys. The next attempt could then
// append the message twice, so tryAppend returns the error instead.
func (h *Hub) tryAppend(ctx context.Context, name room.Name, sender room.UserID, key string, record []byte, number uint64, epoch string) (position uint64, duplicate bool, err error) {
	bus := h.config.Bus
	if h.rings == nil {
		if log, ok := bus.(backplane.SenderLog); ok {
			return log.AppendFrom(ctx, name, sender, key, record)
		}
		return bus.Append(ctx, name, key, record)
	}
	if key == "" { // the keys of clients begin with a user id or with NUL
		key = "\x01" + string(h.node) + "\x00" + strconv.FormatUint(number, 10)
	}
	for {
		once, cancel := context.WithTimeout(ctx, attemptTime)
		position, duplicate, err = bus.Append(once, name, key, record)
		cancel()
		if err == nil || errors.Is(err, backplane.ErrClosed) || errors.Is(err, backplane.ErrKeysFull) {
			return position, duplicate, err
		}
		if !pause(ctx, h.config.Clock, attemptPause) {
			return 0, false, err
		}
		if h.epoch() != epoch {
			return 0, false, errEpoch
		}
	}
}

// announcePosition reports a message that the log has accepted to all nodes, including this one. A
// node to which the message is not delivered reads the log.
func (h *Hub) announcePosition(l *live, p room.Position) {
	l.announced(p)
	l.announce(p)
}
