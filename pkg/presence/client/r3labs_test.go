package client_test

// This package does not use the client of r3labs/sse v2.10 because of the faults listed below. Each
// item names the test that shows the fault. The test fails if a version of r3labs/sse no longer has
// the fault.
//
//   - When a stream ends cleanly, which happens at each server restart, Subscribe returns and does
//     not reconnect (TestR3labsSubscribeReturnsAfterACleanEnd).
//   - By default, Subscribe fails on an event of 64 KiB and then requests the same event forever
//     (TestR3labsSubscribeBreaksOnALargeEvent).
//   - The event reader returns the unfinished end of a broken stream as an event
//     (TestR3labsReaderReturnsAnUnfinishedEvent).
//   - The event reader does not treat LF CR as two line ends, so it delays an event until more
//     bytes arrive (TestR3labsReaderMissesALineEnd).
//   - The event reader scans an unfinished event from its start whenever more data arrives, so its
//     running time grows with the square of the event's length (BenchmarkR3labsReader).

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

// once makes the r3labs client try only once.
type once struct{}

func (once) NextBackOff() time.Duration { return -1 }
func (once) Reset()                     {}

func TestR3labsSubscribeReturnsAfterACleanEnd(t *testing.T) {
	requests := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests++
		fmt.Fprint(w, "retry: 1\ndata: 1\n\n")
	}))
	defer server.Close()
	c := sse.NewClient(server.URL)
	c.Connection = server.Client()
	if err := c.SubscribeRaw(func(*sse.Event) {}); err != nil || requests != 1 {
		t.Errorf("got %v after %d requests, want nil after 1: r3labs now reconnects, which Events could use", err, requests)
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

func TestR3labsReaderReturnsAnUnfinishedEvent(t *testing.T) {
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

// BenchmarkR3labsReader is like BenchmarkDecode, but measures the event reader of r3labs.
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
