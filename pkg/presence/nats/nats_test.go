package nats_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/backplane/backplanetest"
	"example.com/presence/pkg/presence/nats"
	"example.com/presence/pkg/presence/room"
)

func TestMain(m *testing.M) {
	flag.Parse()
	flag.Set("test.parallel", "16") // the tests wait most of the time
	chosen := func(name string) bool { return flag.Lookup("test."+name).Value.String() != "" }
	if testing.Short() && !chosen("run") && !chosen("skip") {
		flag.Set("test.skip", "^Test(BusOverCluster|CutLongerThanHistory|EntryOnItsWayBeforeCut)$") // each takes half a minute
	}
	os.Exit(m.Run())
}

// engine returns two nodes for the conformance test. The first one connects through a relay, so
// that its connection can be lost.
func engine(t *testing.T, replicas int, servers ...*server.Server) backplanetest.Engine {
	r := startRelay(t, servers[0])
	first, second := config(r.url()), config(servers[len(servers)-1].ClientURL())
	first.Replicas, second.Replicas = replicas, replicas
	nodes := []*nats.Bus{open(t, first), open(t, second)}
	return backplanetest.Engine{
		Nodes:    []backplane.Bus{nodes[0], nodes[1]},
		Messages: first.Messages,
		Recreate: func() {
			if err := streams(t, servers[0].ClientURL()).DeleteStream(t.Context(), nats.DefaultPrefix); err != nil {
				t.Error(err)
			}
		},
		Drop: func(during func()) {
			r.setCut(true)
			await(t, "the loss of contact", func() bool { return !nodes[0].Status().Connected })
			during()
			r.setCut(false)
			await(t, "contact", func() bool { return nodes[0].Status().Connected })
		},
	}
}

func TestBus(t *testing.T) {
	t.Parallel()
	backplanetest.Run(t, func(t *testing.T) backplanetest.Engine { return engine(t, 1, startServer(t)) })
}

// The messages and rows of a cluster have three copies. The nodes use different servers.
func TestBusOverCluster(t *testing.T) {
	t.Parallel()
	backplanetest.Run(t, func(t *testing.T) backplanetest.Engine {
		e := engine(t, 3, startCluster(t)...)
		e.Late = true
		return e
	})
}

// A bus that differs from the stream or the bucket reports the field, and the value that fits.
func TestSettings(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	open(t, config(s.ClientURL())).Close()
	for _, test := range []struct {
		change func(*nats.Config)
		field  string
		value  string
		reason string
	}{
		{func(c *nats.Config) { c.Replicas = 3 }, "Replicas", "1", "has replicas 1, this node has 3"},
		{func(c *nats.Config) { c.Messages = 11 }, "Messages", "10", "(nats --inbox-prefix presence.inbox stream edit presence --max-msgs-per-subject=11 -f)"},
		{func(c *nats.Config) { c.Age = time.Hour }, "Age", "5m0s", "--dupe-window=2m0s --max-age=1h0m0s -f)"},
		{func(c *nats.Config) { c.Bytes = 1 << 20 }, "Bytes", "67108864", "--max-bytes=1048576"},
		{func(c *nats.Config) { c.Replicas, c.Prefix = 3, "other" }, "Replicas", "1", "a single server requires 1 replica"},
		{func(c *nats.Config) { c.Largest = 2 << 20 }, "Largest", "1048576", "raise max_payload"},
	} {
		c := config(s.ClientURL())
		test.change(&c)
		b, err := nats.Open(t.Context(), c)
		setting := new(nats.SettingError)
		if !errors.As(err, &setting) || setting.Field != test.field || fmt.Sprint(setting.Value) != test.value || !strings.Contains(setting.Reason, test.reason) {
			t.Errorf("%s: got %v (%+v), want value %s and %q", test.field, err, setting, test.value, test.reason)
		}
		if b != nil {
			b.Close()
		}
	}
}

// The error about a bucket has a command that the NATS CLI accepts for buckets. A bus that runs
// while the stream and the bucket are changed warns, and stays connected.
func TestBucketSettings(t *testing.T) {
	t.Parallel()
	s := startCluster(t)[0]
	c := config(s.ClientURL())
	c.Replicas = 3
	var out syncBuffer
	c.Log = slog.New(slog.NewTextHandler(&out, nil))
	running := open(t, c)
	js := streams(t, s.ClientURL())
	lower := func(name string) {
		stream, err := js.Stream(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		changed := stream.CachedInfo().Config
		changed.Replicas = 1
		if _, err := js.UpdateStream(t.Context(), changed); err != nil {
			t.Fatal(err)
		}
	}
	lower(nats.DefaultPrefix)
	c.Replicas = 1
	want := "(nats --inbox-prefix presence.inbox kv edit presence_table --replicas=1)"
	if _, err := nats.Open(t.Context(), c); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
	lower("KV_presence_table")
	for _, line := range []string{"message log has other settings", "table of bans has other settings"} {
		await(t, line, func() bool { return strings.Contains(out.String(), line) })
	}
	add(t, running, "a", "one")
	if text := out.String(); !running.Status().Connected || strings.Contains(text, "not connected") {
		t.Errorf("running bus: got %+v, log %s; want that it stays connected", running.Status(), text)
	}
}

// The first contact is logged, with the server and the epoch.
func TestFirstContactLogged(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	var out syncBuffer
	c := config(s.ClientURL())
	c.Log = slog.New(slog.NewTextHandler(&out, nil))
	b := open(t, c)
	if want := fmt.Sprintf("msg=\"backplane connected\" server=%s epoch=%s\n", s.ClientURL(), b.Status().Epoch); strings.Count(out.String(), want) != 1 {
		t.Errorf("got log %s, want one line %s", out.String(), want)
	}
}

// Several servers that are no cluster are a warning, one server is none. Servers of a cluster are
// none, too.
func TestNoCluster(t *testing.T) {
	t.Parallel()
	single, cluster := startServer(t).ClientURL(), startCluster(t)
	for _, test := range []struct {
		urls []string
		want int
	}{{[]string{single}, 0}, {[]string{single, single}, 1}, {[]string{cluster[0].ClientURL(), cluster[1].ClientURL()}, 0}} {
		var out syncBuffer
		c := config(test.urls...)
		c.Log = slog.New(slog.NewTextHandler(&out, nil))
		open(t, c).Close()
		if n := strings.Count(out.String(), "NATS server belongs to no cluster"); n != test.want {
			t.Errorf("%d URLs: got %d warnings, want %d: %s", len(test.urls), n, test.want, out.String())
		}
	}
}

// A configuration that no server can accept is an error without a connection.
func TestConfig(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*nats.Config){
		"no URL":                            func(c *nats.Config) { c.URLs = nil },
		"prefix is 1 to 64":                 func(c *nats.Config) { c.Prefix = "a.b" },
		"replicas are 1 to 5, not 6":        func(c *nats.Config) { c.Replicas = 6 },
		"age of entries is at least 1s":     func(c *nats.Config) { c.Age = 0 },
		"size of the log is at least 1":     func(c *nats.Config) { c.Bytes = 0 },
		"client certificate and key belong": func(c *nats.Config) { c.Cert = "cert.pem" },
		"no such file":                      func(c *nats.Config) { c.CA = filepath.Join(t.TempDir(), "ca.pem") },
	} {
		c := config("nats://127.0.0.1:1")
		change(&c)
		if _, err := nats.Open(t.Context(), c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// A server without JetStream is an error. A server that rejects the password is one, too.
func TestRefused(t *testing.T) {
	t.Parallel()
	plain := startServer(t, func(o *server.Options) { o.JetStream = false })
	if _, err := nats.Open(t.Context(), config(plain.ClientURL())); err == nil || !strings.Contains(err.Error(), "JetStream is not enabled") {
		t.Errorf("without JetStream: got %v", err)
	}
	// A busy server answers once, and not within the time of the later attempts.
	var answers atomic.Int32
	busy := startRelay(t, plain)
	busy.setDrop(func(string) bool { return answers.Add(1) > 1 })
	if _, err := nats.Open(t.Context(), config(busy.url())); err == nil || !strings.Contains(err.Error(), "JetStream is not enabled") {
		t.Errorf("without JetStream, one answer: got %v", err)
	}
	closed := startServer(t, func(o *server.Options) { o.Username, o.Password = "presence", "right" })
	url := "nats://presence:%s@" + closed.Addr().String()
	if _, err := nats.Open(t.Context(), config(fmt.Sprintf(url, "wrong"))); err == nil || !strings.Contains(err.Error(), "uthorization") {
		t.Errorf("with a wrong password: got %v", err)
	}
	if b := open(t, config(fmt.Sprintf(url, "right"))); !b.Status().Connected {
		t.Errorf("with the right password: got %+v", b.Status())
	}
}

// Without JetStream, a bus in a cluster tries again: another server may have it. If a server
// answers that the account has none, that is an error after 5 s, and with a single server at once.
func TestRefusedInCluster(t *testing.T) {
	t.Parallel()
	plain := startServer(t, func(o *server.Options) {
		o.JetStream, o.Cluster = false, server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: server.RANDOM_PORT}
	})
	var out syncBuffer
	c := config(plain.ClientURL())
	c.Log = slog.New(slog.NewTextHandler(&out, nil))
	b := openOnly(t, c)
	if b.Status().Connected || !strings.Contains(out.String(), "message log not available: trying again") {
		t.Errorf("server of a cluster without JetStream: got %+v, log %s", b.Status(), out.String())
	}
	withoutAccount := func(o *server.Options) {
		account := server.NewAccount("A")
		o.Accounts = []*server.Account{account}
		o.Users = []*server.User{{Username: "presence", Password: "right", Account: account}}
	}
	for _, test := range []struct {
		server *server.Server
		atOnce bool
	}{{startServer(t, withoutAccount), true}, {startCluster(t, withoutAccount)[0], false}} {
		start := time.Now()
		b, err := nats.Open(t.Context(), config("nats://presence:right@"+test.server.Addr().String()))
		if err == nil {
			b.Close()
		}
		setting := new(nats.SettingError)
		if took := time.Since(start); !errors.As(err, &setting) || !strings.Contains(setting.Reason, "not enabled for the account") || took < 4*time.Second != test.atOnce {
			t.Errorf("account without JetStream, single server %v: got %v after %v", test.atOnce, err, took)
		}
	}
}

// Several nodes append one message at the same time, while the replicas of the stream store it. It
// is accepted once, and each node gets its position.
func TestConcurrentAppends(t *testing.T) {
	t.Parallel()
	var nodes []*nats.Bus
	for _, s := range startCluster(t) {
		c := config(s.ClientURL())
		c.Replicas = 3
		nodes = append(nodes, open(t, c))
	}
	for i := range 20 {
		var positions [3]uint64
		var first atomic.Int32
		var calls sync.WaitGroup
		for n, node := range nodes {
			calls.Go(func() {
				var position uint64
				var duplicate bool
				var err error
				// A server that does not know the new stream yet fails at once.
				await(t, "the append", func() bool {
					position, duplicate, err = node.Append(t.Context(), "r", fmt.Sprint("key ", i), []byte("x"))
					return err == nil || !strings.Contains(err.Error(), "no response from stream")
				})
				if err != nil {
					t.Errorf("message %d: %v", i, err)
				}
				if !duplicate {
					first.Add(1)
				}
				positions[n] = position
			})
		}
		calls.Wait()
		if first.Load() != 1 || positions[0] != positions[1] || positions[0] != positions[2] {
			t.Fatalf("message %d: accepted %d times, positions %d", i, first.Load(), positions)
		}
	}
}

// A bus that finds no server connects when there is one.
func TestNoServer(t *testing.T) {
	t.Parallel()
	port := fixedPort(t)
	s := startServer(t, port)
	address := s.Addr().String()
	stop(s)
	var out syncBuffer
	c := config("nats://" + address)
	c.Log = slog.New(slog.NewTextHandler(&out, nil))
	b := openOnly(t, c)
	if got := b.Status(); got.Connected || got.Epoch != "" {
		t.Errorf("without a server: got %+v", got)
	}
	if _, _, err := b.Append(t.Context(), "a", "", nil); !errors.Is(err, backplane.ErrUnavailable) {
		t.Errorf("Append without a server: got %v, want ErrUnavailable", err)
	}
	r := record(t, b, "a")
	var notified []backplane.Status
	var mu sync.Mutex
	b.Notify(func(s backplane.Status) {
		mu.Lock()
		defer mu.Unlock()
		notified = append(notified, s)
	})
	startServer(t, port)
	await(t, "contact", func() bool { return b.Status().Connected })
	await(t, "a notification", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(notified) > 0 && notified[len(notified)-1].Connected
	})
	await(t, "a call of Lost", func() bool { return strings.Contains(r.text(), "lost") })
	if _, _, err := b.Append(t.Context(), "a", "", []byte("x")); err != nil {
		t.Error(err)
	}
	await(t, "the entry", func() bool { return strings.HasSuffix(r.text(), "x") })
	b.Close()
	if !strings.Contains(out.String(), "NATS server not reachable") || !strings.Contains(out.String(), "backplane connected") {
		t.Errorf("log: %s", out.String())
	}
}

// recorder records the calls of a subscription, such as "lost 1:a 2:b".
type recorder struct {
	mu    sync.Mutex
	words []string
}

func record(t *testing.T, b *nats.Bus, name room.Name) *recorder {
	t.Helper()
	r := &recorder{}
	add := func(word string) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.words = append(r.words, word)
	}
	cancel, err := b.Subscribe(name, backplane.Handler{
		Entry: func(e backplane.Entry) { add(fmt.Sprintf("%d:%s", e.Position, e.Data)) },
		Lost:  func() { add("lost") },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cancel)
	return r
}

func (r *recorder) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.words, " ")
}

func add(t *testing.T, b *nats.Bus, name room.Name, data string) uint64 {
	t.Helper()
	var position uint64
	await(t, "an append", func() bool { // the connection may just have been lost
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		var err error
		position, _, err = b.Append(ctx, name, data, []byte(data))
		return err == nil
	})
	return position
}

// read reads a room. The connection may just have been lost, so it repeats the call while the bus
// is unavailable.
func read(t *testing.T, b *nats.Bus, name room.Name, after uint64) (entries []backplane.Entry, complete bool) {
	t.Helper()
	await(t, "a read", func() bool {
		var err error
		entries, complete, err = b.Read(t.Context(), name, after)
		if err != nil && !errors.Is(err, backplane.ErrUnavailable) {
			t.Fatal(err)
		}
		return err == nil
	})
	return entries, complete
}

// An entry that NATS loses without a report is found by the next entry of the room, before that one
// is delivered.
func TestSilentLoss(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	relay := startRelay(t, s)
	deaf, other := open(t, config(relay.url())), open(t, config(s.ClientURL()))
	r := record(t, deaf, "a")
	add(t, other, "a", "one")
	await(t, "the first entry", func() bool { return r.text() == "1:one" })
	relay.setDrop(func(subject string) bool { return strings.HasPrefix(subject, "presence.room.a.log.") })
	add(t, other, "a", "two")
	add(t, other, "b", "other room")
	if err := other.Publish(t.Context(), "a", []byte("later")); err != nil {
		t.Fatal(err)
	}
	later := make(chan struct{})
	cancel, err := deaf.Subscribe("c", backplane.Handler{Entry: func(backplane.Entry) { close(later) }})
	if err != nil {
		t.Fatal(err)
	}
	defer cancel()
	add(t, other, "c", "after the lost one")
	<-later
	relay.setDrop(nil)
	add(t, other, "a", "three")
	await(t, "the third entry", func() bool { return strings.HasSuffix(r.text(), "three") })
	if got, want := r.text(), "1:one lost 5:three"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// The loss of the first entry of a new subscription is found by the second one, if the last
// position of the room is known.
func TestFirstEntryLost(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	relay := startRelay(t, s)
	deaf, other := open(t, config(relay.url())), open(t, config(s.ClientURL()))
	for _, kept := range []string{"", "a"} { // a room without entries, and one with an entry
		name := room.Name("r" + kept)
		if kept != "" {
			add(t, other, name, kept)
		}
		r := record(t, deaf, name)
		if _, err := deaf.Last(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		dropped := make(chan struct{})
		relay.setDrop(func(subject string) bool {
			if !strings.HasPrefix(subject, "presence.room."+string(name)+".log.") {
				return false
			}
			close(dropped)
			return true
		})
		first := add(t, other, name, "one")
		<-dropped
		relay.setDrop(nil)
		add(t, other, name, "two")
		await(t, "the second entry", func() bool { return strings.HasSuffix(r.text(), "two") })
		if got, want := r.text(), fmt.Sprintf("lost %d:two", first+1); got != want {
			t.Errorf("room %s: got %q, want %q", name, got, want)
		}
	}
	name := room.Name("nothing lost")
	r := record(t, deaf, name)
	if _, err := deaf.Last(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	first := add(t, other, name, "one")
	await(t, "the first entry", func() bool { return r.text() == fmt.Sprintf("%d:one", first) })
}

// A room that was quiet during an interruption loses an entry later. The read that Lost causes
// finds this entry, even if it begins before Lost returns.
func TestReadDuringLost(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	relay := startRelay(t, s)
	deaf, other := open(t, config(relay.url())), open(t, config(s.ClientURL()))
	entered, reads := make(chan backplane.Entry, 10), make(chan int, 10)
	cancel, err := deaf.Subscribe("a", backplane.Handler{
		Entry: func(e backplane.Entry) { entered <- e },
		Lost: func() {
			done := make(chan int)
			go func() {
				entries, _, _ := deaf.Read(t.Context(), "a", 1)
				done <- len(entries)
			}()
			reads <- <-done
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer cancel()
	if _, err := deaf.Last(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	add(t, other, "a", "one")
	<-entered
	deaf.SetQuiet("a")
	lost := make(chan struct{})
	relay.setDrop(func(subject string) bool {
		if !strings.HasPrefix(subject, "presence.room.a.log.") {
			return false
		}
		close(lost)
		return true
	})
	add(t, other, "a", "two")
	<-lost
	relay.setDrop(nil)
	add(t, other, "a", "three")
	if got := <-reads; got != 2 {
		t.Errorf("read during Lost: got %d entries, want 2", got)
	}
}

// copyDir copies the files of a stopped server.
func copyDir(t *testing.T, from, to string) {
	t.Helper()
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// A stream whose newest messages were lost gets another epoch, on all nodes the same. Its old
// entries do not belong to it.
func TestLogWentBack(t *testing.T) {
	t.Parallel()
	store, backup := t.TempDir(), filepath.Join(t.TempDir(), "backup")
	port, stored := fixedPort(t), func(o *server.Options) { o.StoreDir = store }
	s := startServer(t, stored, port)
	address := s.Addr().String()
	first, second := open(t, config("nats://"+address)), open(t, config("nats://"+address))
	rs := []*recorder{record(t, first, "a"), record(t, second, "a")}
	old := first.Status().Epoch
	add(t, first, "a", "one")
	apart := func() bool { return !first.Status().Connected && !second.Status().Connected }
	stop(s)
	await(t, "the loss of contact", apart)
	copyDir(t, store, backup)
	s = startServer(t, stored, port)
	connected := func() bool { return first.Status().Connected && second.Status().Connected }
	await(t, "contact", connected)
	if got := first.Status().Epoch; got != old {
		t.Errorf("epoch after a restart: got %s, want %s", got, old)
	}
	add(t, first, "a", "two")
	for _, r := range rs {
		await(t, "the second entry", func() bool { return strings.HasSuffix(r.text(), "2:two") })
	}
	stop(s)
	await(t, "the loss of contact", apart)
	copyDir(t, backup, store)
	startServer(t, stored, port)
	await(t, "another epoch", func() bool { return connected() && first.Status().Epoch != old })
	await(t, "the same epoch", func() bool { return first.Status() == second.Status() })
	if entries, _ := read(t, second, "a", 0); len(entries) > 0 {
		t.Errorf("Read in the new epoch: got %d entries, want 0", len(entries))
	}
	add(t, second, "a", "three")
	for _, r := range rs {
		await(t, "an entry of the new epoch", func() bool { return strings.HasSuffix(r.text(), "lost 2:three") })
	}
}

// A node that cannot replace the epoch of a log that went back warns once per minute, though it
// tries again at each check.
func TestEpochNotReplaced(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	r := startRelay(t, s)
	var out syncBuffer
	c := config(r.url())
	c.Log = slog.New(slog.NewTextHandler(&out, nil))
	b := open(t, c)
	add(t, b, "a", "one")
	js := streams(t, s.ClientURL())
	stream, err := js.Stream(t.Context(), nats.DefaultPrefix)
	if err != nil {
		t.Fatal(err)
	}
	next := "presence.log." + nats.NextEpoch(b.Status().Epoch) + ".*"
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "obstacle", Subjects: []string{next}}); err != nil {
		t.Fatal(err)
	}
	r.setCut(true) // otherwise, the node could create the stream between the next two calls
	await(t, "the loss of contact", func() bool { return !b.Status().Connected })
	if err := js.DeleteStream(t.Context(), nats.DefaultPrefix); err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), stream.CachedInfo().Config); err != nil { // the same epoch, without entries
		t.Fatal(err)
	}
	r.setCut(false)
	warnings := func() int { return strings.Count(out.String(), "message log lost its newest messages") }
	await(t, "the warning", func() bool { return warnings() > 0 })
	pause(t, 3*time.Second) // two checks
	if n := warnings(); n != 1 || b.Status().Connected {
		t.Errorf("got %d warnings, connected %v; want 1, false: %s", n, b.Status().Connected, out.String())
	}
}

// If a subscription is too slow, its messages are dropped, and it receives Lost.
func TestSlowHandler(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	b, other := open(t, config(s.ClientURL())), open(t, config(s.ClientURL()))
	begun, blocked, lost := make(chan struct{}), make(chan struct{}), make(chan struct{})
	var first, last sync.Once
	cancel, err := b.Subscribe("a", backplane.Handler{
		Message: func([]byte) {
			first.Do(func() { close(begun) })
			<-blocked
		},
		Lost: func() { last.Do(func() { close(lost) }) },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer cancel()
	for range nats.QueueSize + 100 {
		if err := other.Publish(t.Context(), "a", []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	<-begun
	await(t, "the warning", func() bool { return b.Dropped() > 0 })
	close(blocked)
	select {
	case <-lost:
	case <-time.After(20 * time.Second):
		t.Error("no call of Lost within 20 s")
	}
}

// Close ends all goroutines of the bus.
func TestCloseEndsAll(t *testing.T) {
	s := startServer(t)
	open(t, config(s.ClientURL())).Close() // the goroutines of the stream stay
	before := goleak.IgnoreCurrent()
	b := open(t, config(s.ClientURL()))
	for i := range 10 {
		record(t, b, room.Name(fmt.Sprint("r", i)))
	}
	if _, err := b.Watch(func(backplane.Row) {}); err != nil {
		t.Fatal(err)
	}
	b.Notify(func(backplane.Status) {})
	if err := b.Put(t.Context(), "key", []byte("value"), time.Hour); err != nil {
		t.Fatal(err)
	}
	asked := make(chan error)
	cancel, err := b.Subscribe("asked", backplane.Handler{Ask: func([]byte) []byte { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer cancel()
	go func() { asked <- b.Ask(context.Background(), "asked", nil, func([]byte) bool { return true }) }()
	b.Close()
	if err := <-asked; !errors.Is(err, backplane.ErrClosed) {
		t.Errorf("Ask at Close: got %v, want ErrClosed", err)
	}
	goleak.VerifyNone(t, before)
}

// If an operator changes the settings of the stream, the nodes that run warn and continue. A new
// node needs the new settings.
func TestChangedStream(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	var out syncBuffer
	c := config(s.ClientURL())
	c.Log = slog.New(slog.NewTextHandler(&out, nil))
	b := open(t, c)
	js := streams(t, s.ClientURL())
	stream, err := js.Stream(t.Context(), nats.DefaultPrefix)
	if err != nil {
		t.Fatal(err)
	}
	changed := stream.CachedInfo().Config
	changed.MaxAge = time.Hour
	if _, err := js.UpdateStream(t.Context(), changed); err != nil {
		t.Fatal(err)
	}
	await(t, "a warning", func() bool { return strings.Contains(out.String(), "message log has other settings") })
	add(t, b, "a", "one")
	if _, err := nats.Open(t.Context(), c); err == nil || !strings.Contains(err.Error(), "has maximum age 1h0m0s, this node has 5m0s") {
		t.Errorf("a new node: got %v, want an error about the age", err)
	}
}

// syncBuffer is a buffer for concurrent use.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// The names of rooms cannot reach other subjects.
func TestRoomSubjects(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	b := open(t, config(s.ClientURL()))
	names := []room.Name{"a", "a.b", "a=2Eb", "*", ">", "a b", "A", "r.>", "é", "nodes", "$SYS"}
	rs := map[room.Name]*recorder{}
	for _, name := range names {
		rs[name] = record(t, b, name)
	}
	for _, name := range names {
		add(t, b, name, string(name))
	}
	for _, name := range names {
		await(t, "the entry of "+string(name), func() bool { return strings.HasSuffix(rs[name].text(), ":"+string(name)) })
		entries, _, err := b.Read(t.Context(), name, 0)
		if err != nil || len(entries) != 1 || string(entries[0].Data) != string(name) {
			t.Errorf("Read of %q: got %d entries, %v; want its own", name, len(entries), err)
		}
	}
	for name, r := range rs {
		if n := len(strings.SplitAfter(r.text(), ":")); n != 2 {
			t.Errorf("room %q received %q, want one entry", name, r.text())
		}
	}
	stream, err := streams(t, s.ClientURL()).Stream(t.Context(), nats.DefaultPrefix)
	if err != nil {
		t.Fatal(err)
	}
	info, err := stream.Info(t.Context(), jetstream.WithSubjectFilter(">"))
	if err != nil || len(info.State.Subjects) != len(names) {
		t.Errorf("got %+v, %v; want %d subjects", info, err, len(names))
	}
}

// Many entries are read through a consumer, which does not stay.
func TestManyEntries(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := config(s.ClientURL())
	c.Messages = 1000
	b := open(t, c)
	var positions []uint64
	for i := range 600 {
		if i%3 == 0 {
			add(t, b, "other", fmt.Sprint(i))
			continue
		}
		positions = append(positions, add(t, b, "a", fmt.Sprint(i)))
	}
	for _, i := range []int{0, 1, 100, len(positions) - 40, len(positions) - 2} {
		entries, complete, err := b.Read(t.Context(), "a", positions[i])
		if err != nil || !complete || len(entries) != len(positions)-i-1 {
			t.Fatalf("after entry %d: got %d entries, %v, %v; want %d", i, len(entries), complete, err, len(positions)-i-1)
		}
		for j, e := range entries {
			if e.Position != positions[i+1+j] || e.At.IsZero() || len(e.Data) == 0 {
				t.Fatalf("after entry %d: entry %d is %+v, want position %d", i, j, e, positions[i+1+j])
			}
		}
	}
	stream, err := streams(t, s.ClientURL()).Stream(t.Context(), nats.DefaultPrefix)
	if err != nil {
		t.Fatal(err)
	}
	await(t, "the end of the consumers", func() bool {
		info, err := stream.Info(t.Context())
		return err == nil && info.State.Consumers == 0
	})
}

// behindRelay returns a bus that reads through a relay, and the first of n entries in room a.
func behindRelay(t *testing.T, n int) (r *relay, reader *nats.Bus, first uint64) {
	t.Helper()
	s := startServer(t)
	r = startRelay(t, s)
	c, other := config(r.url()), config(s.ClientURL())
	c.Messages, other.Messages = n, n
	reader = open(t, c)
	writer := open(t, other)
	first = add(t, writer, "a", "0")
	for i := 1; i < n; i++ {
		add(t, writer, "a", fmt.Sprint(i))
	}
	return r, reader, first
}

// A read from which NATS loses a message is an error, not a result with a hole. The next read has
// all entries.
func TestLossDuringRead(t *testing.T) {
	t.Parallel()
	const n = 101
	relay, reader, first := behindRelay(t, n)
	delivered := 0
	relay.setDrop(func(subject string) bool {
		if !strings.Contains(subject, ".log.") {
			return false
		}
		delivered++
		return delivered == 20
	})
	entries, complete, err := reader.Read(t.Context(), "a", first)
	if !errors.Is(err, backplane.ErrUnavailable) || !strings.Contains(err.Error(), "message 20 of the read was lost") {
		t.Errorf("with a loss: got %d entries, complete %v, %v; want an error", len(entries), complete, err)
	}
	entries, complete, err = reader.Read(t.Context(), "a", first)
	if len(entries) != n-1 || !complete || err != nil {
		t.Errorf("without a loss: got %d entries, complete %v, %v; want %d", len(entries), complete, err, n-1)
	}
}

// A read fails soon after NATS has lost an answer, even if its caller allows it a minute.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	const n = 101
	relay, reader, first := behindRelay(t, n)
	lose := func(what string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		entries, complete, err := reader.Read(ctx, "a", first)
		if took := time.Since(began); !errors.Is(err, backplane.ErrUnavailable) || took > 30*time.Second {
			t.Errorf("%s: got %d entries, complete %v, %v after %v; want an error within 30 s", what, len(entries), complete, err, took)
		}
	}
	var lost atomic.Bool
	relay.setDrop(func(subject string) bool {
		return strings.Contains(subject, ".inbox.") && lost.CompareAndSwap(false, true)
	})
	lose("answer lost")
	delivered := 0
	relay.setDrop(func(subject string) bool {
		delivered += strings.Count(subject, ".log.") // the first 32 entries are read one by one
		return delivered == n-1-32 && strings.Contains(subject, ".log.")
	})
	lose("last message lost")
	relay.setDrop(nil)
	if entries, complete, err := reader.Read(t.Context(), "a", first); len(entries) != n-1 || !complete || err != nil {
		t.Errorf("nothing lost: got %d entries, complete %v, %v; want %d", len(entries), complete, err, n-1)
	}
}
