// Package ledger checks the promises of the server against a ledger: everything that the clients of
// one room sent and received during a test. The checks are functions of the ledger alone. They know
// nothing about the server's code, so a mistake in it cannot hide itself.
//
// A ledger is a sequence of [Record] values, in the order in which they happened. As a file, it has
// one JSON object per line:
//
//	{"at":"2026-01-02T15:04:05.1Z","kind":"opened","client":"c1","user":"u1","node":"127.0.1.1:80","id":"0123456789-7"}
//	{"at":"…","kind":"event","client":"c1","event":"message","id":"0123456789-8","data":{"id":"0123456789-8","data":"m-1"}}
//	{"at":"…","kind":"closed","client":"c1"}
//	{"began":"…","at":"…","kind":"posted","client":"p1","node":"127.0.1.1:80","content":"m-1","status":202,"id":"0123456789-8"}
//	{"at":"…","kind":"quiet","count":3,"members":["u1","u2"]}
//	{"at":"…","kind":"phase","phase":"cut off","apart":["127.0.1.1:80"]}
//
// Every message has a content that no other message has: a JSON string.
//
// The package is for tests. It imports only the standard library.
package ledger

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Kind is the kind of a [Record].
type Kind string

const (
	// Opened: the server has accepted the stream of a client. ID is the Last-Event-ID of the
	// request.
	Opened Kind = "opened"
	// Event: a client has received an event.
	Event Kind = "event"
	// Closed: the stream of a client has ended.
	Closed Kind = "closed"
	// Posted: a request that sends a message has ended.
	Posted Kind = "posted"
	// Quiet: nothing has changed for so long that every open client must know the truth: Count and
	// Members.
	Quiet Kind = "quiet"
	// Phase: a phase of the test begins, such as a fault, or the nodes that are apart change. Only
	// [Staleness] uses it.
	Phase Kind = "phase"
)

// Record is one line of a ledger. The comment of each field names the kinds that have it.
type Record struct {
	At   time.Time `json:"at"`
	Kind Kind      `json:"kind"`

	Client string `json:"client,omitempty"` // all but Quiet
	User   string `json:"user,omitempty"`   // Opened
	Node   string `json:"node,omitempty"`   // Opened, Posted: address of the node
	ID     string `json:"id,omitempty"`     // Opened: the id held; Event: its id line; Posted: the id in the answer

	Event string          `json:"event,omitempty"` // Event: its name
	Data  json.RawMessage `json:"data,omitempty"`  // Event

	Began   time.Time `json:"began,omitzero"`    // Posted, Opened: start of the request; At is its end
	Content string    `json:"content,omitempty"` // Posted: content of the message
	Status  int       `json:"status,omitempty"`  // Posted: status of the answer; 0: the answer was lost

	Count   int      `json:"count,omitempty"`   // Quiet: true user count
	Members []string `json:"members,omitempty"` // Quiet: true members, sorted; nil: not known

	Phase  string   `json:"phase,omitempty"`  // Phase: its name
	Apart  []string `json:"apart,omitempty"`  // Phase: nodes that can reach no other node
	Paused []string `json:"paused,omitempty"` // Phase: nodes that cannot reach their clients
}

// Message is the data of an event that carries a message.
type Message struct {
	ID   string `json:"id"`
	Data string `json:"data"` // content
}

// server lists the events that carry no message.
var server = []string{"user count", "sync", "join", "leave", "update", "reset", "expiring", "goodbye", "ping"}

// carries reports whether the record is an event that carries a message.
func (r Record) carries() bool { return r.Kind == Event && !slices.Contains(server, r.Event) }

// Message returns the message of an event. ok is false for all other records, and if the data of
// the event is malformed.
func (r Record) Message() (m Message, ok bool) {
	ok = r.carries() && json.Unmarshal(r.Data, &m) == nil
	return m, ok
}

// Write writes records as JSON lines.
func Write(w io.Writer, records []Record) error {
	e := json.NewEncoder(w)
	for _, r := range records {
		if err := e.Encode(r); err != nil {
			return fmt.Errorf("ledger: write: %w", err)
		}
	}
	return nil
}

// Read reads JSON lines up to the end of r.
func Read(r io.Reader) (records []Record, err error) {
	for d := json.NewDecoder(r); ; {
		var record Record
		if err := d.Decode(&record); errors.Is(err, io.EOF) {
			return records, nil
		} else if err != nil {
			return nil, fmt.Errorf("ledger: record %d: %w", len(records)+1, err)
		}
		records = append(records, record)
	}
}

// Position is a parsed event id: EPOCH-SEQ.
type Position struct {
	Epoch string
	Seq   uint64
}

// ParsePosition parses an event id.
func ParsePosition(id string) (Position, bool) {
	epoch, seq, ok := strings.Cut(id, "-")
	n, err := strconv.ParseUint(seq, 10, 64)
	return Position{epoch, n}, ok && err == nil && len(epoch) == 10
}

// String returns the event id.
func (p Position) String() string { return p.Epoch + "-" + strconv.FormatUint(p.Seq, 10) }
