package presence

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"example.com/presence/pkg/presence/internal/stream"
	"example.com/presence/pkg/presence/room"
)

// What each event carries is written here, as captured from the stream of a
// client that joined as the second one, without its id lines. The first block
// has no event: a browser takes its retry and tells the script nothing.
//
//	retry: 1734
//
//	data: {"connections":2,"users":2,"members":[{"id":"alice","name":"Alice","info":{},"connections":1,"since":"2026-11-22T18:00:00.123Z"},{"id":"bob","name":"Bob","info":{},"connections":1,"since":"2026-11-22T18:00:04.5Z"}],"complete":true,"heartbeat":15}
//	event: sync
//
//	data: 2
//	event: user count
//
//	data: {"id":"carol","name":"Carol","info":{},"connections":3,"users":3}
//	event: join
//
//	data: {"id":"carol","info":{"status":"away"}}
//	event: update
//
//	data: {"id":"5f1c0a9e4b-1","from":{"id":"alice","name":"Alice"},"data":"hello","at":"2026-11-22T18:00:06.789Z"}
//	event: message
//
//	data: {"id":"carol","name":"Carol","info":{},"connections":2,"users":2,"reason":"closed"}
//	event: leave

// Member is a user that is in a room.
type Member = room.Member

// Reason says why a member left: why its last connection ended.
type Reason = room.Reason

// Message is one message to a room, told to everybody in it.
type Message struct {
	Room  string
	ID    string          // its place in the room's messages, and the event's id
	Event string          // the event's name
	From  *Sender         // nil if the server itself is the sender
	Data  json.RawMessage // one JSON value, compact
	At    time.Time
}

// Sender is who sent a message.
type Sender struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

func messageEvent(m Message) stream.Event {
	// Put together by hand: the data is compact JSON already, and this runs
	// under the room's mutex.
	b := make([]byte, 0, len(m.Data)+512)
	b = append(append(append(b, `{"id":"`...), m.ID...), '"')
	if m.From != nil {
		b = append(append(b, `,"from":`...), encode(m.From)...)
	}
	b = append(append(b, `,"data":`...), m.Data...)
	b = append(m.At.AppendFormat(append(b, `,"at":"`...), time.RFC3339Nano), `"}`...)
	return stream.Event{ID: m.ID, Name: m.Event, Data: b}
}

func changeEvent(id string, r *room.Room, c room.Change) stream.Event {
	e := stream.Event{ID: id, Name: string(c.Event)}
	if c.Event == room.EventUpdate {
		e.Data = encode(struct {
			ID   room.UserID     `json:"id"`
			Info json.RawMessage `json:"info"`
		}{c.Member.ID, c.Member.Info})
		return e
	}
	e.Data = encode(struct {
		ID          room.UserID     `json:"id"`
		Name        string          `json:"name"`
		Info        json.RawMessage `json:"info"`
		Connections int             `json:"connections"`
		Users       int             `json:"users"`
		Reason      room.Reason     `json:"reason,omitempty"`
	}{c.Member.ID, c.Member.Name, c.Member.Info, r.Connections(), r.Users(), c.Reason})
	return e
}

func countEvent(id string, n int) stream.Event {
	return stream.Event{ID: id, Name: string(room.EventCount), Data: strconv.AppendInt(nil, int64(n), 10)}
}

func syncData(r *room.Room, heartbeat time.Duration) []byte {
	if r.Counting() { // by hand, as in a large room each joiner has its own
		return fmt.Appendf(nil, `{"connections":%d,"users":%d,"complete":false,"heartbeat":%v}`,
			r.Connections(), r.Users(), heartbeat.Seconds())
	}
	sync := struct {
		Connections int           `json:"connections"`
		Users       int           `json:"users"`
		Members     []room.Member `json:"members,omitempty"`
		Complete    bool          `json:"complete"`
		Heartbeat   float64       `json:"heartbeat"` // seconds
	}{Connections: r.Connections(), Users: r.Users(), Complete: true, Heartbeat: heartbeat.Seconds()}
	sync.Members, _ = r.Members("", r.Users())
	return encode(sync)
}

func resetEvent(id string) stream.Event {
	return stream.Event{ID: id, Name: string(room.EventReset), Data: []byte(`{"reason":"history"}`)}
}

// expiringEvent says how many seconds are left, rounded up. It is for one client
// alone, and so has no id.
func expiringEvent(left time.Duration) stream.Event {
	in := (left + time.Second - 1) / time.Second
	return stream.Event{Name: string(room.EventExpiring), Data: fmt.Appendf(nil, `{"in":%d}`, in)}
}

// appendRetry appends the block that has a browser wait for so long before it
// reconnects: drawn at random, so that a restart does not bring all clients
// back in one instant.
func appendRetry(b []byte, least, most time.Duration) []byte {
	b = strconv.AppendInt(append(b, "retry: "...), between(least, most).Milliseconds(), 10)
	return append(b, "\n\n"...)
}

// between draws a time.
func between(least, most time.Duration) time.Duration { return least + rand.N(most-least) }

// encode returns v, one of this package's shapes, as JSON on one line.
func encode(v any) []byte {
	b, err := marshal(v)
	if err != nil {
		panic(err) // none of the shapes can fail
	}
	return b
}

// marshal returns v as JSON on one line. Nothing is escaped for HTML, so that
// no text grows by it.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}
