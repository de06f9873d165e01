package load

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"syscall"
	"time"
	"unicode"
)

// client is one client, with or without a connection. The lock of its shard guards it.
type client struct {
	shard *shard
	index int // in the run
	room  *room
	token string
	pace  pace

	state   state
	link    link          // nil without a connection
	began   time.Duration // of the connection, since the start of the run
	resumes bool          // the request had a last event id
	landed  bool          // the connection is no longer in flight
	counted bool          // the client has the presence of the room
	held    bool          // the client reads slowly or not at all now
	count   int           // the last user count; -1 before the first

	decoder  decoder
	event    []byte        // name of the current event
	data     []byte        // the beginning of its data
	messages []message     // in its data
	nextID   []byte        // its id
	id       []byte        // last event id, to resume
	retry    time.Duration // from the server
	reason   string        // of the end that the server announced

	sequence sequence
}

// pace is how a client reads after the ramp phase.
type pace int8

const (
	normal pace = iota
	slow
	stopped
)

// state is the state of a client's connection.
type state int8

const (
	idle    state = iota // not yet connected
	opening              // without a response
	open                 // with a stream
	waiting              // will connect again
	dead                 // will not
)

// link is the connection of a client.
type link interface{ close() }

const (
	keptData = 256 // bytes of an event's data that are kept
	keptName = 64  // bytes of its name
	maxKept  = 256 // messages of an event that are kept until its end
	maxID    = 1 << 10
)

func newClient(s *shard, index int, r *room, token string, p pace) *client {
	c := &client{shard: s, index: index, room: r, token: token, pace: p, count: -1, retry: firstRetry}
	c.decoder.sink = c
	return c
}

// begin prepares the client for a new connection.
func (c *client) begin(now time.Duration) {
	c.state, c.began, c.resumes = opening, now, len(c.id) > 0
	c.landed, c.counted, c.held, c.count, c.reason = false, false, false, -1, ""
	c.event, c.data, c.messages, c.nextID = c.event[:0], c.data[:0], c.messages[:0], c.nextID[:0]
	c.decoder.reset()
	s := &c.shard.stats
	s.attempts++
	s.flight++
}

// head is called when the client has a response.
func (c *client) head() {
	if !c.shard.Target.announces() {
		c.open()
	}
}

// open is called at each position of the stream. The first one of a connection opens the stream.
func (c *client) open() {
	if c.state == open {
		return
	}
	c.state = open
	s := &c.shard.stats
	s.open++
	if c.shard.phase == ramp {
		s.toOpen.record(c.shard.now - c.began)
	}
	if c.resumes {
		s.resumed++
	} else {
		c.restart()
	}
	if !c.shard.Target.counts() {
		c.land()
	}
}

// hold makes the client slow or stopped, if it is to be so in this phase.
func (c *client) hold() { c.held = c.shard.phase == steady && c.pace != normal }

// restart begins the sequence anew, at the present.
func (c *client) restart() {
	_, unsure := c.room.end()
	c.shard.stats.lost += c.sequence.start(c.room.begun.Load()).count(unsure)
}

// land ends the time in flight.
func (c *client) land() {
	if c.landed {
		return
	}
	c.landed = true
	c.shard.stats.flight--
	c.hold()
}

func (c *client) field(name, value []byte) {
	switch string(name) {
	case "data":
		found := false
		for rest := value; ; found = true {
			m, after, ok := findMessage(rest, c.shard.prefix)
			if !ok {
				break
			}
			if len(c.messages) == maxKept {
				c.receive()
			}
			c.messages = append(c.messages, m)
			rest = after
		}
		if !found {
			c.data = appendUpTo(c.data[:0], value, keptData)
		}
	case "event":
		c.event = appendUpTo(c.event[:0], value, keptName)
	case "id":
		c.nextID = appendUpTo(c.nextID[:0], value, maxID)
	case "retry":
		if ms, err := strconv.Atoi(string(value)); err == nil && ms >= 0 {
			c.retry = min(max(time.Duration(ms), 10), 600_000) * time.Millisecond // without a busy loop
		}
	}
}

// receive counts the messages of an event. It is called at the end of the event: a stream that ends
// before resumes with this event (WHATWG HTML, section 9.2.6).
func (c *client) receive() {
	for _, m := range c.messages {
		c.message(m)
	}
	c.messages = c.messages[:0]
}

// message counts a numbered message.
func (c *client) message(m message) {
	s := &c.shard.stats
	s.deliveries++
	if m.room != c.room.index {
		s.strays++
		return
	}
	switch c.sequence.add(m.number) {
	case duplicate:
		s.duplicated++
	case outOfOrder:
		s.outOfOrder++
	}
	if c.shard.phase == steady && c.pace == normal && m.sent >= c.began {
		s.toReceipt.record(c.shard.now - m.sent)
	}
}

func (c *client) dispatch() {
	c.receive()
	if len(c.nextID) > 0 {
		if len(c.nextID) < maxID && !bytes.ContainsFunc(c.nextID, unicode.IsControl) {
			c.id = append(c.id[:0], c.nextID...)
		}
		c.nextID = c.nextID[:0]
	}
	if len(c.event) > 0 || len(c.data) > 0 {
		c.act(c.shard.Target.meaning(c.event, c.data))
		c.event, c.data = c.event[:0], c.data[:0]
	}
}

func (c *client) act(m meaning) {
	s := &c.shard.stats
	switch m.kind {
	case position:
		c.open()
	case userCount:
		if !c.counted && c.shard.phase == ramp {
			s.toCount.record(c.shard.now - c.began)
		}
		c.counted, c.count = true, m.count
		c.land()
	case reset:
		s.resets++
		c.restart()
	case goodbye:
		c.reason = m.reason
	}
}

// end ends the connection because of err. It returns the time until the next one, or a negative
// time if there is to be none.
func (c *client) end(err error) time.Duration {
	s := &c.shard.stats
	reason, figures := c.reason, &s.failed
	if reason == "" {
		reason = reasonOf(err)
	}
	if c.state == open {
		figures = &s.ended
	}
	count(figures, reason)
	c.leave()
	refused := new(statusError)
	switch {
	case errors.As(err, new(*tls.CertificateVerificationError)):
		return -1
	case !errors.As(err, &refused):
		return c.retry
	}
	s.detail(refused.text, refused.detail)
	switch refused.status {
	case http.StatusRequestTimeout, http.StatusTooManyRequests:
	default:
		if refused.status < 500 {
			return -1
		}
	}
	seconds, _ := strconv.Atoi(refused.retry) // a date counts as none
	return max(c.retry, min(time.Duration(max(0, seconds)), 600)*time.Second)
}

// leave closes the connection.
func (c *client) leave() {
	s := &c.shard.stats
	if c.state == open {
		s.open--
	}
	if !c.landed {
		s.flight--
	}
	c.state, c.landed, c.count = idle, true, -1
	if c.link != nil {
		c.link.close()
		c.link = nil
	}
}

// reasonOf returns the reason for the end of a connection, without parts that differ between
// clients.
func reasonOf(err error) string {
	var number syscall.Errno
	switch {
	case errors.Is(err, io.EOF):
		return errEnd.Error()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "no response"
	case errors.As(err, new(*tls.CertificateVerificationError)):
		return "certificate not valid: " + rootOf(err).Error()
	case errors.As(err, &number):
		return number.Error()
	}
	refused := new(statusError)
	if errors.As(err, &refused) {
		return refused.text
	}
	return cmp.Or(rootOf(err).Error(), "unknown")
}

// rootOf returns the innermost error.
func rootOf(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}
