package hub

import (
	"context"
	"errors"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/room"
)

// sendTime is the maximum time that a message waits for a slot and for the log.
const sendTime = 2 * time.Second

// Send appends the message to the log of the room and returns its id. From the log it reaches every
// client of the room. sender is the sending user, or empty for the server. key is the idempotency
// key, or empty: if the sender has used the key in this room within two minutes, Send returns the
// id of that earlier message.
//
// The error is [ErrBanned], [ErrBusy], [ErrTooManyRooms], [ErrDraining], that of ctx, or that of
// the backplane. If the log failed or was too slow, the message may be delivered nevertheless.
func (h *Hub) Send(ctx context.Context, name room.Name, d Draft, sender room.UserID, key string) (id string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, sendTime, ErrBusy)
	defer cancel()
	for {
		l, err := h.open(ctx, name)
		if err != nil {
			if errors.Is(err, ErrTooManyRooms) {
				h.config.Warn.Warn(ctx, err.Error(), "room", string(name))
			}
			return "", err
		}
		if err := l.stream.Reserve(ctx); err != nil {
			return "", context.Cause(ctx)
		}
		number := h.lastMessage.Add(1)
		if err := l.expect(number, sender); err != nil {
			l.stream.Release()
			if errors.Is(err, errClosed) { // the room was dropped meanwhile: open a new one
				continue
			}
			return "", err
		}
		return h.append(ctx, l, d, sender, key, number)
	}
}

// append appends the message to the log. number is the number under which it holds its slot.
func (h *Hub) append(ctx context.Context, l *live, d Draft, sender room.UserID, key string, number uint64) (id string, err error) {
	if key != "" {
		key = string(sender) + "\x00" + key // a user id has no control character
	}
	// Read the epoch before the append. If the log is recreated meanwhile, a client that resumes
	// with the old epoch gets reset. With the new epoch, the position could be another message's.
	epoch := h.epoch()
	position, duplicate, err := h.config.Bus.Append(ctx, l.name, key, newRecord(h.node, number, d))
	if err != nil || duplicate {
		h.note(l, l.abandon(number))
	}
	switch {
	case err == nil:
		return room.Position{Epoch: epoch, Seq: position}.String(), nil
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case errors.Is(err, backplane.ErrClosed):
		return "", ErrDraining
	}
	return "", engineError(err)
}
