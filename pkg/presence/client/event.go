package client

import (
	"encoding/json"
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

	// Data is the event's JSON, as [Sync], [Member], [Message] or whatever the
	// event of that name carries. It is the receiver's own.
	Data json.RawMessage
}

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

// Message is a message, to be sent or as the stream told it.
type Message struct {
	// Event is the name of the event that tells it, "message" by default;
	// decoding leaves it out, as it is the [Event.Name].
	Event string `json:"-"`

	// ID is, of a message to be sent, 1 to 64 characters of the sender's own,
	// or empty. As told, it is the message's place, which the server gave it.
	ID string `json:"id"`

	// Data is any JSON; nil is sent as null.
	Data json.RawMessage `json:"data"`

	// From and At are the server's to say; Send ignores them.
	From Sender    `json:"from"`
	At   time.Time `json:"at"`
}

// Sender is who sent a message.
type Sender struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}
