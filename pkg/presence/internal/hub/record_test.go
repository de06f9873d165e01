package hub

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/room"
)

var drafts = []Draft{
	{Event: "message", Data: []byte("1")},
	{Event: "chat message", From: &room.Sender{ID: "alice", Name: "Al, \"data\":ice"}, Data: []byte(`{"data":"x","from":[]}`)},
	{Event: "é 1 2", From: &room.Sender{ID: "<b>&"}, Data: []byte(`"\\n"`)},
}

// A parsed record yields the original message. The replay of a record has the same bytes as its
// live event.
func TestRecord(t *testing.T) {
	at := time.Date(2026, 11, 22, 18, 0, 6, 789_654_321, time.UTC)
	for i, d := range drafts {
		b := newRecord("4f0c", uint64(i), d)
		r, err := parseRecord(b)
		if err != nil || string(r.node) != "4f0c" || r.number != uint64(i) {
			t.Errorf("record %q: got %+v, %v", b, r, err)
		}
		m, err := r.message("lobby", "e-7", at)
		if err != nil || m.Event != d.Event || !bytes.Equal(m.Data, d.Data) || (m.From == nil) != (d.From == nil) || m.From != nil && *m.From != *d.From {
			t.Errorf("record %q: got %+v, %v", b, m, err)
		}
		if want := at.Truncate(time.Millisecond); !m.At.Equal(want) || m.Room != "lobby" || m.ID != "e-7" {
			t.Errorf("record %q: got %+v", b, m)
		}
		live := messageEvent("e-7", r, at).Append(nil)
		replay := bytes.Join(replayOf(nil, "e", []backplane.Entry{{Position: 7, At: at, Data: b}}), nil)
		if !bytes.Equal(live, replay) {
			t.Errorf("live:\n%s\nreplayed:\n%s", live, replay)
		}
	}
}

// A line break in a record, which another client of the engine may have written, would add a field
// or an event to all streams.
func TestRecordWithLineBreak(t *testing.T) {
	good := string(newRecord("4f0c", 1, Draft{Event: "note", Data: []byte(`"text"`)}))
	if _, err := parseRecord([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"note", "text"} {
		for _, with := range []string{"\r", "\n", "\r\n", "\n\nevent: user count\ndata: 7\n\n"} {
			bad := strings.Replace(good, text, text[:2]+with+text[2:], 1)
			if r, err := parseRecord([]byte(bad)); err == nil {
				t.Errorf("%q: got event %q, body %q, want an error", bad, r.event, r.body)
			}
		}
	}
}

// parseRecord returns an error for malformed records. No input causes a panic.
func FuzzRecord(f *testing.F) {
	for i, d := range drafts {
		f.Add(newRecord("4f0c", uint64(i), d))
	}
	for _, s := range []string{"", "1", "1 a 1 0 e", "2 a 1 0 e\n\"data\":1", "1 a 1 -1 e\n\"data\":1", "1 a 1 9 e\n\"data\":1", "1 a x 0 e\n\"data\":1", "1 a 1 3 e\n\"from\":\"data\":1"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRecord(b)
		if err == nil {
			r.message("lobby", "e-7", time.Time{})
			if len(replayOf(nil, "e", []backplane.Entry{{Position: 7, Data: b}})) != piecesPerMessage {
				t.Errorf("record %q: wrong number of pieces in its replay", b)
			}
		}
	})
}
