package room

import (
	"encoding/json"
	"time"
)

// Message is one message to a room, published to everybody in it.
type Message struct {
	Room  string
	ID    string          // its [Position], which is the event's id too
	Event string          // the event's name
	From  *Sender         // nil if the server itself is the sender
	Data  json.RawMessage // one JSON value, compact
	At    time.Time       // when the message log accepted it, in UTC, to the millisecond
}

// Sender is the user that sent a message.
type Sender struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}
