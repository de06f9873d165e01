package nats_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/nats"
	"example.com/presence/pkg/presence/room"
)

// After a cut that is longer than the history, a room whose entry has expired meanwhile is not
// taken for a quiet one.
func TestCutLongerThanHistory(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	r := startRelay(t, s)
	c := config(r.url())
	c.Age = time.Second
	other := c
	other.URLs = []string{s.ClientURL()}
	a, b := open(t, c), open(t, other)
	got := record(t, a, "r")
	start, err := a.Last(t.Context(), "r")
	if err != nil {
		t.Fatal(err)
	}
	pause(t, 25*time.Second) // until the node knows that the room was quiet
	r.setCut(true)
	await(t, "the loss of contact", func() bool { return !a.Status().Connected })
	add(t, b, "r", "lost")
	await(t, "the end of the entry", func() bool {
		entries, _, err := b.Read(t.Context(), "r", 0)
		return err == nil && len(entries) == 0
	})
	add(t, b, "other", "x")
	r.setCut(false)
	await(t, "a call of Lost", func() bool { return strings.Contains(got.text(), "lost") })
	if entries, complete := read(t, a, "r", start); complete {
		t.Errorf("Read above %d: got %d entries, complete; want not complete", start, len(entries))
	}
}

// A read above the last position of a room without entries is not complete.
func TestReadAboveLast(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	b := open(t, config(s.ClientURL()))
	for _, purged := range []uint64{0, 2} { // the stream begins at 1, or at 3
		for i := range 3 {
			add(t, b, "other", fmt.Sprint(purged, i))
		}
		stream, err := streams(t, s.ClientURL()).Stream(t.Context(), nats.DefaultPrefix)
		if err != nil {
			t.Fatal(err)
		}
		if purged > 0 {
			if err := stream.Purge(t.Context(), jetstream.WithPurgeSequence(purged+1)); err != nil {
				t.Fatal(err)
			}
		}
		last, err := b.Last(t.Context(), "empty")
		if last != purged || err != nil {
			t.Fatalf("Last: got %d, %v; want %d", last, err, purged)
		}
		for after, want := range map[uint64]bool{last: true, last + 1: false, last + 2: false, last + 100: false} {
			entries, complete, err := b.Read(t.Context(), "empty", after)
			if len(entries) > 0 || complete != want || err != nil {
				t.Errorf("Read above %d, Last %d: got %d entries, complete %v, %v; want %v", after, last, len(entries), complete, err, want)
			}
		}
	}
}

// An entry that was on its way when a long cut began is found by the first read after the cut.
func TestEntryOnItsWayBeforeCut(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	r := startRelay(t, s)
	a, b := open(t, config(r.url())), open(t, config(s.ClientURL()))
	got := record(t, a, "r")
	start, err := a.Last(t.Context(), "r")
	if err != nil {
		t.Fatal(err)
	}
	pause(t, 25*time.Second) // until the node knows that the room was quiet
	r.setDrop(func(subject string) bool { return strings.HasPrefix(subject, "presence.room.r.log.") })
	add(t, b, "r", "on its way")
	a.Check()
	pause(t, time.Second) // for the check
	r.setCut(true)
	pause(t, 6*time.Second)
	r.setDrop(nil)
	r.setCut(false)
	await(t, "a call of Lost", func() bool { return got.text() == "lost" })
	if entries, complete := read(t, a, "r", start); len(entries) != 1 || !complete {
		t.Errorf("first Read: got %d entries, complete %v; want 1", len(entries), complete)
	}
}

// pause waits because the time itself matters.
func pause(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
}

// An operator lowers the limit of the stream, and raises it again. Entries that were removed under
// the lower limit are missing, whichever limit the node was started with.
func TestChangedLimit(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := config(s.ClientURL())
	c.Messages = 100
	node := open(t, c)
	add(t, node, "quiet", "x")
	var positions []uint64
	for i := range 50 {
		positions = append(positions, add(t, node, "r", fmt.Sprint(i)))
	}
	js := streams(t, s.ClientURL())
	stream, err := js.Stream(t.Context(), nats.DefaultPrefix)
	if err != nil {
		t.Fatal(err)
	}
	limit := func(messages int64) {
		t.Helper()
		info, err := stream.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		info.Config.MaxMsgsPerSubject = messages
		if _, err := js.UpdateStream(t.Context(), info.Config); err != nil {
			t.Fatal(err)
		}
	}
	check := func(name string, b *nats.Bus) {
		t.Helper()
		entries, complete, err := b.Read(t.Context(), "r", positions[20])
		if err != nil || complete || len(entries) != 10 {
			t.Errorf("%s: got %d entries, complete %v, %v; want 10, not complete", name, len(entries), complete, err)
		}
	}
	limit(10)
	check("lowered", node)
	await(t, "the note of the lower limit", func() bool {
		info, err := stream.Info(t.Context())
		return err == nil && info.Config.Metadata["presence_least_messages"] == "10"
	})
	limit(1000)
	check("raised", node)
	c.Messages = 1000
	check("raised, after a restart", open(t, c))
}

// A read is not complete if entries are removed while it runs, but it has no hole. While each read
// runs, up to nine entries are added, and as many are removed.
func TestReadDuringRemovals(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	reader, writer := open(t, config(s.ClientURL())), open(t, config(s.ClientURL()))
	var positions []uint64
	for range 10 {
		positions = append(positions, add(t, writer, "r", "x"))
	}
	complete := 0
	for attempt := range 300 {
		after := positions[len(positions)-10+attempt/10%10]
		var writing sync.WaitGroup
		writing.Go(func() {
			for range attempt % 10 {
				if position, _, err := writer.Append(t.Context(), "r", "", []byte("x")); err != nil {
					t.Error(err)
				} else {
					positions = append(positions, position)
				}
			}
		})
		entries, whole, err := reader.Read(t.Context(), "r", after)
		writing.Wait()
		if err != nil {
			t.Fatal(err)
		}
		first := after + 1
		if whole {
			complete++
		} else if len(entries) > 0 {
			first = entries[0].Position
		}
		for i, e := range entries { // the room has all positions
			if want := first + uint64(i); e.Position != want {
				t.Fatalf("read above %d, complete %t: got entry %d after %d", after, whole, e.Position, want-1)
			}
		}
	}
	t.Logf("%d of 300 reads were complete", complete)
	if complete < 30 { // a read while none is added is complete
		t.Errorf("%d reads were complete, want at least 30", complete)
	}
}

// The table is not loaded again if its last change has expired, and a load does not call the
// watchers for rows that have not changed.
func TestExpiredLastRow(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	first := open(t, config(s.ClientURL()))
	for _, key := range []string{"stays", "goes"} {
		if err := first.Put(t.Context(), key, nil, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	stream, err := streams(t, s.ClientURL()).Stream(t.Context(), "KV_presence_table")
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(t.Context(), jetstream.WithPurgeSubject("$KV.presence_table.goes")); err != nil {
		t.Fatal(err)
	}
	second := open(t, config(s.ClientURL()))
	rows := make(chan backplane.Row, 100)
	start := time.Now()
	if _, err := second.Watch(func(r backplane.Row) { rows <- r }); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > 4*time.Second { // a load that waits for the expired row takes 6 s
		t.Errorf("Watch took %v", took)
	}
	pause(t, 5*time.Second) // two checks
	if n := len(rows); n != 1 {
		t.Errorf("got %d calls for one row, want 1", n)
	}
	if info, err := stream.Info(t.Context()); err != nil || info.State.Consumers > 0 {
		t.Errorf("got %+v, %v; want no consumer", info.State, err)
	}
}

// Open ends with its ctx while the servers do not answer.
func TestOpenEndsWithContext(t *testing.T) {
	t.Parallel()
	var urls []string
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0") // accepts connections, and never answers
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		urls = append(urls, "nats://"+l.Addr().String())
	}
	ctx, cancel := context.WithCancel(t.Context())
	opened := make(chan error)
	go func() {
		_, err := nats.Open(ctx, config(urls...))
		opened <- err
	}()
	cancel()
	if err := <-opened; err == nil {
		t.Error("got no error")
	}
}

// A prefix may be a word that the subjects contain.
func TestPrefixes(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, prefix := range []string{"msg", "log", "ask", "room", "inbox"} {
		c := config(s.ClientURL())
		c.Prefix = prefix
		b := open(t, c)
		got := make(chan string, 10)
		cancel, err := b.Subscribe(backplane.Nodes, backplane.Handler{
			Message: func(data []byte) { got <- "message " + string(data) },
			Ask:     func(request []byte) []byte { return append([]byte("answer to "), request...) },
		})
		if err != nil {
			t.Fatal(err)
		}
		defer cancel()
		if err := b.Ask(t.Context(), backplane.Nodes, []byte("question"), func(data []byte) bool { got <- string(data); return false }); err != nil {
			t.Error(err)
		}
		if err := b.Publish(t.Context(), backplane.Nodes, []byte("text")); err != nil {
			t.Error(err)
		}
		for _, want := range []string{"answer to question", "message text"} {
			if text := <-got; text != want {
				t.Errorf("prefix %s: got %q, want %q", prefix, text, want)
			}
		}
	}
}

// A bucket that has lost its newest rows is loaded again. Later rows apply, though their revisions
// were used before.
func TestTableWentBack(t *testing.T) {
	t.Parallel()
	store, backup := t.TempDir(), filepath.Join(t.TempDir(), "backup")
	port, stored := fixedPort(t), func(o *server.Options) { o.StoreDir = store }
	s := startServer(t, stored, port)
	b := open(t, config(s.ClientURL()))
	var mu sync.Mutex
	var rows []string
	put := func(key string) {
		t.Helper()
		await(t, "a row", func() bool { return b.Put(t.Context(), key, nil, time.Hour) == nil })
	}
	seen := func(want string) func() bool {
		return func() bool {
			mu.Lock()
			defer mu.Unlock()
			return strings.Join(rows, " ") == want
		}
	}
	if _, err := b.Watch(func(r backplane.Row) {
		mu.Lock()
		defer mu.Unlock()
		if r.Deleted {
			r.Key = "-" + r.Key
		}
		rows = append(rows, r.Key)
	}); err != nil {
		t.Fatal(err)
	}
	put("a")
	await(t, "the first row", seen("a"))
	stop(s)
	await(t, "the loss of contact", func() bool { return !b.Status().Connected })
	copyDir(t, store, backup)
	s = startServer(t, stored, port)
	put("b")
	await(t, "the second row", seen("a b"))
	stop(s)
	await(t, "the loss of contact", func() bool { return !b.Status().Connected })
	copyDir(t, backup, store)
	startServer(t, stored, port)
	await(t, "the end of the second row", seen("a b a -b"))
	put("c")
	await(t, "the third row", seen("a b a -b c"))
}

// A full table refuses a new row with its limit, and still replaces and deletes rows.
func TestFullTable(t *testing.T) {
	t.Parallel()
	b := open(t, config(startServer(t).ClientURL()))
	put := func(key, value string) error { return b.Put(t.Context(), key, []byte(value), time.Hour) }
	var last syncBuffer
	if _, err := b.Watch(func(r backplane.Row) {
		if r.Key == "a" || r.Key == "b" {
			fmt.Fprintf(&last, "%s=%s;", r.Key, r.Value)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := put("a", "1"); err != nil {
		t.Fatal(err)
	}
	await(t, "the first row", func() bool { return last.String() == "a=1;" })
	b.FillTable()
	full := new(backplane.TableFullError)
	if err := put("b", "1"); !errors.As(err, &full) || full.Limit != 100_000 || err.Error() != "table row limit reached (100000)" {
		t.Errorf("new row: got %v, want the limit of 100,000", err)
	}
	if err := put("a", "2"); err != nil {
		t.Errorf("row that exists: got %v, want it replaced", err)
	}
	if err := b.Delete(t.Context(), "a"); err != nil {
		t.Errorf("row that exists: got %v, want it deleted", err)
	}
	await(t, "the end of the first row", func() bool { return last.String() == "a=1;a=2;a=;" })
	if err := put("b", "2"); err != nil {
		t.Errorf("new row after one was deleted: got %v", err)
	}
}

// Rows that several calls of Put store at the limit of the table at the same time reach all copies.
func TestRowsAtTheLimit(t *testing.T) {
	t.Parallel()
	b := open(t, config(startServer(t).ClientURL()))
	var arrived atomic.Int32
	if _, err := b.Watch(func(r backplane.Row) {
		if len(r.Value) > 0 {
			arrived.Add(1)
		}
	}); err != nil {
		t.Fatal(err)
	}
	b.FillTable()
	b.DropRow("0") // space for one row
	var puts sync.WaitGroup
	var stored atomic.Int32
	for i := range 50 {
		puts.Go(func() {
			err := b.Put(t.Context(), "k"+strconv.Itoa(i), []byte("value"), time.Hour)
			if err == nil {
				stored.Add(1)
			} else if !errors.Is(err, backplane.ErrTableFull) {
				t.Errorf("got %v, want success or %v", err, backplane.ErrTableFull)
			}
		})
	}
	puts.Wait()
	await(t, "the rows that were stored", func() bool { return stored.Load() > 0 && arrived.Load() == stored.Load() })
}

// A bucket that was deleted is created again. The log has a line about each.
func TestTableDeleted(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	var out syncBuffer
	c := config(s.ClientURL())
	c.Log = slog.New(slog.NewTextHandler(&out, nil))
	b := open(t, c)
	const created, deleted = "table of bans created", "table of bans was deleted or went back"
	if text := out.String(); strings.Count(text, created) != 1 || strings.Contains(text, deleted) {
		t.Errorf("at the start: log %s", text)
	}
	if err := streams(t, s.ClientURL()).DeleteKeyValue(t.Context(), "presence_table"); err != nil {
		t.Fatal(err)
	}
	b.Check()
	await(t, "both lines", func() bool {
		text := out.String()
		return strings.Count(text, created) == 2 && strings.Count(text, deleted) == 1
	})
}

// If a load of the table fails, the rows that were deleted during it do not stay in the copy, and
// the next check loads the table again.
func TestFailedLoad(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	relay := startRelay(t, s)
	deaf, other := open(t, config(relay.url())), open(t, config(s.ClientURL()))
	rows := make(chan string, 100)
	if _, err := deaf.Watch(func(r backplane.Row) { rows <- fmt.Sprint(r.Key, " ", r.Deleted) }); err != nil {
		t.Fatal(err)
	}
	put := func(key string) {
		t.Helper()
		if err := other.Put(t.Context(), key, nil, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	receive := func(want string) {
		t.Helper()
		select {
		case got := <-rows:
			if got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("timeout waiting for %q", want)
		}
	}
	relay.setDrop(func(subject string) bool { // the change of the lost row, and the rows of loads
		return subject == "presence.table.lost" || strings.HasPrefix(subject, "$KV.")
	})
	put("lost")
	deaf.Check()
	kept, loading := 0, false
	await(t, "a load", func() bool { _, loading = deaf.Table(); return loading })
	put("gone")
	receive("gone false")
	if err := other.Delete(t.Context(), "gone"); err != nil {
		t.Fatal(err)
	}
	receive("gone true")
	await(t, "the end of the load", func() bool { kept, loading = deaf.Table(); return !loading })
	relay.setDrop(nil)
	if kept > 0 {
		t.Errorf("after a failed load: got %d rows, want 0", kept)
	}
	receive("lost false")
}

// A node replies only to inboxes of the prefix.
func TestReplySubjects(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	b := open(t, config(s.ClientURL()))
	r := record(t, b, "lobby")
	cancel, err := b.Subscribe("lobby", backplane.Handler{Ask: func([]byte) []byte { return []byte("answer") }})
	if err != nil {
		t.Fatal(err)
	}
	defer cancel()
	conn, err := natsgo.Connect(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.PublishRequest("presence.ask.room.lobby", "presence.log."+b.Status().Epoch+".lobby", nil); err != nil {
		t.Fatal(err)
	}
	if err := b.Ask(t.Context(), "lobby", nil, func([]byte) bool { return false }); err != nil { // handled after the other request
		t.Error(err)
	}
	add(t, b, "lobby", "message")
	await(t, "the message", func() bool { return strings.HasSuffix(r.text(), "message") })
	if got := r.text(); got != "1:message" {
		t.Errorf("got %q, want only the message", got)
	}
}

// A log that grows during the checks keeps its epoch.
func TestGrowingLogKeepsEpoch(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	b := open(t, config(s.ClientURL()))
	epoch := b.Status().Epoch
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Second)
	defer cancel()
	var writers sync.WaitGroup
	for i := range 16 {
		writers.Go(func() {
			for ctx.Err() == nil {
				b.Append(ctx, room.Name(fmt.Sprint("r", i)), "", []byte("x"))
			}
		})
	}
	for ctx.Err() == nil {
		b.Check()
		if got := b.Status().Epoch; got != epoch {
			t.Errorf("got epoch %s, want %s", got, epoch)
			break
		}
		pause(t, 20*time.Millisecond)
	}
	cancel()
	writers.Wait()
}
