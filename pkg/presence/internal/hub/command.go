package hub

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"example.com/presence/pkg/presence/internal/compact"
	"example.com/presence/pkg/presence/internal/input"
	"example.com/presence/pkg/presence/room"
)

// command is a request to all nodes. Each node applies it to its own connections and rooms, and
// responds with an answer. Exactly one of the fields after Of is set. A node may receive a command
// several times and late, so a repeated command changes nothing.
type command struct {
	V       int           `json:"v"`
	From    room.NodeID   `json:"from"`
	Of      []room.NodeID `json:"of,omitempty"` // the nodes that must answer; empty: all
	Renew   *renewal      `json:"renew,omitempty"`
	SignOut *signOut      `json:"sign_out,omitempty"`
	Update  *update       `json:"update,omitempty"`
	Find    *memberID     `json:"find,omitempty"`
	Rooms   *roomsAfter   `json:"rooms,omitempty"`
	Confirm *confirmation `json:"confirm,omitempty"`
	Parts   *partsOf      `json:"parts,omitempty"`
}

// signOut disconnects the streams of a session.
type signOut struct {
	User    room.UserID `json:"user"`
	Session []byte      `json:"session"` // may contain any bytes
}

// memberID is a user in a room. In the command Find an empty User stands for any user.
type memberID struct {
	Room room.Name   `json:"room"`
	User room.UserID `json:"user,omitempty"`
}

type update struct {
	memberID
	Info  json.RawMessage `json:"info"`
	Stamp room.Version    `json:"stamp,omitzero"`
}

type roomsAfter struct {
	After string `json:"after"`
	Limit int    `json:"limit"`
}

// confirmation asks whether a node has applied the ban row with this ID. Without an ID, it asks
// whether the user is not banned there. A node of an earlier release does not confirm that.
type confirmation struct {
	memberID
	ID string `json:"id"` // may be empty
}

// answer is the response of one node to a command.
type answer struct {
	V         int          `json:"v"`
	From      room.NodeID  `json:"from"`
	Part      *partPiece   `json:"part,omitempty"`
	Found     bool         `json:"found,omitempty"`    // the user of Update or Find is on this node
	Record    room.Version `json:"record,omitzero"`    // of the user after Update
	Draining  bool         `json:"draining,omitempty"` // the user of Update is on this node, which shuts down
	Confirmed bool         `json:"confirmed,omitempty"`
	Rooms     []RoomCount  `json:"rooms,omitempty"`
	More      bool         `json:"more,omitempty"`
}

// RoomCount is the name of a room in use, with its number of connections and users.
type RoomCount struct {
	Room        string `json:"room"`
	Connections int    `json:"connections"`
	Users       int    `json:"users"`
}

// encode encodes the command. json.Marshal would change bytes in the info.
func (c command) encode() ([]byte, error) {
	request, err := compact.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode command: %w", err)
	}
	return request, nil
}

// parseCommand decodes a command. It rejects values that peers would reject in the frames of this
// node.
func parseCommand(data []byte) (c command, err error) {
	if err = parseFrame(data, &c, &c.V); err != nil {
		return c, err
	}
	err = errors.Join(checkNodes(c.From), checkNodes(c.Of...))
	if u := c.Update; u != nil && err == nil {
		switch err = checkNodes(u.Stamp.Node); {
		case u.Stamp.Counter > maxCounter:
			err = fmt.Errorf("update stamp %d too high", u.Stamp.Counter)
		case len(u.Info) > input.MaxInfo:
			err = fmt.Errorf("info of update too large: %d bytes (maximum %d)", len(u.Info), input.MaxInfo)
		}
	}
	return c, err
}

// parseAnswer decodes an answer.
func parseAnswer(data []byte) (a answer, err error) {
	if err = parseFrame(data, &a, &a.V); err == nil {
		err = errors.Join(checkSender(a.From), checkNodes(a.Record.Node))
	}
	if a.Part != nil && err == nil {
		err = errors.Join(checkNumber(a.Part.Number), checkNodes(a.Part.Peers...))
	}
	return a, err
}

const (
	// commandTime is the maximum time that a command waits for the answers of all nodes.
	commandTime = time.Second
	// pollTime is the time between two checks of a poll. It divides the times at which a poll
	// repeats its command.
	pollTime = 50 * time.Millisecond
)

// repeatedAt are the times at which a command is repeated to the nodes that have not answered: the
// command or an answer may have been lost.
var repeatedAt = []time.Duration{250 * time.Millisecond, 500 * time.Millisecond}
