package client

import (
	"encoding/json"
	"fmt"
	"time"
)

// Event is one event of the stream.
type Event struct {
	// ID is the place in the room's messages up to which the events so far
	// have told everything: what [Config.LastEventID] wants. Events repeat it,
	// and one without an id has that of the event before.
	ID string

	// Name is the event's name, "message" if the stream gave none.
	Name string

	// Data is the event's JSON, which [Event.Value] decodes. It is the
	// receiver's own.
	Data json.RawMessage
}

// Value returns what the event says, by its name:
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
// and of any other name a [Message], with that name as its Event. The error is
// that of the JSON, if it is something else.
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

// Count is the user count: connections or users, as the server is set.
type Count int

// Sync is the data of the event "sync": the room as it is.
type Sync struct {
	Connections int      `json:"connections"`
	Users       int      `json:"users"`
	Members     []Member `json:"members"`   // none if not Complete
	Complete    bool     `json:"complete"`  // false if the room is too large to tell its members
	Heartbeat   float64  `json:"heartbeat"` // seconds between two pings
}

// Member is a user who is in the room.
type Member struct {
	ID          string          `json:"id"`
	Name        string          `json:"name"`
	Info        json.RawMessage `json:"info"`
	Connections int             `json:"connections"` // 0 while the user lingers
	Since       time.Time       `json:"since"`
}

// Join is a user who came into the room, and the room's numbers with it.
type Join struct {
	ID          string          `json:"id"`
	Name        string          `json:"name"`
	Info        json.RawMessage `json:"info"`
	Connections int             `json:"connections"` // the room's, as Users
	Users       int             `json:"users"`
}

// Leave is a user who left the room, and the room's numbers without it.
type Leave struct {
	Join
	// Reason is why its last connection ended: closed, timeout, removed,
	// expired, slow or node.
	Reason string `json:"reason"`
}

// Update is the new info of a member.
type Update struct {
	ID   string          `json:"id"`
	Info json.RawMessage `json:"info"`
}

// Reset says that messages since the id that was taken up are gone.
type Reset struct {
	Reason string `json:"reason"`
}

// Expiring says in how many seconds the token ends, and the stream with it.
type Expiring struct {
	In int `json:"in"`
}

// Ping says nothing but that the server is there.
type Ping struct{}

// Message is a message, to be sent or as the stream told it.
type Message struct {
	// Event is the name of the event that tells it, "message" by default.
	Event string `json:"-"`

	// ID is, of a message to be sent, 1 to 64 characters of the sender's own,
	// or empty. As told, it is the message's place, which the server gave it.
	ID string `json:"id"`

	// Data is any JSON; nil is sent as null.
	Data json.RawMessage `json:"data"`

	// From and At are the server's to say; Send ignores them. From is empty if
	// the server itself is the sender.
	From Sender    `json:"from"`
	At   time.Time `json:"at"`
}

// Sender is who sent a message.
type Sender struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}
