package presence

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"
	"unicode/utf8"

	"example.com/presence/pkg/presence/room"
)

// patience is how long a message waits for room on the way to the clients.
const patience = 2 * time.Second

// postMessage takes a client's message and tells the whole room. An admin's is
// the server's own.
func (s *Server) postMessage(w http.ResponseWriter, r *http.Request) error {
	v, err := s.visitor(r, maySend)
	if err != nil {
		return err
	}
	user, name := v.user, v.room
	if !user.Admin {
		if wait := s.rates.take(room.UserID(user.ID), time.Now()); wait > 0 {
			s.warn.Warn(r.Context(), "a user sends messages faster than it may", "user", user.ID, "room", string(name))
			return &refusal{status: http.StatusTooManyRequests, detail: "messages come faster than the user may send them", retry: wait}
		}
	}
	m, own, err := s.readMessage(w, r)
	if err != nil {
		return err
	}
	if !user.Admin {
		m.From = &Sender{ID: user.ID, Name: user.Name}
	}
	id, err := s.say(r.Context(), name, m, room.UserID(user.ID), own)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusAccepted, map[string]string{"id": id})
}

// Publish tells everybody in the room, as the server: the message has no
// sender. Event is the event's name, as a client may choose it; empty means
// message. Data is anything that encodes as JSON. It returns the message's id
// once it is on its way, and waits for that as long as ctx, 2 s at most.
//
// The errors are [ErrTooLarge], [ErrBusy], [ErrTooManyRooms], [ErrDraining],
// those of the names, of ctx, and of encoding data.
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
	body, err := marshal(data)
	switch {
	case err != nil:
		return "", err
	case !utf8.Valid(body):
		return "", errors.New("the data is not UTF-8")
	case len(body) > s.config.MaxMessage:
		return "", ErrTooLarge
	}
	m, err := newMessage(event, body)
	if err != nil {
		return "", err
	}
	return s.say(ctx, name, m, "", "")
}

// say publishes the message, which by sent with an id of its own.
func (s *Server) say(ctx context.Context, name room.Name, m Message, by room.UserID, own string) (id string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, ErrBusy)
	defer cancel()
	for {
		c, err := s.counter(name)
		if errors.Is(err, ErrTooManyRooms) {
			s.warn.Warn(ctx, err.Error(), "room", string(name))
		}
		if err != nil {
			return "", err
		}
		if err := c.stream.Reserve(ctx); err != nil {
			return "", context.Cause(ctx)
		}
		id, err := c.say(m, by, own)
		if err == nil {
			return id, nil
		}
		c.stream.Release()
		if !errors.Is(err, errClosed) { // the room was dropped meanwhile; there is a new one
			return "", err
		}
	}
}

// newMessage returns a message of that event and data, which must be JSON.
func newMessage(event string, data []byte) (Message, error) {
	name, err := room.ParseEventName(event)
	if err != nil {
		return Message{}, err
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, data); err != nil {
		return Message{}, err
	}
	return Message{Event: string(name), Data: bytes.Clone(compact.Bytes())}, nil
}

// readMessage reads the body of a POST: JSON with event and data, and the
// sender's own id if it wants one, or plain text, which is the data.
func (s *Server) readMessage(w http.ResponseWriter, r *http.Request) (m Message, own string, err error) {
	kind := mediaType(r)
	if kind != "application/json" && kind != "text/plain" {
		return Message{}, "", refuse(http.StatusUnsupportedMediaType, "a message is application/json or text/plain, in UTF-8")
	}
	body, err := readBody(w, r, s.config.MaxMessage)
	if err != nil {
		return Message{}, "", err
	}
	if kind == "text/plain" {
		data := encode(string(body))
		if len(data) > 2*s.config.MaxMessage+2 { // each control character is six as JSON
			return Message{}, "", refuse(http.StatusRequestEntityTooLarge, "the text is larger than %d bytes as JSON", 2*s.config.MaxMessage)
		}
		m, err = newMessage("", data)
		return m, "", err
	}
	return parseMessage(body)
}

// parseMessage reads the JSON form of a message.
func parseMessage(body []byte) (m Message, own string, err error) {
	o, err := decodeObject(body, "event", "data", "id")
	if err != nil {
		return Message{}, "", err
	}
	if o["data"] == nil {
		return Message{}, "", refuse(http.StatusBadRequest, "the message has no data")
	}
	event, err := o.text("event", 64)
	if err != nil {
		return Message{}, "", err
	}
	own, err = o.text("id", 64)
	if err != nil {
		return Message{}, "", err
	}
	m, err = newMessage(event, o["data"])
	return m, own, err
}
