package client

import (
	"encoding/json"
	"fmt"
	"time"
)

// Event is one event of the stream.
type Event struct {
	// ID is a position in the room's messages: the events so far cover all messages up to it. It is
	// a value for [Config.LastEventID]. Several events may have the same ID. An event without an id
	// has the ID of the previous event.
	ID string

	// Name is the event's name; "message" if the stream has none.
	Name string

	// Data is the event's JSON, which [Event.Value] decodes. It belongs to the receiver.
	Data json.RawMessage
}

// Value decodes the event's data. Its name determines the type:
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
// Any other name is a [Message] with that name as its Event. The error is that of the JSON decoder,
// if the data does not match the type.
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
		err = fmt.Errorf("client: event %q: %w", e.Name, err)
	}
	return v, err
}

// Count is the user count: connections or users, according to the server's configuration.
type Count int

// Sync is the data of the event "sync": a snapshot of the room.
type Sync struct {
	Connections int      `json:"connections"`
	Users       int      `json:"users"`
	Members     []Member `json:"members"`   // Empty if not Complete.
	Complete    bool     `json:"complete"`  // False if the room is too large for a list of members.
	Heartbeat   float64  `json:"heartbeat"` // Seconds between two pings.
}

// Member is a user in the room.
type Member struct {
	ID          string          `json:"id"`
	Name        string          `json:"name"`
	Info        json.RawMessage `json:"info"`
	Connections int             `json:"connections"` // 0 during the user's grace period.
	Since       time.Time       `json:"since"`
}

// Join is a user that joined the room, and the room's new counts.
type Join struct {
	ID          string          `json:"id"`
	Name        string          `json:"name"`
	Info        json.RawMessage `json:"info"`
	Connections int             `json:"connections"` // Connections of the room.
	Users       int             `json:"users"`       // Users of the room.
}

// Leave is a user that left the room, and the room's new counts.
type Leave struct {
	Join
	// Reason is the reason why the user's last connection ended: closed, timeout, removed, expired,
	// slow or node.
	Reason string `json:"reason"`
}

// Update is the new info of a member.
type Update struct {
	ID   string          `json:"id"`
	Info json.RawMessage `json:"info"`
}

// Reset reports that messages after the position from which the client resumed are not available.
type Reset struct {
	Reason string `json:"reason"`
}

// Expiring reports the number of seconds until the token expires and the stream ends.
type Expiring struct {
	In int `json:"in"`
}

// Ping is a heartbeat. It has no data.
type Ping struct{}

// Message is a message for [Client.Send] or from the stream.
type Message struct {
	// Event is the name of the message's event. Default: "message".
	Event string `json:"-"`

	// ID is the idempotency key in a message for Send: 1 to 64 characters, or empty. In a message
	// from the stream it is the position that the server assigned.
	ID string `json:"id"`

	// Data is any JSON. nil is sent as null.
	Data json.RawMessage `json:"data"`

	// From and At are set by the server; Send ignores them. From is empty if the server itself is
	// the sender.
	From Sender    `json:"from"`
	At   time.Time `json:"at"`
}

// Sender is the user that sent a message.
type Sender struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}
