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

// ErrTooLarge means that the stream contains an event larger than 16 MiB. The server would send it
// again after each reconnect, so [Client.Events] ends.
var ErrTooLarge = errors.New("event larger than 16 MiB")

// ErrToken means that [Config.Token] returned a token with a control character. No header can
// contain one.
var ErrToken = errors.New("token contains a control character")

// ConfigError is the error of [New] for a [Config] with an invalid field.
type ConfigError struct {
	Field  string // Name of the Config's field.
	Reason string // Rest of a sentence that begins with the field's name.
}

// Error returns the field and the reason: "client: URL must be …".
func (e *ConfigError) Error() string { return "client: " + e.Field + " " + e.Reason }

// maxWait is the longest wait that a server may request from a client.
const maxWait = 5 * time.Minute

// maxAnswer is the maximum number of bytes to read of an answer that is not a stream.
const maxAnswer = 64 << 10

// Problem is an answer with which the server rejects a request (RFC 9457).
type Problem struct {
	Status     int           `json:"status"`
	Type       string        `json:"type"`
	Title      string        `json:"title"`
	Detail     string        `json:"detail"`
	RetryAfter time.Duration `json:"-"` // The wait in the Retry-After header; zero without one.
}

// Error returns the status, the title and the detail on one line.
func (p *Problem) Error() string {
	s := fmt.Sprintf("%d %s", p.Status, p.Title)
	if p.Detail != "" {
		s += ": " + p.Detail
	}
	return s
}

// final reports whether a later retry of the same request would have the same result.
func (p *Problem) final() bool {
	switch p.Status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return false
	}
	return p.Status < 500
}

// problem converts an unexpected answer to a [Problem].
func problem(resp *http.Response) *Problem {
	var p Problem
	kind := mediaType(resp)
	if kind == "application/problem+json" {
		// A field that cannot be decoded stays empty: the status is enough.
		_ = json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&p)
	} else if resp.StatusCode == http.StatusOK {
		p.Title = "content type not text/event-stream: " + strconv.Quote(kind)
	}
	p.Status = resp.StatusCode
	p.Title = cmp.Or(p.Title, http.StatusText(p.Status))
	p.RetryAfter = retryAfter(resp.Header.Get("Retry-After"))
	return &p
}

// mediaType returns the answer's media type without its parameters. They have no effect: a stream
// is UTF-8 for any charset parameter (WHATWG HTML, section 9.2.5).
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

// Goodbye is the server's last event before it ends a stream.
//
// [Client.Events] returns it as an error only for a reason after which reconnecting would not help:
// "removed", "signed out", or "expired" without a new token. After "draining", "full" and "slow"
// the client reconnects.
type Goodbye struct {
	Reason string `json:"reason"`
}

// Error returns "server ended the stream: " and the reason.
func (g *Goodbye) Error() string { return "server ended the stream: " + g.Reason }
