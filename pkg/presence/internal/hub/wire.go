package hub

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"example.com/presence/pkg/presence/internal/compact"
	"example.com/presence/pkg/presence/internal/stream"
	"example.com/presence/pkg/presence/room"
)

// This file builds the data of each event. The example below is the stream of the second client of
// a room, without the id lines. The first block contains only the retry field, so a browser
// dispatches no event for it.
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

func changeEvent(id string, r *room.Room, c room.Change) stream.Event {
	e := stream.Event{ID: id, Name: string(c.Event)}
	if c.Event == room.EventUpdate {
		var name *string
		if c.Renamed {
			name = &c.Member.Name
		}
		e.Data = compact.Encode(struct {
			ID   room.UserID     `json:"id"`
			Name *string         `json:"name,omitempty"` // only if it has changed
			Info json.RawMessage `json:"info"`
		}{c.Member.ID, name, c.Member.Info})
		return e
	}
	e.Data = compact.Encode(struct {
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

func syncEvent(id string, snapshot []byte) stream.Event {
	return stream.Event{ID: id, Name: string(room.EventSync), Data: snapshot}
}

// snapshotOf encodes the snapshot of a room: the data of the sync event.
func snapshotOf(r *room.Room, heartbeat time.Duration) []byte {
	if r.Counting() { // formatted by hand, because in a large room each joiner has its own snapshot
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
	return compact.Encode(sync)
}

// resetEvent returns the event that reports that messages before this position were lost.
func resetEvent(id string) stream.Event {
	return stream.Event{ID: id, Name: string(room.EventReset), Data: []byte(`{"reason":"history"}`)}
}

// expiringEvent returns the event that announces the expiry of a token. It contains the seconds
// left, rounded up. It has no id, because it is sent to one client only.
func expiringEvent(left time.Duration) stream.Event {
	in := (left + time.Second - 1) / time.Second
	return stream.Event{Name: string(room.EventExpiring), Data: fmt.Appendf(nil, `{"in":%d}`, in)}
}

// AppendRetry appends the retry block, which sets the delay before a browser reconnects (WHATWG
// HTML section 9.2.6). The delay is random, between min and max, so that after a restart not all
// clients reconnect at the same time.
func AppendRetry(b []byte, min, max time.Duration) []byte {
	b = strconv.AppendInt(append(b, "retry: "...), (min + rand.N(max-min)).Milliseconds(), 10)
	return append(b, "\n\n"...)
}
