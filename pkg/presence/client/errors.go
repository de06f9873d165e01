package client

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// ErrTooLarge means that the stream contains an event larger than 16 MiB. [Client.Events] ends with
// this error because the server would send the event again after each reconnect.
var ErrTooLarge = errors.New("event larger than 16 MiB")

// ErrToken means that [Config.Token] returned a token with a control character, which an HTTP
// header cannot contain.
var ErrToken = errors.New("token contains a control character")

// ConfigError is the error of [New] for a [Config] with an invalid field.
type ConfigError struct {
	Field  string // Name of the Config field.
	Reason string // Text after the field name, such as "must not contain a control character".
}

// Error returns the field name and the reason: "client: URL must be …".
func (e *ConfigError) Error() string { return "client: " + e.Field + " " + e.Reason }

// maxWait is the longest wait that a server can request.
const maxWait = 5 * time.Minute

// maxResponse is the maximum number of bytes to read from a response that is not a stream.
const maxResponse = 64 << 10

// Problem is a response that rejects a request (RFC 9457).
type Problem struct {
	Status     int           `json:"status"`
	Type       string        `json:"type"`
	Title      string        `json:"title"`
	Detail     string        `json:"detail"`
	Until      time.Time     `json:"-"` // End of the ban, if the user is banned from the room; otherwise zero.
	RetryAfter time.Duration `json:"-"` // Wait from the Retry-After header; zero without one.
}

// Error returns the status, the title and the detail on one line.
func (p *Problem) Error() string {
	s := fmt.Sprintf("%d %s", p.Status, p.Title)
	if p.Detail != "" {
		s += ": " + p.Detail
	}
	return s
}

// final reports whether the same request would have the same result later.
func (p *Problem) final() bool {
	switch p.Status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return false
	}
	return p.Status < 500
}

// problem converts an unexpected response to a [Problem].
func problem(resp *http.Response) *Problem {
	var body struct {
		Problem
		Until string `json:"until"`
	}
	p, kind := &body.Problem, mediaType(resp)
	if kind == "application/problem+json" {
		// Fields that cannot be decoded stay empty, because the status is sufficient.
		_ = json.NewDecoder(io.LimitReader(resp.Body, maxResponse)).Decode(&body)
		p.Until, _ = time.Parse(time.RFC3339, body.Until)
	} else if resp.StatusCode == http.StatusOK {
		p.Title = fmt.Sprintf("content type not text/event-stream (%q)", kind)
	}
	p.Status = resp.StatusCode
	p.Title = cmp.Or(p.Title, http.StatusText(p.Status))
	p.RetryAfter = retryAfter(resp.Header.Get("Retry-After"))
	return p
}

// mediaType returns the media type of the response without its parameters. The parameters have no
// effect, because a stream is UTF-8 even if its charset parameter names another encoding (WHATWG
// HTML, section 9.2.5).
func mediaType(resp *http.Response) string {
	kind, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	return strings.ToLower(strings.TrimSpace(kind))
}

// retryAfter parses the value of Retry-After (RFC 9110, section 10.2.3): a number of seconds or a
// date. It returns zero for any other value.
func retryAfter(v string) time.Duration {
	if n, err := strconv.Atoi(v); err == nil {
		return time.Duration(min(max(n, 0), int(maxWait/time.Second))) * time.Second
	}
	if t, err := http.ParseTime(v); err == nil {
		return max(time.Until(t), 0)
	}
	return 0
}

// Goodbye is the data of the event "goodbye", the last event before the server ends a stream.
//
// [Client.Events] returns a Goodbye as an error only if reconnecting would not help: after
// "removed", after "signed out", and after "expired" without a new token. After "draining", "full"
// and "slow", the client reconnects.
type Goodbye struct {
	Reason string `json:"reason"`
}

// Error returns "server ended the stream: " followed by the reason.
func (g *Goodbye) Error() string { return "server ended the stream: " + g.Reason }
