package room

import (
	"encoding/json"
	"time"
)

// Message is one message to a room. Every client in the room receives it.
type Message struct {
	Room  string
	ID    string          // its [Position], which is also the event's id
	Event string          // the event's name
	From  *Sender         // nil if the server is the sender
	Data  json.RawMessage // one compact JSON value
	At    time.Time       // time at which the message log accepted it, in UTC, to the millisecond
}

// Sender is the user that sent a message.
type Sender struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}
