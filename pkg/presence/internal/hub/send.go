package hub

import (
	"context"
	"errors"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/room"
)

// sendTime is how long a message waits for a slot and for the log.
const sendTime = 2 * time.Second

// Send appends the message to the log of the room, from where it reaches every client of the room,
// and returns its id. Sender is its user, empty for the server. Key is its idempotency key, or
// empty: for a key that the sender used within two minutes in this room, Send returns the id of
// that message.
//
// The error is [ErrBanned], [ErrBusy], [ErrTooManyRooms], [ErrDraining], that of ctx, or that of
// the backplane. A message whose log failed or took too long may come all the same.
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
			if errors.Is(err, errClosed) { // the room was dropped meanwhile: there is a new one
				continue
			}
			return "", err
		}
		return h.append(ctx, l, d, sender, key, number)
	}
}

// append appends the message, whose slot is held under that number, to the log.
func (h *Hub) append(ctx context.Context, l *live, d Draft, sender room.UserID, key string, number uint64) (id string, err error) {
	if key != "" {
		key = string(sender) + "\x00" + key // an id of a user has no control character
	}
	epoch := h.epoch() // in a newer one the position may be another message's; with this one it gets reset
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
