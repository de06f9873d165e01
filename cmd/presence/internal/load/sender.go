package load

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// senders send the messages of all rooms, with one goroutine per room.
type senders struct {
	*shared
	client *http.Client
	done   chan struct{} // closed to end the messages
	group  sync.WaitGroup

	mu      sync.Mutex     // guards the field below
	refused map[string]int // requests without a 2xx response, by reason
}

// retryDelay is the time before a request is repeated.
const retryDelay = 100 * time.Millisecond

func newSenders(r *shared) *senders {
	return &senders{
		shared: r,
		done:   make(chan struct{}),
		client: &http.Client{Transport: r.Transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}
}

// begin starts the messages.
func (s *senders) begin() {
	if s.Rate == 0 {
		return
	}
	for _, room := range s.rooms {
		s.group.Go(func() { s.work(room) }) // ends with done
	}
}

// end stops the messages, and waits for the last requests.
func (s *senders) end() {
	close(s.done)
	s.group.Wait()
	s.client.CloseIdleConnections()
}

// work sends the messages of a room at its rate. The rooms take turns. A late message is sent at
// once, so that the rate is reached later if possible.
func (s *senders) work(r *room) {
	began := s.now()
	every := time.Duration(float64(time.Second) * float64(len(s.rooms)) / s.Rate)
	offset := every * time.Duration(r.index) / time.Duration(len(s.rooms))
	for n := int64(1); ; n++ {
		if !s.sleep(began + offset + time.Duration(n-1)*every - s.now()) {
			return
		}
		switch s.send(r, n) {
		case sent:
			r.accept(n)
		case unsure:
			if !r.doubt(n) {
				return
			}
		}
	}
}

// sleep waits. It reports whether the messages go on.
func (s *senders) sleep(d time.Duration) bool {
	select {
	case <-s.done: // also without a wait
		return false
	default:
	}
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.done:
		return false
	}
}

// outcome is the result of a request or of several with one message.
type outcome int

const (
	sent   outcome = iota // accepted
	denied                // refused, so not sent
	unsure                // unknown
)

// send sends a message, and repeats the request until the outcome is final. If the messages end
// before, the outcome is unsure.
func (s *senders) send(r *room, number int64) outcome {
	m := message{r.index, number, s.now()}
	text := m.text(s.prefix, s.Size)
	r.begun.Store(number)
	turn, doubted := int(number)+r.index, false // the rooms begin with different users
	for {
		result, wait := s.attempt(r, number, turn, text)
		doubted = doubted || result == unsure
		if !doubted { // the idempotency key belongs to the user
			turn++ // the server may accept the message from another one
		}
		final := result == sent || result == unsure && !s.Target.idempotent()
		if final || !s.sleep(max(wait, retryDelay)) {
			return result
		}
	}
}

// attempt makes one request, as the user whose turn it is. wait is the time after which the server
// wants the next one.
func (s *senders) attempt(r *room, number int64, turn int, text string) (result outcome, wait time.Duration) {
	token := ""
	if n := len(s.SenderTokens); n > 0 {
		token = s.SenderTokens[turn%n]
	}
	request, err := s.Target.publishRequest(&s.Config, r.name, token, text, fmt.Sprintf("%s%d", s.prefix, number))
	if err != nil {
		s.refuse(reasonOf(err))
		return denied, time.Second
	}
	ctx, cancel := context.WithTimeout(context.Background(), sendTimeout)
	defer cancel()
	response, err := s.client.Do(request.WithContext(ctx))
	if err != nil {
		s.refuse(reasonOf(err))
		return unsure, 0
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(response.Body, 4<<10)) // the beginning suffices
	reason := s.Target.refusal(response.StatusCode, body)
	if reason == "" {
		return sent, 0
	}
	s.refuse(reason)
	seconds, _ := strconv.Atoi(response.Header.Get("Retry-After")) // a date counts as none
	if response.StatusCode >= 500 {                                // may have been accepted
		return unsure, time.Duration(max(0, min(seconds, 60))) * time.Second
	}
	return denied, time.Duration(max(0, min(seconds, 60))) * time.Second
}

func (s *senders) refuse(reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	count(&s.refused, reason)
}
