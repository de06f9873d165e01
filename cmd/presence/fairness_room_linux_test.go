//go:build !race

package main

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// healthy is a room with a sender and readers, each with its own user.
type healthy struct {
	s       *attacked
	room    string
	every   time.Duration
	size    int // of a message, in bytes
	readers []*steadyReader
	done    chan struct{}
	running sync.WaitGroup

	mu       sync.Mutex // guards the fields below
	sent     map[string]time.Time
	statuses map[int]int // of the messages
	delays   []time.Duration
}

// startHealthy opens the readers of the room, and then sends a message at intervals.
func (s *attacked) startHealthy(room string, readers, size int, every time.Duration) *healthy {
	s.t.Helper()
	h := &healthy{s: s, room: room, every: every, size: size, done: make(chan struct{}),
		sent: map[string]time.Time{}, statuses: map[int]int{}}
	for i := range readers {
		h.readers = append(h.readers, s.open(&steadyReader{
			user: fmt.Sprintf("%s-%d", room, i), room: room, heard: h.receive,
		}))
	}
	for _, r := range h.readers {
		if !r.joined(patience) {
			s.t.Fatalf("not joined: %v", r)
		}
	}
	h.running.Go(h.send)
	s.t.Cleanup(h.stop)
	return h
}

// stop stops the messages.
func (h *healthy) stop() {
	select {
	case <-h.done:
	default:
		close(h.done)
	}
	h.running.Wait()
}

// send sends messages until done. Each has its own goroutine, as one may be late.
func (h *healthy) send() {
	client := &http.Client{Timeout: patience}
	defer client.CloseIdleConnections()
	token := anyRoom(h.room + "-sender")
	ticks := time.NewTicker(h.every)
	defer ticks.Stop()
	var flight sync.WaitGroup
	defer flight.Wait()
	for n := 0; ; n++ {
		select {
		case <-h.done:
			return
		case <-ticks.C:
		}
		flight.Go(func() { h.post(client, token, n) })
	}
}

// post sends a message, which begins with its number.
func (h *healthy) post(client *http.Client, token string, n int) {
	key := fmt.Sprintf("%08d", n)
	h.mu.Lock()
	h.sent[key] = time.Now()
	h.mu.Unlock()
	status, err := postAs(client, h.s.addr, h.room, token, key+strings.Repeat("h", h.size-len(key)))
	if err != nil {
		h.s.t.Logf("message %d to %s: %v", n, h.room, err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.statuses[status]++; status != http.StatusAccepted {
		delete(h.sent, key)
	}
}

// postAs sends a message and returns the status of the answer.
func postAs(client *http.Client, addr, room, token, data string) (int, error) {
	request, err := http.NewRequest("POST", "http://"+addr+"/messages?room="+room,
		strings.NewReader(`{"data":"`+data+`"}`))
	if err != nil {
		return 0, err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, nil
}

// receive records the delay of a message.
func (h *healthy) receive(e heardEvent) {
	_, data, found := strings.Cut(e.data, `"data":"`)
	if e.name != "message" || !found || len(data) < 8 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if sent, known := h.sent[data[:8]]; known {
		h.delays = append(h.delays, e.at.Sub(sent))
	}
}

// delay has the delays of the messages of a healthy room, from POST to the receipt.
type delay struct{ p50, p99, max time.Duration }

func (d delay) String() string {
	ms := func(d time.Duration) float64 { return float64(d) / 1e6 }
	return fmt.Sprintf("delay p50 %.1f, p99 %.1f, max %.1f ms", ms(d.p50), ms(d.p99), ms(d.max))
}

// finish stops the messages and waits until each reader has all. It fails the test if one lacks a
// message, or if a message was refused.
func (h *healthy) finish() delay {
	h.s.t.Helper()
	h.stop()
	all := func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(h.delays) >= len(h.sent)*len(h.readers)
	}
	over := func() bool { return slices.ContainsFunc(h.readers, (*steadyReader).isOver) }
	poll(10*time.Millisecond, patience/4, func() bool { return all() || over() })
	h.mu.Lock()
	defer h.mu.Unlock()
	if got, want := len(h.delays), len(h.sent)*len(h.readers); got != want || want == 0 {
		h.s.t.Errorf("%s: got %d messages, want %d", h.room, got, want)
	}
	if len(h.statuses) != 1 || h.statuses[http.StatusAccepted] == 0 {
		h.s.t.Errorf("%s: got the statuses %v, want only 202", h.room, h.statuses)
	}
	for _, r := range h.readers {
		if r.isOver() {
			h.s.t.Errorf("%s: stream lost: %v", h.room, r)
		}
	}
	slices.Sort(h.delays)
	if len(h.delays) == 0 {
		return delay{}
	}
	at := func(q float64) time.Duration { return h.delays[int(q*float64(len(h.delays)-1))] }
	return delay{at(0.5), at(0.99), at(1)}
}
