package presence

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"unicode/utf8"

	"example.com/presence/pkg/presence/internal/compact"
	"example.com/presence/pkg/presence/internal/hub"
	"example.com/presence/pkg/presence/internal/input"
	"example.com/presence/pkg/presence/room"
)

// postMessage publishes a client's message to the room. An admin's message has no sender, because
// it is the server's own.
func (s *Server) postMessage(w http.ResponseWriter, r *http.Request) error {
	v, err := s.authorize(r, toSend)
	if err != nil {
		return err
	}
	if err := s.limits.messages.take(v.user, 1); err != nil {
		return err
	}
	d, key, err := s.readMessage(w, r)
	if err != nil {
		return err
	}
	if err := s.hub.Overloaded(v.room); err != nil { // before the message is charged
		return err
	}
	audience, _ := s.hub.Sizes(v.room)
	if err := s.limits.costs.take(v.user, len(d.Data)*max(1, audience)); err != nil {
		return err
	}
	if err := s.limits.history.take(v.user, len(d.Data)); err != nil {
		return err
	}
	if !v.user.Admin {
		d.From = &Sender{ID: v.user.ID, Name: v.user.Name}
	}
	id, err := s.hub.Send(r.Context(), v.room, d, room.UserID(v.user.ID), key)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusAccepted, map[string]string{"id": id})
}

// Publish sends a message to every client of the room. The message has no sender, because it is the
// server's own. event is the event name, with the same limits as the event name of a client's
// message. An empty event means message. data is any value that can be encoded as JSON. Publish
// returns the message's id when the message log has accepted the message. It waits until ctx is
// done, but at most 2 s.
//
// The error wraps [ErrTooLarge], [ErrBusy], [ErrOverloaded], [ErrTooManyRooms], [ErrDraining],
// [room.ErrName], [room.ErrEventName] or [room.ErrEventReserved], or an error of ctx, of the
// backplane, or of encoding data. With [ErrOverloaded], the clients of the room are too far behind:
// the message was not accepted, and a later attempt may succeed.
func (s *Server) Publish(ctx context.Context, roomName, event string, data any) (id string, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("presence: publish to room %q: %w", roomName, err)
		}
	}()
	name, err := room.ParseName(roomName)
	if err != nil {
		return "", err
	}
	body, err := compact.Marshal(data)
	switch {
	case err != nil:
		return "", err
	case !utf8.Valid(body):
		return "", errors.New("data not valid UTF-8")
	case len(body) > s.config.MaxMessage:
		return "", ErrTooLarge
	}
	eventName, err := room.ParseEventName(event)
	if err != nil {
		return "", err
	}
	return s.hub.Send(ctx, name, hub.Draft{Event: string(eventName), Data: body}, "", "")
}

// newDraft returns a draft with this event name and data. data must be JSON.
func newDraft(event string, data []byte) (hub.Draft, error) {
	name, err := room.ParseEventName(event)
	if err != nil {
		return hub.Draft{}, err
	}
	b := bytes.NewBuffer(make([]byte, 0, len(data)))
	if err := json.Compact(b, data); err != nil {
		return hub.Draft{}, err
	}
	return hub.Draft{Event: string(name), Data: b.Bytes()}, nil
}

// readMessage reads the body of POST /messages. A JSON body contains event, data and an idempotency
// key. A plain text body is the data itself.
func (s *Server) readMessage(w http.ResponseWriter, r *http.Request) (d hub.Draft, key string, err error) {
	kind := mediaType(r)
	if kind != "application/json" && kind != "text/plain" {
		return hub.Draft{}, "", reject(http.StatusUnsupportedMediaType, "unsupported media type: send application/json or text/plain in UTF-8")
	}
	body, err := readBody(w, r, s.config.MaxMessage)
	if err != nil {
		return hub.Draft{}, "", err
	}
	if kind == "text/plain" {
		data := compact.Encode(string(body))
		if len(data) > 2*s.config.MaxMessage+2 { // a control character takes six bytes as JSON
			return hub.Draft{}, "", reject(http.StatusRequestEntityTooLarge, "text too large as JSON (maximum %d bytes)", 2*s.config.MaxMessage)
		}
		d, err = newDraft("", data)
		return d, "", err
	}
	return parseMessage(body)
}

// parseMessage parses a JSON message.
func parseMessage(body []byte) (d hub.Draft, key string, err error) {
	o, err := decodeObject(body, "event", "data", "id")
	if err != nil {
		return hub.Draft{}, "", err
	}
	data, there := o.Get("data")
	if !there {
		return hub.Draft{}, "", reject(http.StatusBadRequest, `missing JSON field "data"`)
	}
	event, err := textOf(o, "event", input.MaxEventName)
	if err != nil {
		return hub.Draft{}, "", err
	}
	key, err = textOf(o, "id", input.MaxMessageID)
	if err != nil {
		return hub.Draft{}, "", err
	}
	d, err = newDraft(event, []byte(data))
	return d, key, err
}
