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

var update = flag.Bool("update", false, "rewrite the streams of docs/protocol.md")

// transcript is a ResponseWriter that keeps every byte of a stream.
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

// The streams in docs/protocol.md are byte for byte the output of the server.
//
//	go test -run TestProtocol ./pkg/presence -update     # rewrites them
func TestProtocol(t *testing.T) {
	streams := recordStreams(t)
	const name = "../../docs/protocol.md"
	doc, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	n := -1
	updated := regexp.MustCompile("(?s)```sse\n.*?```").ReplaceAllStringFunc(string(doc), func(block string) string {
		n++
		if n >= len(streams) {
			t.Fatalf("docs/protocol.md: got more streams, want %d", len(streams))
		}
		got, want := strings.TrimSuffix(strings.TrimPrefix(block, "```sse\n"), "```"), streams[n]
		if !*update && got != want {
			t.Errorf("stream %d of docs/protocol.md: got\n%s\nwant, as the server sends,\n%s", n+1, got, want)
		}
		return "```sse\n" + want + "```"
	})
	if n+1 != len(streams) {
		t.Errorf("docs/protocol.md: got %d streams, want %d", n+1, len(streams))
	}
	if *update {
		if err := os.WriteFile(name, []byte(updated), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// recordStreams returns the streams that the clients in the document receive, in the order of the
// document.
func recordStreams(t *testing.T) (streams []string) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(time.Date(2026, 11, 24, 18, 0, 0, 123e6, time.UTC)))
		open := func(c presence.Config) (*bubble, func(path, lastID string, u presence.User) (read func() string, disconnect func())) {
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
		read, _ := stream("/events", "", alice)
		_, disconnect := stream("/events", "", bob)
		first := b.post("/messages", `{"event":"chat message","data":{"text":"hello"}}`, alice)
		b.ask("PUT", "/state", `{"status":"away"}`, bob)
		time.Sleep(time.Second)
		b.post("/messages", `{"event":"maintenance","data":{"in":60}}`, admin)
		disconnect()
		time.Sleep(13 * time.Second)
		streams = append(streams, read())

		resumed, _ := stream("/events", first, bob)
		streams = append(streams, resumed())
		lost, disconnect := stream("/events", "5f1c0a9e4b-7", carol)
		streams = append(streams, strings.ReplaceAll(lost(), "5f1c0a9e4b", "c0f36dcac9"))
		disconnect()

		_, stream = open(presence.Config{MemberLimit: 2})
		read, _ = stream("/events", "", alice)
		stream("/events", "", bob)
		before := read()
		stream("/events", "", carol)
		streams = append(streams, strings.TrimPrefix(read(), before))

		_, stream = open(presence.Config{})
		carol.Expires = time.Now().Add(40 * time.Second)
		read, _ = stream("/events", "", carol)
		before = read()
		time.Sleep(time.Minute)
		streams = append(streams, strings.Join(slices.DeleteFunc(strings.SplitAfter(strings.TrimPrefix(read(), before), "\n\n"), func(block string) bool {
			return strings.HasSuffix(block, "event: ping\n\n")
		}), ""))
		carol.Expires = time.Time{}

		_, stream = open(presence.Config{MaxConnections: 1})
		stream("/events", "", alice)
		read, _ = stream("/events", "", bob)
		streams = append(streams, strings.Replace(read(), "retry: 1756", "retry: 17562", 1))

		b, stream = open(presence.Config{})
		read, _ = stream("/events", "", alice)
		before = read()
		if err := b.Kick(t.Context(), "lobby", "alice", time.Minute); err != nil {
			t.Fatal(err)
		}
		streams = append(streams, strings.TrimPrefix(read(), before))
	})
	return streams
}
