package client_test

// The reasons, of r3labs/sse v2.10, why this package does not use the library's client, each with
// the test that shows it. A version without one makes its test fail.
//
//   - Its Subscribe returns for good when a stream ends cleanly, as every server's does that
//     restarts (TestR3labsSubscribeIsOverAfterACleanEnd).
//   - By default it fails on an event of 64 KiB, and then requests the same event for
//     ever (TestR3labsSubscribeBreaksOnALargeEvent).
//   - Its event reader returns the unfinished rest of a broken stream as an event
//     (TestR3labsReaderHandsOutTheRest).
//   - Its event reader does not take LF CR for two line ends, so that it holds an event back until
//     more arrives (TestR3labsReaderMissesALineEnd).
//   - Its event reader searches all of an unfinished event again whenever more of it arrives, so
//     that its time grows with the square of the event's length (BenchmarkR3labsReader).

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/r3labs/sse/v2"
)

// once lets r3labs's client try once.
type once struct{}

func (once) NextBackOff() time.Duration { return -1 }
func (once) Reset()                     {}

func TestR3labsSubscribeIsOverAfterACleanEnd(t *testing.T) {
	requests := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests++
		fmt.Fprint(w, "retry: 1\ndata: 1\n\n")
	}))
	defer server.Close()
	c := sse.NewClient(server.URL)
	c.Connection = server.Client()
	if err := c.SubscribeRaw(func(*sse.Event) {}); err != nil || requests != 1 {
		t.Errorf("got %v after %d requests; it has learned to come back, which the loop here could use", err, requests)
	}
}

func TestR3labsSubscribeBreaksOnALargeEvent(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "data: %s\n\n", strings.Repeat("x", 70_000))
	}))
	defer server.Close()
	c := sse.NewClient(server.URL)
	c.Connection = server.Client()
	c.ReconnectStrategy = once{}
	if err := c.SubscribeRaw(func(*sse.Event) {}); !errors.Is(err, bufio.ErrTooLong) {
		t.Errorf("got %v, want %v", err, bufio.ErrTooLong)
	}
}

func TestR3labsReaderHandsOutTheRest(t *testing.T) {
	reader := sse.NewEventStreamReader(strings.NewReader("data: whole\n\ndata: ha"), 1<<10)
	for _, want := range []string{"data: whole", "data: ha"} {
		if got, err := reader.ReadEvent(); string(got) != want || err != nil {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
	if _, err := reader.ReadEvent(); err != io.EOF {
		t.Errorf("got %v, want EOF", err)
	}
}

func TestR3labsReaderMissesALineEnd(t *testing.T) {
	reader := sse.NewEventStreamReader(strings.NewReader("data: a\n\rdata: b\n\n"), 1<<10)
	if got, err := reader.ReadEvent(); string(got) != "data: a\n\rdata: b" || err != nil {
		t.Errorf("got %q, %v, want both events as one", got, err)
	}
}

// BenchmarkR3labsReader is BenchmarkDecode with r3labs's event reader.
func BenchmarkR3labsReader(b *testing.B) {
	largeEvents(b, func(r io.Reader) error {
		reader := sse.NewEventStreamReader(r, 16<<20)
		for {
			if _, err := reader.ReadEvent(); err != nil {
				return err
			}
		}
	})
}
