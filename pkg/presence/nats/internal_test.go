package nats

import (
	"encoding/binary"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/room"
)

func FuzzToken(f *testing.F) {
	for _, s := range []string{"", "lobby", "a.b", "*", ">", " ", "=2E", "é", "\x00", strings.Repeat(".", 128)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := token(s)
		if strings.ContainsAny(got, ".*> \t\r\n") || s != "" && got == "" {
			t.Errorf("token of %q: got %q, which is not one token", s, got)
		}
		if back, ok := untoken(got); !ok || back != s {
			t.Errorf("untoken of %q: got %q, %v; want %q", got, back, ok, s)
		}
		if back, ok := untoken(s); ok && token(back) != s {
			t.Errorf("untoken accepts %q, but the token of %q is %q", s, back, token(back))
		}
	})
}

func FuzzEntry(f *testing.F) {
	f.Add("7", "3", "2026-11-29T08:00:00Z", "", "x")
	f.Add("0", "-1", "yesterday", "5", "")
	f.Fuzz(func(t *testing.T, sequence, before, at, marker, data string) {
		m := nats.NewMsg("presence.room.a.log.0123456789")
		m.Data = []byte(data)
		for name, value := range map[string]string{headerSequence: sequence, headerBefore: before, headerTime: at, headerCleared: marker} {
			m.Header.Set(name, value)
		}
		r, err := parseRepublished(m)
		if err == nil && (r.Position == 0 || r.before >= r.Position || r.marker != (marker != "") || string(r.Data) != data) {
			t.Errorf("got %+v", r)
		}
	})
}

func FuzzRow(f *testing.F) {
	f.Add("ban=2Ea", encodeRow([]byte("value"), time.Hour))
	f.Add("", []byte{})
	f.Add("a", binary.BigEndian.AppendUint64(nil, 1<<63))
	f.Fuzz(func(t *testing.T, key string, data []byte) {
		created := time.Unix(1764288000, 0)
		r, err := decodeRow(key, data, created)
		if err == nil && (r.Key == "" || token(r.Key) != key || !r.Expires.After(created) || len(r.Value) != len(data)-rowHead) {
			t.Errorf("got %+v", r)
		}
		m := nats.NewMsg("presence.table." + key)
		m.Data = data
		m.Header.Set(headerSequence, "7")
		again, republished := parseRow(key, m, created)
		if (republished == nil) != (err == nil) || err == nil && (again.revision != 7 || again.Key != r.Key || !again.Expires.Equal(r.Expires)) {
			t.Errorf("republished: got %+v, %v; want %+v, %v", again, republished, r, err)
		}
		m.Header.Set(headerMarker, "MaxAge")
		if gone, err := parseRow(key, m, created); err == nil && (!gone.Deleted || token(gone.Key) != key) {
			t.Errorf("expired: got %+v", gone)
		}
	})
}

// A room without entries knows after an interruption that it has lost none, if the stream has
// removed none since the last sample before the interruption.
func TestQuietRoom(t *testing.T) {
	start := time.Unix(1764288000, 0)
	var p progress
	p.start("e")
	s := &subscription{name: "a", epoch: "e", since: start}
	ss := &subscriptions{topics: map[room.Name][]*subscription{"a": {s}}, all: map[*subscription]struct{}{s: {}}}
	s.worker = newWorker(nil, ss.find)
	ss.located("a", 10)
	for i := range 20 {
		p.sampled("e", uint64(100+i), start.Add(time.Duration(i)*checkTime))
	}
	now := start.Add(20 * checkTime)
	if got := ss.held("a", 10); got != 10 {
		t.Errorf("before an interruption: got %d, want 10", got)
	}
	last, ok := p.before(now.Add(-noticeTime))
	if want := uint64(117); !ok || last.sequence != want {
		t.Fatalf("got sample %+v, %v; want %d, 6 s ago", last, ok, want)
	}
	ss.loseAll(last, ok, map[string]bool{}, now)
	for after, want := range map[uint64]uint64{9: 9, 10: 117, 11: 117} {
		if got := ss.held("a", after); got != want {
			t.Errorf("after an interruption: got %d for %d, want %d", got, after, want)
		}
	}
	if !ss.isQuiet("a", 10) || ss.isQuiet("a", 10) {
		t.Error("a quiet room needs no read, once")
	}
	ss.loseAll(last, ok, map[string]bool{}, now.Add(time.Second))
	if ss.isQuiet("a", 10) {
		t.Error("a room that was interrupted 1 s before is quiet, want not known")
	}
	s.since = start
	ss.loseAll(last, ok, map[string]bool{"a": true}, now)
	if ss.isQuiet("a", 10) {
		t.Error("a room with a new entry is quiet")
	}
	s.seen.Store(12)
	if got := ss.held("a", 10); got != 10 {
		t.Errorf("behind the subscription: got %d, want 10", got)
	}
}

// A load of the table does not add a row again that was deleted meanwhile, and deletes those that
// it does not find.
func TestTableLoad(t *testing.T) {
	row := func(key, value string, revision uint64) tableRow {
		return tableRow{backplane.Row{Key: key, Value: []byte(value), Deleted: value == ""}, revision}
	}
	table := newTable()
	var got []string
	cancel := table.watch(func(r backplane.Row) { got = append(got, r.Key+string(r.Value)) })
	table.apply(row("a", "1", 1))
	table.apply(row("b", "1", 2))
	table.begin(false)
	table.apply(row("c", "", 5))  // deleted during the load
	table.apply(row("d", "2", 6)) // put during the load
	table.apply(row("a", "1", 1)) // from here on, the rows of the load
	table.apply(row("c", "1", 3))
	table.apply(row("d", "1", 4))
	table.end(map[string]bool{"a": true, "c": true, "d": true}, 4)
	if want := "a1 b1 d2 b"; strings.Join(got, " ") != want {
		t.Errorf("got %q, want %q", strings.Join(got, " "), want)
	}
	table.apply(row("a", "", 7))
	table.begin(true) // another bucket, whose revisions begin again
	table.apply(row("d", "3", 1))
	table.end(map[string]bool{"d": true}, 1)
	cancel()
	table.apply(row("d", "4", 9))
	if want := "a1 b1 d2 b a d3"; strings.Join(got, " ") != want {
		t.Errorf("got %q, want %q", strings.Join(got, " "), want)
	}
	if table.revision != 9 || len(table.rows) != 1 {
		t.Errorf("got revision %d and %d rows, want 9 and 1", table.revision, len(table.rows))
	}
}

// A subscription for requests alone receives no entries, so it knows nothing about the log.
func TestAskSubscriptionKnowsNothing(t *testing.T) {
	c := newCore(Config{Prefix: "p"})
	ss := &subscriptions{core: c, byNATS: map[*nats.Subscription]*subscription{}, all: map[*subscription]struct{}{},
		topics: map[room.Name][]*subscription{}}
	for _, h := range []backplane.Handler{{Entry: func(backplane.Entry) {}}, {Ask: func([]byte) []byte { return nil }}} {
		ss.register(&subscription{handler: h, name: "a", worker: newWorker(c, ss.find), since: time.Unix(0, 0)})
	}
	ss.located("a", 2)
	ss.topics["a"][0].seen.Store(5)
	now := time.Unix(1764288000, 0)
	ss.loseAll(sample{now.Add(-6 * time.Second), 9}, true, map[string]bool{}, now)
	if got := ss.held("a", 2); got != 2 {
		t.Errorf("held above 2, with entries up to 5: got %d, want 2", got)
	}
	if ss.isQuiet("a", 2) {
		t.Error("a room is quiet above 2, with entries up to 5")
	}
}

// The copy has a bound, which is higher than the limit of Put.
func TestTableLimit(t *testing.T) {
	table := newTable()
	for i := range maxRows + slack + 10 {
		table.apply(tableRow{backplane.Row{Key: strconv.Itoa(i)}, uint64(i + 1)})
	}
	if n := len(table.rows); n != maxRows+slack {
		t.Errorf("got %d rows, want %d", n, maxRows+slack)
	}
}

// The time of an interruption is that of its first sign. A check that succeeds forgets it, unless
// the connection was interrupted again during the check.
func TestBreakTime(t *testing.T) {
	c := newCore(Config{Prefix: "p"})
	start := time.Unix(1764288000, 0)
	c.noticed(start)
	c.interrupted()
	first, breaks := c.brokeAt.Load(), c.breaks.Load()
	if !first.Equal(start) {
		t.Errorf("after a failed check and an interruption: got %v, want %v", first, start)
	}
	c.interrupted()
	c.repaired(first, breaks)
	if got := c.brokeAt.Load(); got != first {
		t.Errorf("after another interruption during the check: got %v, want %v", got, first)
	}
	c.repaired(first, c.breaks.Load())
	if got := c.brokeAt.Load(); got != nil {
		t.Errorf("after a check: got %v, want none", got)
	}
}

// A slow answer of the server is no difference of the clocks.
func TestSkew(t *testing.T) {
	sent := time.Unix(1764288000, 0)
	received := sent.Add(3 * time.Second)
	for server, want := range map[time.Duration]time.Duration{
		-time.Hour: time.Hour, -time.Second: time.Second, 0: 0, 2 * time.Second: 0, 3 * time.Second: 0, 4 * time.Second: -time.Second,
	} {
		if got := skew(sent, sent.Add(server), received); got != want {
			t.Errorf("server at %v: got %v, want %v", server, got, want)
		}
	}
}
