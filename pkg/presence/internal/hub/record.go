package hub

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/internal/compact"
	"example.com/presence/pkg/presence/internal/stream"
	"example.com/presence/pkg/presence/room"
)

// Draft is a message before the log has assigned its position and time.
type Draft struct {
	Event string          // a valid event name
	From  *room.Sender    // nil if the server is the sender
	Data  json.RawMessage // one compact JSON value
}

// record is a message in the backplane's log. The log assigns the position and the time, so the hub
// builds the event from the record when it sends the event. A record consists of a header line and
// a part of the event's data:
//
//	1 4f0c…9a 17 37 chat message
//	"from":{"id":"alice","name":"Alice"},"data":"hello"
//
// The header line has these fields:
//
//	1             version
//	4f0c…9a       node that accepted the message
//	17            number of the message on that node
//	37            length of the sender part in bytes; 0 without a sender
//	chat message  event name: the rest of the line, which may contain spaces
type record struct {
	node   []byte
	number uint64 // on that node; identifies the stream slot of the message
	event  string
	body   []byte // "from":…,"data":…
	from   int    // length of "from":… at the start of body; 0 without a sender
}

const (
	recordVersion = "1"
	fromName      = `"from":`
	dataName      = `"data":`
)

// LargestRecord returns the size of the largest record of a message with a body of at most
// maxMessage bytes. As JSON, a text may be twice as long. 8 KiB is space for the sender, the names
// and the headers of the engine.
func LargestRecord(maxMessage int) int { return 2*maxMessage + 8<<10 }

// newRecord encodes the record of a message. The data must be compact JSON.
func newRecord(node string, number uint64, d Draft) []byte {
	var from []byte
	if d.From != nil {
		from = append(append([]byte(fromName), compact.Encode(d.From)...), ',')
	}
	b := make([]byte, 0, len(recordVersion)+len(node)+len(d.Event)+len(from)+len(d.Data)+64)
	b = append(append(append(b, recordVersion+" "...), node...), ' ')
	b = append(strconv.AppendUint(b, number, 10), ' ')
	b = append(strconv.AppendInt(b, int64(len(from)), 10), ' ')
	b = append(append(append(b, d.Event...), '\n'), from...)
	return append(append(b, dataName...), d.Data...)
}

// parseRecord parses a record. The result shares memory with b. It has no line break within the
// event or the body, so that another client of the engine cannot add lines to the events of a
// stream.
func parseRecord(b []byte) (r record, err error) {
	line, body, _ := bytes.Cut(b, []byte("\n"))
	version, rest, _ := bytes.Cut(line, []byte(" "))
	node, rest, _ := bytes.Cut(rest, []byte(" "))
	number, rest, _ := bytes.Cut(rest, []byte(" "))
	from, event, whole := bytes.Cut(rest, []byte(" "))
	if !whole || string(version) != recordVersion {
		return record{}, fmt.Errorf("record version unknown (%.40q)", line)
	}
	r = record{node: node, event: eventName(event), body: body}
	var failed, failed2 error
	r.number, failed = strconv.ParseUint(string(number), 10, 64)
	r.from, failed2 = strconv.Atoi(string(from))
	sender := r.from == 0 || r.from > len(fromName) && r.from <= len(body) && bytes.HasPrefix(body, []byte(fromName))
	if failed != nil || failed2 != nil || !sender || !bytes.HasPrefix(body[r.from:], []byte(dataName)) ||
		bytes.IndexByte(body, '\n') >= 0 || bytes.IndexByte(b, '\r') >= 0 {
		return record{}, fmt.Errorf("record malformed (%.40q)", line)
	}
	return r, nil
}

// eventName converts the name to a string. It does not allocate for the most common name.
func eventName(name []byte) string {
	if string(name) == string(room.EventMessage) {
		return string(room.EventMessage)
	}
	return string(name)
}

// message returns the message of the record, including its sender, for a hook.
func (r record) message(name room.Name, id string, at time.Time) (room.Message, error) {
	m := room.Message{Room: string(name), ID: id, Event: r.event, At: timeOf(at),
		Data: json.RawMessage(r.body[r.from+len(dataName):])}
	if r.from == 0 {
		return m, nil
	}
	m.From = new(room.Sender)
	return m, json.Unmarshal(r.body[len(fromName):r.from-1], m.From)
}

// timeOf returns the time of a message as it is sent to clients: in UTC, in whole milliseconds.
func timeOf(at time.Time) time.Time { return at.UTC().Truncate(time.Millisecond) }

// dataHead and dataTail append the parts of the event data before and after the record's body.
func dataHead(b []byte, id string) []byte {
	return append(append(append(b, `{"id":"`...), id...), `",`...)
}
func dataTail(b []byte, at time.Time) []byte {
	return append(timeOf(at).AppendFormat(append(b, `,"at":"`...), time.RFC3339Nano), `"}`...)
}

func messageEvent(id string, r record, at time.Time) stream.Event {
	data := make([]byte, 0, len(r.body)+len(id)+64)
	data = append(dataHead(data, id), r.body...)
	return stream.Event{ID: id, Name: r.event, Data: dataTail(data, at)}
}

// piecesPerMessage is the number of byte slices that replayOf appends for each message.
const piecesPerMessage = 3

// nothing is each piece of a malformed record.
var nothing = []byte{}

// replayOf appends the encoded events of log entries. Each event has three pieces:
//
//  1. the start, allocated for this replay
//  2. the body of the record, shared with the log
//  3. the end, allocated for this replay
func replayOf(pieces [][]byte, epoch string, entries []backplane.Entry) [][]byte {
	var buf []byte
	for _, e := range entries {
		r, err := parseRecord(e.Data)
		if err != nil { // deliverLocked logs it
			pieces = append(pieces, nothing, nothing, nothing)
			continue
		}
		id := room.Position{Epoch: epoch, Seq: e.Position}.String()
		if cap(buf)-len(buf) < 2*len(id)+len(r.event)+128 {
			buf = make([]byte, 0, max(1<<10, 2*len(id)+len(r.event)+128))
		}
		head := len(buf)
		buf = dataHead(append(append(append(buf, "id: "...), id...), "\ndata: "...), id)
		tail := len(buf)
		buf = append(append(append(dataTail(buf, e.At), "\nevent: "...), r.event...), "\n\n"...)
		pieces = append(pieces, buf[head:tail:tail], r.body, buf[tail:len(buf):len(buf)])
	}
	return pieces
}
