package stream_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/r3labs/sse/v2"
)

// These tests demonstrate the quirks of r3labs/sse v2.10 that encoder.go lists. If a test fails
// with a new version, the quirk is fixed, and its workaround can be removed.

// library returns a server of r3labs with one stream, "s".
func library(t *testing.T) *sse.Server {
	s := sse.New()
	s.AutoReplay = false
	s.CreateStream("s")
	t.Cleanup(s.Close)
	return s
}

// collector is a subscriber that records its response.
type collector struct {
	*httptest.ResponseRecorder
	flushed chan string // receives the response so far at each Flush
}

func (c collector) Flush() { c.flushed <- c.Body.String() }

// subscribe serves a subscriber until the test ends. It returns after the subscriber has received
// the headers.
func subscribe(t *testing.T, s *sse.Server) collector {
	t.Helper()
	c := collector{httptest.NewRecorder(), make(chan string)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.ServeHTTP(c, httptest.NewRequest(http.MethodGet, "/?stream=s", nil).WithContext(ctx))
	}()
	t.Cleanup(func() {
		cancel()
		for {
			select {
			case <-c.flushed:
			case <-done:
				return
			}
		}
	})
	<-c.flushed // the headers
	return c
}

func written(t *testing.T, e *sse.Event) string {
	t.Helper()
	s := library(t)
	c := subscribe(t, s)
	s.Publish("s", e)
	return <-c.flushed
}

func TestQuirkFullReaderBlocksItsStream(t *testing.T) {
	s := library(t)
	subscribe(t, s) // reads the headers, then nothing
	const capacity = sse.DefaultBufferSize + 64
	published := 0
	for ; published < 2*capacity; published++ {
		if !s.TryPublish("s", &sse.Event{Data: []byte("x")}) {
			// The stream's goroutine may only be slow, so give it time.
			<-time.After(200 * time.Millisecond)
			if !s.TryPublish("s", &sse.Event{Data: []byte("x")}) {
				break
			}
		}
	}
	if published == 2*capacity {
		t.Errorf("a subscriber that does not read accepted all %d events, want fewer", published)
	}
}

func TestQuirkLogGrowsAndRenumbers(t *testing.T) {
	s := sse.New() // AutoReplay is on
	str := s.CreateStream("s")
	t.Cleanup(s.Close)
	c := subscribe(t, s)
	for range 3 {
		s.Publish("s", &sse.Event{ID: []byte("mine-7"), Data: []byte("x")})
	}
	<-c.flushed
	<-c.flushed
	if got := <-c.flushed; strings.Contains(got, "mine-7") || !strings.Contains(got, "id: 2\n") {
		t.Errorf("got %q, want id 2 instead of mine-7", got)
	}
	if len(str.Eventlog) != 3 {
		t.Errorf("the log holds %d events, want all 3", len(str.Eventlog))
	}
}

func TestQuirkEmptyIDIsWritten(t *testing.T) {
	if got := written(t, &sse.Event{Data: []byte("x")}); got != "id: \ndata: x\n\n" {
		t.Errorf("got %q, want an empty id line", got)
	}
}

func TestQuirkFieldsCanBeForged(t *testing.T) {
	if got := written(t, &sse.Event{ID: []byte("1"), Data: []byte(": x")}); got != "id: 1\n: x\n\n" {
		t.Errorf("data with a colon: got %q, want a comment", got)
	}
	if got := written(t, &sse.Event{ID: []byte("1"), Data: []byte("x\nid: 9"), Event: []byte("a\nretry: 1")}); got != "id: 1\ndata: x\nid: 9\nevent: a\nretry: 1\n\n" {
		t.Errorf("line breaks: got %q, want forged fields", got)
	}
}

func TestQuirkEventWithoutDataEndsSubscriber(t *testing.T) {
	gone := make(chan struct{})
	s := sse.NewWithCallback(nil, func(string, *sse.Subscriber) { close(gone) })
	s.AutoReplay = false
	s.CreateStream("s")
	defer s.Close()
	ended := make(chan struct{})
	c := collector{httptest.NewRecorder(), make(chan string, 8)}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer close(ended)
		s.ServeHTTP(c, httptest.NewRequest(http.MethodGet, "/?stream=s", nil).WithContext(ctx))
	}()
	<-c.flushed
	s.Publish("s", &sse.Event{ID: []byte("1"), Event: []byte("empty")})
	<-ended
	cancel()
	<-gone // if the stream were closed first, the goroutine would wait forever
}

func TestQuirkPublishWaitsWhileFull(t *testing.T) {
	s := library(t)
	c := subscribe(t, s)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 2 * (sse.DefaultBufferSize + 64) {
			s.Publish("s", &sse.Event{Data: []byte("x")})
		}
	}()
	select {
	case <-done:
		t.Error("Publish returned, want it to wait for a subscriber that reads nothing")
	case <-time.After(200 * time.Millisecond):
	}
	for read := false; !read; {
		select {
		case <-c.flushed:
		case <-done:
			read = true
		}
	}
}
