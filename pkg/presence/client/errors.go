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

// ErrTooLarge: the stream holds an event of more than 16 MiB. It would come
// again after each return, so the stream is given up.
var ErrTooLarge = errors.New("an event of more than 16 MiB")

// ErrToken means that [Config.Token] returned a token with a control character, which no header can
// carry.
var ErrToken = errors.New("the token holds a control character")

// ConfigError is the error of [New] for a [Config] with a bad field.
type ConfigError struct {
	Field  string // name of the Config's field
	Reason string // continues a sentence that begins with the field's name
}

// Error returns the field and the reason.
func (e *ConfigError) Error() string { return "client: " + e.Field + " " + e.Reason }

// maxAnswer bounds what is read of an answer that is no stream, in bytes.
// maxWait is the longest time that a server may ask a client to wait.
const maxWait = 5 * time.Minute

const maxAnswer = 64 << 10

// Problem is an answer by which the server says no, RFC 9457.
type Problem struct {
	Status     int           `json:"status"`
	Type       string        `json:"type"`
	Title      string        `json:"title"`
	Detail     string        `json:"detail"`
	RetryAfter time.Duration `json:"-"` // as the header of that name asks; zero if it does not
}

// Error returns the status, the title and the detail in one line.
func (p *Problem) Error() string {
	s := fmt.Sprintf("%d %s", p.Status, p.Title)
	if p.Detail != "" {
		s += ": " + p.Detail
	}
	return s
}

// final reports whether the same request would fare the same in a while.
func (p *Problem) final() bool {
	switch p.Status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return false
	}
	return p.Status < 500
}

// problem reads an answer that is not the one hoped for.
func problem(resp *http.Response) *Problem {
	var p Problem
	kind := mediaType(resp)
	if kind == "application/problem+json" {
		// What cannot be read is left empty: the status says enough.
		_ = json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&p)
	} else if resp.StatusCode == http.StatusOK {
		p.Title = "not an event stream but " + strconv.Quote(kind)
	}
	p.Status = resp.StatusCode
	p.Title = cmp.Or(p.Title, http.StatusText(p.Status))
	p.RetryAfter = retryAfter(resp.Header.Get("Retry-After"))
	return &p
}

// mediaType returns the answer's media type without its parameters, which have no effect: a stream
// is UTF-8 whatever its charset parameter is (WHATWG HTML, section 9.2.5).
func mediaType(resp *http.Response) string {
	kind, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	return strings.ToLower(strings.TrimSpace(kind))
}

// retryAfter reads the header Retry-After (RFC 9110, section 10.2.3): seconds
// or a date; zero for none or what is neither.
func retryAfter(v string) time.Duration {
	if n, err := strconv.Atoi(v); err == nil {
		return time.Duration(min(max(n, 0), int(maxWait/time.Second))) * time.Second
	}
	if t, err := http.ParseTime(v); err == nil {
		return max(time.Until(t), 0)
	}
	return 0
}

// Goodbye is the server ending a stream. As an error it has a reason after which
// reconnecting would not help: "removed", "signed out", or "expired" without a
// new token; after "draining", "full" and "slow" the client reconnects.
type Goodbye struct {
	Reason string `json:"reason"`
}

// Error says that the server ended the stream, and the reason.
func (g *Goodbye) Error() string { return "the server ended the stream: " + g.Reason }
