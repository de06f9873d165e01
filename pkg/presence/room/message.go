package room

import (
	"encoding/json"
	"time"
)

// Message is a message sent to all clients in a room.
type Message struct {
	Room  string
	ID    string          // the message's [Position], which is also the event id
	Event string          // event name
	From  *Sender         // nil if the server is the sender
	Data  json.RawMessage // one compact JSON value
	At    time.Time       // time at which the message log accepted the message, in UTC, to the millisecond
}

// Sender identifies the user that sent a message.
type Sender struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}
