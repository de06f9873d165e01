package presence_test

import (
	"context"
	"flag"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence"
)

var update = flag.Bool("update", false, "write the streams of docs/protocol.md anew")

// transcript is a line of which every byte is kept.
type transcript struct {
	http.ResponseWriter
	mu  sync.Mutex // guards all
	all strings.Builder
}

func (c *transcript) Flush()                           {}
func (c *transcript) SetWriteDeadline(time.Time) error { return nil }
func (c *transcript) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.all.Write(b)
}

var (
	epoch = regexp.MustCompile(`\b[0-9a-f]{10}-`)
	retry = regexp.MustCompile(`retry: \d+`)
)

// The streams of docs/protocol.md are what the server says, to the letter.
//
//	go test -run TestProtocol ./pkg/presence -update     # writes them anew
func TestProtocol(t *testing.T) {
	said := scenes(t)
	const name = "../../docs/protocol.md"
	doc, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	scene := -1
	mended := regexp.MustCompile("(?s)```sse\n.*?```").ReplaceAllStringFunc(string(doc), func(block string) string {
		scene++
		if scene >= len(said) {
			t.Fatalf("the document has more than %d streams", len(said))
		}
		got, want := strings.TrimSuffix(strings.TrimPrefix(block, "```sse\n"), "```"), said[scene]
		if !*update && got != want {
			t.Errorf("stream %d of the document is\n%s\nThe server says\n%s", scene+1, got, want)
		}
		return "```sse\n" + want + "```"
	})
	if scene+1 != len(said) {
		t.Errorf("the document has %d streams, want %d", scene+1, len(said))
	}
	if *update {
		if err := os.WriteFile(name, []byte(mended), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// scenes returns what the clients of the document hear, in its order.
func scenes(t *testing.T) (said []string) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(time.Date(2026, 11, 24, 18, 0, 0, 123e6, time.UTC)))
		open := func(c presence.Config) (*bubble, func(path, lastID string, u presence.User) (heard func() string, disconnect func())) {
			b := newBubble(t, c)
			return b, func(path, lastID string, u presence.User) (func() string, func()) {
				ctx, cancel := context.WithCancel(t.Context())
				r := b.request(ctx, "GET", path, "", u)
				r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/2.0", 2, 0
				r.Header.Set("Last-Event-ID", lastID)
				c := &transcript{ResponseWriter: &clientStream{header: http.Header{}}}
				go b.ServeHTTP(c, r) // ends with the stream
				time.Sleep(time.Second)
				return func() string {
					time.Sleep(time.Second)
					c.mu.Lock()
					defer c.mu.Unlock()
					text := epoch.ReplaceAllString(c.all.String(), "c0f36dcac9-")
					return retry.ReplaceAllString(text, "retry: 1756")
				}, cancel
			}
		}
		named := func(id, name string) presence.User {
			u := testUser(id)
			u.Name = name
			return u
		}
		alice, bob, carol := named("alice", "Alice"), named("bob", "Bob"), named("carol", "Carol")
		bob.Info = []byte(`{"color":"teal"}`)
		admin := named("ops", "")
		admin.Admin = true

		b, stream := open(presence.Config{Heartbeat: 20 * time.Second})
		heard, _ := stream("/events", "", alice)
		_, disconnect := stream("/events", "", bob)
		first := b.post("/messages", `{"event":"chat message","data":{"text":"hello"}}`, alice)
		b.ask("PUT", "/state", `{"status":"away"}`, bob)
		time.Sleep(time.Second)
		b.post("/messages", `{"event":"maintenance","data":{"in":60}}`, admin)
		disconnect()
		time.Sleep(13 * time.Second)
		said = append(said, heard())

		taken, _ := stream("/events", first, bob)
		said = append(said, taken())
		lost, disconnect := stream("/events", "5f1c0a9e4b-7", carol)
		said = append(said, strings.ReplaceAll(lost(), "5f1c0a9e4b", "c0f36dcac9"))
		disconnect()

		_, stream = open(presence.Config{MemberLimit: 2})
		heard, _ = stream("/events", "", alice)
		stream("/events", "", bob)
		before := heard()
		stream("/events", "", carol)
		said = append(said, strings.TrimPrefix(heard(), before))

		_, stream = open(presence.Config{})
		carol.Expires = time.Now().Add(40 * time.Second)
		heard, _ = stream("/events", "", carol)
		before = heard()
		time.Sleep(time.Minute)
		said = append(said, strings.Join(slices.DeleteFunc(strings.SplitAfter(strings.TrimPrefix(heard(), before), "\n\n"), func(block string) bool {
			return strings.HasSuffix(block, "event: ping\n\n")
		}), ""))
		carol.Expires = time.Time{}

		_, stream = open(presence.Config{MaxConnections: 1})
		stream("/events", "", alice)
		heard, _ = stream("/events", "", bob)
		said = append(said, strings.Replace(heard(), "retry: 1756", "retry: 17562", 1))

		b, stream = open(presence.Config{})
		heard, _ = stream("/events", "", alice)
		before = heard()
		if err := b.Kick(t.Context(), "lobby", "alice", time.Minute); err != nil {
			t.Fatal(err)
		}
		said = append(said, strings.TrimPrefix(heard(), before))
	})
	return said
}
