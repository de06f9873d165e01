package load

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// fake is a small presence server that can break its promises. Each client has the token of its
// index. The token "reader" may not send messages.
type fake struct {
	faults faults
	enough func() // called after each request with a message

	mu       sync.Mutex // guards the fields below
	streams  map[*fakeStream]bool
	opened   map[string]int // streams by token
	attempts map[string]int // requests for a stream by token
	messages []fakeMessage
	keys     map[string]bool
	posts    int
}

type fakeMessage struct{ room, data string }

// fakeStream is one stream. Its handler writes the frames.
type fakeStream struct {
	token, room string
	count       int // streams opened by this token, with this one
	frames      chan string
	sent        int // messages
}

// faults change the behavior of a fake. A nil one changes nothing.
type faults struct {
	// open returns the status of a request for a stream, from the number of requests by this token.
	open func(token string, attempt int) int
	// deliver changes the frames that carry the message with this number on a stream, from 1. An
	// empty list loses it. If end is true, the stream ends after them.
	deliver func(s *fakeStream, number int, frame string) (frames []string, end bool)
	// sync is the data of the event sync; empty means a short one.
	sync string
	// count changes a user count.
	count func(s *fakeStream, n int) int
	// post returns the status of an accepted message, from the number of requests; 0 closes the
	// connection.
	post func(attempt int) int
}

func newFake(f faults) *fake {
	return &fake{faults: f, streams: map[*fakeStream]bool{}, opened: map[string]int{}, attempts: map[string]int{}, keys: map[string]bool{}}
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		f.post(w, r)
		return
	}
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	f.mu.Lock()
	f.attempts[token]++
	status := http.StatusOK
	if f.faults.open != nil {
		status = f.faults.open(token, f.attempts[token])
	}
	if status != http.StatusOK {
		f.mu.Unlock()
		w.WriteHeader(status)
		return
	}
	f.opened[token]++
	s := &fakeStream{token: token, room: r.URL.Query().Get("room"), count: f.opened[token], frames: make(chan string, 10_000)}
	s.frames <- "retry: 10\n\n"
	if from, err := strconv.Atoi(r.Header.Get("Last-Event-ID")); err == nil {
		for i, m := range f.messages {
			if i >= from && m.room == s.room {
				s.frames <- m.frame(i)
				s.sent++
			}
		}
	}
	s.frames <- fmt.Sprintf("id: %d\ndata: {%s}\nevent: sync\n\n", len(f.messages), f.faults.sync)
	f.streams[s] = true
	f.sendCounts(s.room)
	f.mu.Unlock()
	f.serve(w, r, s)
}

func (m fakeMessage) frame(index int) string {
	return fmt.Sprintf("id: %d\ndata: {\"id\":\"%[1]d\",\"data\":%q}\nevent: message\n\n", index+1, m.data)
}

// serve writes the frames of a stream until it ends.
func (f *fake) serve(w http.ResponseWriter, r *http.Request, s *fakeStream) {
	w.Header().Set("Content-Type", "text/event-stream")
	for open := true; open; {
		select {
		case frame, more := <-s.frames:
			if open = more; more {
				fmt.Fprint(w, frame)
				w.(http.Flusher).Flush()
			}
		case <-r.Context().Done():
			open = false
		}
	}
	f.mu.Lock()
	delete(f.streams, s)
	f.sendCounts(s.room)
	f.mu.Unlock()
}

// sendCounts sends the user count of a room.
func (f *fake) sendCounts(room string) {
	n := 0
	for s := range f.streams {
		if s.room == room {
			n++
		}
	}
	for s := range f.streams {
		if s.room == room {
			shown := n
			if f.faults.count != nil {
				shown = f.faults.count(s, n)
			}
			s.frames <- fmt.Sprintf("data: %d\nevent: user count\n\n", shown)
		}
	}
}

func (f *fake) post(w http.ResponseWriter, r *http.Request) {
	var body struct{ ID, Data string }
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil || body.ID == "" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if r.Header.Get("Authorization") == "Bearer reader" {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.posts++
	if f.enough != nil {
		defer f.enough()
	}
	room := r.URL.Query().Get("room")
	if key := room + " " + body.ID; !f.keys[key] {
		f.keys[key] = true
		f.messages = append(f.messages, fakeMessage{room, body.Data})
		f.deliver(f.messages[len(f.messages)-1].frame(len(f.messages)-1), room)
	}
	status := http.StatusAccepted
	if f.faults.post != nil {
		status = f.faults.post(f.posts)
	}
	if status == 0 {
		panic(http.ErrAbortHandler)
	}
	w.WriteHeader(status)
}

func (f *fake) deliver(frame, room string) {
	for s := range f.streams {
		if s.room != room {
			continue
		}
		s.sent++
		frames, end := []string{frame}, false
		if f.faults.deliver != nil {
			frames, end = f.faults.deliver(s, s.sent, frame)
		}
		for _, frame := range frames {
			s.frames <- frame
		}
		if end {
			delete(f.streams, s)
			close(s.frames)
		}
	}
}

// sentTo returns the number of messages sent to the rooms whose names end with suffix.
func (f *fake) sentTo(suffix string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range f.messages {
		if strings.HasSuffix(m.room, suffix) {
			n++
		}
	}
	return n
}

// tokensOf returns the tokens of n clients.
func tokensOf(n int) (tokens []string) {
	for i := range n {
		tokens = append(tokens, strconv.Itoa(i))
	}
	return tokens
}

// equal fails the test unless the values are equal.
func equal[T comparable](t *testing.T, name string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", name, got, want)
	}
}
