package hub

import (
	"context"
	"errors"
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
// The error is [ErrBanned], [ErrBusy], [ErrTooManyRooms], [ErrDraining], an error of ctx, or a
// backplane error. If the log failed or was too slow, the message may still be delivered.
func (h *Hub) Send(ctx context.Context, name room.Name, d Draft, sender room.UserID, key string) (id string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, sendTime, ErrBusy)
	defer cancel()
	for {
		l, err := h.open(ctx, name)
		if err != nil {
			if errors.Is(err, ErrTooManyRooms) {
				h.config.Warn.Warn(ctx, "message rejected: "+err.Error(), "room", string(name))
			}
			return "", err
		}
		if err := l.stream.Reserve(ctx); err != nil {
			return "", context.Cause(ctx)
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
	if key != "" {
		key = string(sender) + "\x00" + key // unambiguous, because a user id contains no control character
	}
	// Read the epoch before the append. If the log is recreated in between, the id has the old
	// epoch, and a client that resumes with it is sent reset. With the new epoch, the id could
	// belong to another message.
	epoch := h.epoch()
	position, duplicate, err := h.config.Bus.Append(ctx, l.name, key, newRecord(string(h.node), number, d))
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
