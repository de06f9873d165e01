package client

import (
	"encoding/json"
	"fmt"
	"time"
)

// Event is one event of the stream.
type Event struct {
	// ID is a position in the room's messages. The events received so far cover the messages up to
	// this position. To resume after it, pass ID as [Config.LastEventID]. Several events may have
	// the same ID. An event without an id has the ID of the previous event.
	ID string

	// Name is the name of the event, or "message" if the stream does not name it.
	Name string

	// Data is the JSON data of the event. [Event.Value] decodes it. The slice belongs to the
	// receiver.
	Data json.RawMessage
}

// Value decodes the data of the event. The name of the event determines the type:
//
//	user count  [Count]
//	sync        [Sync]
//	join        [Join]
//	leave       [Leave]
//	update      [Update]
//	reset       [Reset]
//	expiring    [Expiring]
//	goodbye     [Goodbye]
//	ping        [Ping]
//
// For any other name, Value returns a [Message] with that name as its Event. If the data does not
// match the type, Value returns the error of the JSON decoder.
func (e Event) Value() (any, error) {
	switch e.Name {
	case "user count":
		return as[Count](e)
	case "sync":
		return as[Sync](e)
	case "join":
		return as[Join](e)
	case "leave":
		return as[Leave](e)
	case "update":
		return as[Update](e)
	case "reset":
		return as[Reset](e)
	case "expiring":
		return as[Expiring](e)
	case "goodbye":
		return as[Goodbye](e)
	case "ping":
		return as[Ping](e)
	}
	m, err := as[Message](e)
	m.Event = e.Name
	return m, err
}

func as[T any](e Event) (v T, err error) {
	if err = json.Unmarshal(e.Data, &v); err != nil {
		err = fmt.Errorf("client: decode event %q: %w", e.Name, err)
	}
	return v, err
}

// Count is the data of the event "user count". It is the number of connections or users, depending
// on the server's configuration.
type Count int

// Sync is the data of the event "sync", which is a snapshot of the room.
type Sync struct {
	Connections int      `json:"connections"`
	Users       int      `json:"users"`
	Members     []Member `json:"members"`   // Empty if Complete is false.
	Complete    bool     `json:"complete"`  // False if the room has too many members to list.
	Heartbeat   float64  `json:"heartbeat"` // Seconds between two ping events.
}

// Member is a user in the room.
type Member struct {
	ID          string          `json:"id"`
	Name        string          `json:"name"`
	Info        json.RawMessage `json:"info"`
	Connections int             `json:"connections"` // 0 during the user's grace period.
	Since       time.Time       `json:"since"`
}

// Join is the data of the event "join": a user that joined the room, and the new counts of the
// room.
type Join struct {
	ID          string          `json:"id"`
	Name        string          `json:"name"`
	Info        json.RawMessage `json:"info"`
	Connections int             `json:"connections"` // Connections in the room.
	Users       int             `json:"users"`       // Users in the room.
}

// Leave is the data of the event "leave": a user that left the room, and the new counts of the
// room.
type Leave struct {
	Join
	// Reason states why the last connection of the user ended: closed, timeout, removed, expired,
	// slow or node.
	Reason string `json:"reason"`
}

// Update is the data of the event "update": a member and its new info.
type Update struct {
	ID   string          `json:"id"`
	Name *string         `json:"name"` // The new name, or nil if the name has not changed.
	Info json.RawMessage `json:"info"`
}

// Reset is the data of the event "reset". It reports that messages after the position from which
// the client resumed are not available.
type Reset struct {
	Reason string `json:"reason"`
}

// Expiring is the data of the event "expiring". In is the number of seconds until the token expires
// and the stream ends.
type Expiring struct {
	In int `json:"in"`
}

// Ping is the data of the event "ping", which is a heartbeat. It has no fields.
type Ping struct{}

// Message is a message to post with [Client.Send], or a message from the stream.
type Message struct {
	// Event is the event name of the message: 1 to 64 characters without control or format
	// characters, and not a name of the server's own events. Default: "message".
	Event string `json:"-"`

	// In a message for Send, ID is the idempotency key: 1 to 64 characters, or empty. In a message
	// from the stream, ID is the position that the server assigned.
	ID string `json:"id"`

	// Data is any JSON value. nil is sent as null.
	Data json.RawMessage `json:"data"`

	// From and At are set by the server and ignored by Send. From is empty if the server itself
	// sent the message.
	From Sender    `json:"from"`
	At   time.Time `json:"at"`
}

// Sender is the user that sent a message.
type Sender struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}
