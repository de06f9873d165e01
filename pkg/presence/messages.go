package presence

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"example.com/presence/pkg/presence/room"
)

// patience is how long a message waits for room on the way to the clients.
const patience = 2 * time.Second

// postMessage takes a client's message and tells the whole room.
func (s *Server) postMessage(w http.ResponseWriter, r *http.Request) error {
	user, name, err := s.visitor(r, maySend)
	if err != nil {
		return err
	}
	m, err := s.readMessage(w, r)
	if err != nil {
		return err
	}
	m.From = &Sender{ID: user.ID, Name: user.Name}
	id, err := s.say(r.Context(), name, m)
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
// The errors are [ErrTooLarge], [ErrBusy], [ErrDraining], those of the names,
// of ctx, and of encoding data.
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
	return s.say(ctx, name, m)
}

// say publishes the message.
func (s *Server) say(ctx context.Context, name room.Name, m Message) (id string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, ErrBusy)
	defer cancel()
	for {
		c := s.counter(name)
		if c == nil {
			return "", ErrDraining
		}
		if err := c.stream.Reserve(ctx); err != nil {
			s.drop(c) // it may have been made for this message
			return "", context.Cause(ctx)
		}
		id, err := c.say(m)
		if err == nil {
			return id, nil
		}
		c.stream.Cancel() // the room was dropped meanwhile; there is a new one
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
	return Message{Event: string(name), Data: compact.Bytes()}, nil
}

// readMessage reads the body of a POST: JSON with event and data, or plain
// text, which is the data.
func (s *Server) readMessage(w http.ResponseWriter, r *http.Request) (Message, error) {
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	charset := strings.ToLower(params["charset"])
	if err != nil || kind != "application/json" && kind != "text/plain" || charset != "" && charset != "utf-8" && charset != "us-ascii" {
		return Message{}, refuse(http.StatusUnsupportedMediaType, "a message is application/json or text/plain, in UTF-8")
	}
	body, err := readBody(w, r, s.config.MaxMessage)
	if err != nil {
		return Message{}, err
	}
	if kind == "text/plain" {
		return newMessage("", encode(string(body)))
	}
	return parseMessage(body)
}

// parseMessage reads the JSON form of a message.
func parseMessage(body []byte) (Message, error) {
	var m struct {
		Event string          `json:"event"`
		Data  json.RawMessage `json:"data"`
		ID    *string         `json:"id"`
	}
	if err := decode(body, &m); err != nil {
		return Message{}, err
	}
	if m.Data == nil {
		return Message{}, refuse(http.StatusBadRequest, "the message has no data")
	}
	if m.ID != nil && (*m.ID == "" || utf8.RuneCountInString(*m.ID) > 64) {
		return Message{}, refuse(http.StatusBadRequest, "the message's id is 1 to 64 characters")
	}
	return newMessage(m.Event, m.Data)
}

// readBody reads a body of up to limit bytes of UTF-8.
func readBody(w http.ResponseWriter, r *http.Request, limit int) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(limit)))
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		return nil, err
	} else if err != nil {
		return nil, refuse(http.StatusBadRequest, "the body did not arrive whole, within %v", bodyTime)
	}
	if !utf8.Valid(body) {
		return nil, refuse(http.StatusBadRequest, "the body is not UTF-8")
	}
	return body, nil
}

// decode reads one JSON value of known fields into v.
func decode(body []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return refuse(http.StatusBadRequest, "the body is not the JSON that is expected: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return refuse(http.StatusBadRequest, "the body has more than one JSON value")
	}
	return nil
}
