package presence_test

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence"
	"example.com/presence/pkg/presence/auth"
	"example.com/presence/pkg/presence/backplane"
)

// syncBuffer is a buffer that several goroutines write to.
type syncBuffer struct {
	mu      sync.Mutex // guards text and written
	text    bytes.Buffer
	written chan struct{} // closed by the next write; nil: nothing waits for it
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.written != nil {
		close(b.written)
		b.written = nil
	}
	return b.text.Write(p)
}

// until waits until ok accepts the text.
func (b *syncBuffer) until(t testing.TB, want string, ok func(text string) bool) {
	t.Helper()
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		b.mu.Lock()
		text := b.text.String()
		if b.written == nil {
			b.written = make(chan struct{})
		}
		written := b.written
		b.mu.Unlock()
		if ok(text) {
			return
		}
		select {
		case <-written:
		case <-late.C:
			t.Fatalf("got the log %s\nwant %s", text, want)
		}
	}
}

// has waits until the text contains want.
func (b *syncBuffer) has(t testing.TB, want string) {
	t.Helper()
	b.until(t, want, func(text string) bool { return strings.Contains(text, want) })
}

func (b *syncBuffer) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text.Reset()
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// Two nodes with different settings log a warning for each setting that they should have in common.
// The log never has a secret.
func TestSettingsOfNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus, lines := backplane.NewMemory(backplane.MemoryConfig{Shared: true}), &syncBuffer{}
		defer bus.Close()
		var fingerprints []string
		for i, c := range []presence.Config{
			{Node: "eu-1"},
			{Node: "eu-2", Count: presence.CountUsers, MemberLimit: 9, Linger: -1, History: -1, HistoryAge: time.Hour, HistoryBytes: 1 << 20},
			{Node: "eu-3"},
		} {
			secret := "a secret of at least 32 bytes....."
			if i == 1 { // the first and the third node have the same key
				secret = "another secret of at least 32 bytes"
			}
			key, err := auth.Secret([]byte(secret))
			if err != nil {
				t.Fatal(err)
			}
			j, err := auth.New(auth.Config{Keys: []auth.Key{key}})
			if err != nil {
				t.Fatal(err)
			}
			fingerprints = append(fingerprints, j.Fingerprint())
			c.Authenticator, c.Backplane, c.Logger = j, bus, slog.New(slog.NewTextHandler(lines, nil))
			server, err := presence.New(presence.Portable(c))
			if err != nil {
				t.Fatal(err)
			}
			defer server.Shutdown(t.Context())
		}
		time.Sleep(5 * time.Second)
		var names []string
		for line := range strings.Lines(lines.String()) {
			_, rest, found := strings.Cut(line, "setting differs between two nodes\" setting=")
			if !found {
				continue
			}
			name, _, _ := strings.Cut(rest, " ")
			names = append(names, name)
			if name == "keys" && (!strings.Contains(line, fingerprints[0]) || !strings.Contains(line, fingerprints[1])) {
				t.Errorf("got %q, want the fingerprints %q in it", line, fingerprints[:2])
			}
		}
		slices.Sort(names)
		var want []string
		for _, name := range []string{"count", "history", "history-age", "history-bytes", "keys", "linger", "member-limit"} {
			want = append(want, name, name) // eu-2 with each of the others
		}
		if !slices.Equal(names, want) || strings.Contains(lines.String(), "at least 32 bytes") {
			t.Errorf("got warnings about %q, want %q, and no secret in\n%s", names, want, lines)
		}
	})
}

// After new keys, a node announces their fingerprint. Each difference between the keys of two nodes
// has one warning, also if the keys were different before and then equal.
func TestSettingsOfReplacedKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus, lines := backplane.NewMemory(backplane.MemoryConfig{Shared: true}), &syncBuffer{}
		defer bus.Close()
		var keys []auth.Key
		for _, s := range []string{"one", "two", "three"} {
			key, err := auth.Secret([]byte(s + strings.Repeat(" ", 32)))
			if err != nil {
				t.Fatal(err)
			}
			keys = append(keys, key)
		}
		var nodes []*auth.JWT
		for range 2 {
			j, err := auth.New(auth.Config{Keys: keys[:1]})
			if err != nil {
				t.Fatal(err)
			}
			server, err := presence.New(presence.Portable(presence.Config{Authenticator: j, Backplane: bus, Logger: slog.New(slog.NewTextHandler(lines, nil))}))
			if err != nil {
				t.Fatal(err)
			}
			defer server.Shutdown(t.Context())
			nodes = append(nodes, j)
		}
		warned := 0
		for i, step := range []struct {
			first, second []auth.Key
			differ        bool
		}{
			{keys[:1], keys[:1], false},
			{keys[:2], keys[:1], true},
			{keys[:2], keys[:2], false},
			{keys[1:3], keys[1:2], true},
			{keys[1:2], keys[1:2], false},
			{keys[:1], keys[1:2], true},
		} {
			for n, keys := range [][]auth.Key{step.first, step.second} {
				if err := nodes[n].Replace(keys...); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(3 * time.Second) // at least two heartbeats
			if step.differ {
				warned++
			}
			if got := strings.Count(lines.String(), "setting differs between two nodes\" setting=keys"); got != warned {
				t.Errorf("step %d: got %d warnings, want %d:\n%s", i, got, warned, lines)
			}
		}
	})
}
