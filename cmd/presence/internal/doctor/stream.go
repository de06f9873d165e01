package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/tmaxmax/go-sse"
)

// The limits of a stream. A sync event with 500 members of 1 KiB is the largest event in use.
const (
	maxEvent  = 1 << 20 // bytes of an event
	maxEvents = 10_000
	maxStream = 16 << 20 // bytes
	kept      = 200      // events of a stream that are kept: the first and the last half
)

// event is an event with its time of arrival.
type event struct {
	name, data, id string // id is that of the last event with one
	at             time.Time
}

// reasonOf returns the reason in the data of goodbye and reset.
func (e event) reasonOf() string {
	var data struct{ Reason string }
	json.Unmarshal([]byte(e.data), &data)
	return data.Reason
}

// stream is an open GET events. Its methods are safe for concurrent use.
type stream struct {
	began  time.Time
	cancel context.CancelFunc
	done   chan struct{} // closed when the goroutine has ended

	mu      sync.Mutex // guards the fields below
	changed chan struct{}
	header  *answer // nil until the response header has arrived
	events  []event // at most kept
	ended   time.Time
	err     error // cause of the end
}

// open sends the request and returns at once. The stream lasts until close or the end of the
// request's context.
func open(client *http.Client, req *http.Request) *stream {
	ctx, cancel := context.WithCancel(req.Context())
	s := &stream{began: time.Now(), cancel: cancel, done: make(chan struct{}), changed: make(chan struct{})}
	go func() { // ends with the response, whose end close causes
		defer close(s.done)
		err := s.read(client, req.WithContext(ctx))
		s.change(func() { s.ended, s.err = time.Now(), err })
	}()
	return s
}

// read reads the stream until it ends.
func (s *stream) read(client *http.Client, req *http.Request) error {
	resp, err := client.Do(req)
	if err != nil {
		return reason(err)
	}
	defer resp.Body.Close()
	a := answer{status: resp.StatusCode, header: resp.Header, proto: resp.Proto, major: resp.ProtoMajor, began: s.began, came: time.Now()}
	isStream := a.status == http.StatusOK && a.mediaType() == "text/event-stream"
	if !isStream {
		hurry := time.AfterFunc(time.Second, s.cancel) // a body without an end
		a.body, _ = io.ReadAll(io.LimitReader(resp.Body, maxBody))
		hurry.Stop()
	}
	s.change(func() { s.header = &a })
	if !isStream {
		return errors.New("not a stream")
	}
	return s.readEvents(resp.Body)
}

func (s *stream) readEvents(body io.Reader) error {
	n, limited := 0, &io.LimitedReader{R: body, N: maxStream}
	for e, err := range sse.Read(limited, &sse.ReadConfig{MaxEventSize: maxEvent}) {
		if err != nil {
			if strings.Contains(err.Error(), "too long") {
				return fmt.Errorf("event larger than the limit (%d bytes)", maxEvent)
			}
			return err
		}
		s.change(func() {
			s.events = append(s.events, event{e.Type, e.Data, e.LastEventID, time.Now()})
			if len(s.events) > kept {
				s.events = append(s.events[:kept/2], s.events[kept/2+1:]...)
			}
		})
		if n++; n > maxEvents {
			return fmt.Errorf("event limit of the stream reached (%d)", maxEvents)
		}
	}
	if limited.N == 0 {
		return fmt.Errorf("size limit of the stream reached (%d bytes)", maxStream)
	}
	return io.EOF
}

// change calls f and wakes all waiters.
func (s *stream) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	close(s.changed)
	s.changed = make(chan struct{})
}

// next implements signal.
func (s *stream) next() (changed <-chan struct{}, ended bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed, !s.ended.IsZero()
}

// find returns the first kept event that match accepts.
func (s *stream) find(match func(event) bool) (event, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.events {
		if match(e) {
			return e, true
		}
	}
	return event{}, false
}

// named returns the first event with this name.
func (s *stream) named(name string) (event, bool) {
	return s.find(func(e event) bool { return e.name == name })
}

// containing returns the first event with a text in its data.
func (s *stream) containing(text string) (event, bool) {
	return s.find(func(e event) bool { return strings.Contains(e.data, text) })
}

// answered returns the response header, or nil.
func (s *stream) answered() *answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.header
}

// encoding returns the encoding of the stream, or "" if it has none.
func (s *stream) encoding() string {
	a := s.answered()
	if a == nil || strings.EqualFold(a.header.Get("Content-Encoding"), "identity") {
		return ""
	}
	return a.header.Get("Content-Encoding")
}

// end returns the time and the cause of the end. The time is zero while the stream is open.
func (s *stream) end() (time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended, s.err
}

// ages returns the time from the response header to the end, or to now, and the time since the last
// event before that.
func (s *stream) ages() (age, silence time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	end, opened := s.ended, s.began
	if end.IsZero() {
		end = time.Now()
	}
	if s.header != nil {
		opened = s.header.came
	}
	last := opened
	if n := len(s.events); n > 0 {
		last = s.events[n-1].at
	}
	return end.Sub(opened), end.Sub(last)
}

// wait waits until the stream has ended, and returns whether it has ended within d.
func (s *stream) wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-s.done:
		return true
	case <-ctx.Done():
	case <-timer.C:
	}
	return false
}

// close ends the stream and waits for its goroutine.
func (s *stream) close() {
	s.cancel()
	<-s.done
}
