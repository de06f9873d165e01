package nats

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"example.com/presence/pkg/presence/backplane"
)

// Headers of the messages of the stream. The NATS server adds the others when it republishes an
// entry (NATS documentation, "JetStream republish").
const (
	headerSequence  = "Nats-Sequence"
	headerBefore    = "Nats-Last-Sequence" // of the message of the room before this one; 0: none
	headerTime      = "Nats-Time-Stamp"
	headerTTL       = "Nats-TTL"
	headerRollup    = "Nats-Rollup"
	headerExpected  = "Nats-Expected-Last-Subject-Sequence"
	headerOperation = "KV-Operation"       // of a row: it was deleted
	headerMarker    = "Nats-Marker-Reason" // the row has expired
	headerCleared   = "Presence-Cleared"   // of a marker: the last position that it has removed
)

// republished is an entry or a marker that the server has republished.
type republished struct {
	backplane.Entry
	before uint64 // sequence number of the message of the room before it; 0: none, or removed
	marker bool   // it removes the entries before it, and is none itself
}

// parseRepublished decodes a message that the server has republished.
func parseRepublished(m *nats.Msg) (r republished, err error) {
	r.Position, err = strconv.ParseUint(m.Header.Get(headerSequence), 10, 64)
	if err != nil || r.Position == 0 {
		return r, fmt.Errorf("entry malformed: sequence number %.40q", m.Header.Get(headerSequence))
	}
	if r.before, err = strconv.ParseUint(m.Header.Get(headerBefore), 10, 64); err != nil || r.before >= r.Position {
		return r, fmt.Errorf("entry malformed: previous sequence number %.40q", m.Header.Get(headerBefore))
	}
	if r.At, err = time.Parse(time.RFC3339Nano, m.Header.Get(headerTime)); err != nil {
		return r, fmt.Errorf("entry malformed: time %.40q", m.Header.Get(headerTime))
	}
	r.marker = m.Header.Get(headerCleared) != ""
	r.Data = m.Data
	return r, nil
}

// cleared returns the position up to which a marker has removed the entries of a room. ok is false
// if the header is not that of a marker.
func cleared(h nats.Header) (position uint64, ok bool) {
	position, err := strconv.ParseUint(h.Get(headerCleared), 10, 64)
	return position, err == nil
}

// parseRow decodes a change of the bucket that the server has republished just now. The time in its
// header is by the clock of the server, so parseRow does not use it.
func parseRow(token string, m *nats.Msg, now time.Time) (r tableRow, err error) {
	if r.revision, err = strconv.ParseUint(m.Header.Get(headerSequence), 10, 64); err != nil {
		return r, fmt.Errorf("row malformed: sequence number %.40q", m.Header.Get(headerSequence))
	}
	if m.Header.Get(headerOperation) != "" || m.Header.Get(headerMarker) != "" {
		key, ok := untoken(token)
		if !ok {
			return r, fmt.Errorf("row malformed: key %.100q", token)
		}
		r.Key, r.Deleted = key, true
		return r, nil
	}
	r.Row, err = decodeRow(token, m.Data, now)
	return r, err
}

// rowHead is the size of the time to live, in milliseconds, before the value of a row.
const rowHead = 8

func encodeRow(value []byte, ttl time.Duration) []byte {
	data := make([]byte, rowHead, rowHead+len(value))
	binary.BigEndian.PutUint64(data, uint64(ttl.Milliseconds()))
	return append(data, value...)
}

// maxTTL bounds the time to live of a row in milliseconds: 100 years.
const maxTTL = 100 * 365 * 24 * 3600 * 1000

// decodeRow decodes a row. created is when the server has stored it, by the clock of this node.
func decodeRow(token string, data []byte, created time.Time) (r backplane.Row, err error) {
	key, ok := untoken(token)
	if !ok || key == "" {
		return r, fmt.Errorf("row malformed: key %.100q", token)
	}
	if len(data) < rowHead {
		return r, errors.New("row malformed: no time to live")
	}
	ttl := binary.BigEndian.Uint64(data)
	if ttl == 0 || ttl > maxTTL {
		return r, fmt.Errorf("row malformed: time to live of %d ms", ttl)
	}
	return backplane.Row{Key: key, Value: data[rowHead:], Expires: created.Add(time.Duration(ttl) * time.Millisecond)}, nil
}
