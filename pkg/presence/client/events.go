package client

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"
	"unicode"
)

// The limits on the delay before a reconnect and on a silent connection.
const (
	firstRetry = 3 * time.Second        // until the stream has sent retry:
	minWait    = 100 * time.Millisecond // prevents a busy loop after a retry: of 0
	maxBackoff = 30 * time.Second       // maximum of the retry: that failures have doubled

	// firstSilence applies until sync announces the heartbeat. It is 2.5 times the server's default
	// heartbeat.
	firstSilence = 37500 * time.Millisecond

	maxHeartbeat = 300 // seconds; no server announces more
)

// errSilent is the reason for closing a silent connection.
var errSilent = errors.New("no data for 2.5 heartbeats")

// errBreak means that the receiver has left its loop.
var errBreak = errors.New("break")

// Events follows the room until ctx ends. It reconnects whenever the stream breaks. Calls are
// independent of each other: each starts from [Config.LastEventID].
//
// The last pair, and no other, holds an error:
//
//   - the error of ctx
//   - a [*Problem], for an answer that retries do not change, such as 403 or 404
//   - a [*Goodbye], after "removed" or "signed out"
//   - [ErrTooLarge]
//   - [ErrToken]
//
// Failures of the network and of [Config.Token] are logged and retried. So are 408, 425, 429 and
// 5xx.
//
// The server refuses a token with 401 or with the goodbye "expired". Events then calls
// [Config.Token] again at once. If the function returns the same token, or is nil, Events ends with
// that [*Problem] or [*Goodbye]. Otherwise it opens the stream again, after the same wait as after
// any other failure.
func (c *Client) Events(ctx context.Context) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		err := c.follow(ctx, func(e Event) error {
			if !yield(e, nil) {
				return errBreak
			}
			return nil
		})
		if err != errBreak {
			c.wrap(&err, "follow")
			yield(Event{}, err)
		}
	}
}

// follow opens the stream and reopens it until an error is final.
func (c *Client) follow(ctx context.Context, emit func(Event) error) error {
	d := decoder{lastID: c.config.LastEventID, retry: firstRetry}
	for failures := 0; ; failures++ {
		token, err := c.token(ctx)
		opened := false
		if err == nil {
			opened, err = c.stream(ctx, token, &d, emit)
		}
		if err == errBreak { // comes before every other error: nothing more may be emitted
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if c.over(ctx, token, err) {
			return err
		}
		if opened {
			failures = 0
		}
		away := wait(d.retry, failures, err)
		c.config.Logger.Info("stream ended, reconnecting", "err", err, "in", away.Round(time.Millisecond))
		select {
		case <-time.After(away):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// over reports whether err is final. err ended a stream that was opened with token. Wrapped errors
// do not count: an error of the token function is never final, even if it contains a Problem.
func (c *Client) over(ctx context.Context, token string, err error) bool {
	switch e := err.(type) {
	case *Problem:
		if e.Status == http.StatusUnauthorized {
			return !c.renewed(ctx, token)
		}
		return e.final()
	case *Goodbye:
		return e.Reason != "expired" || !c.renewed(ctx, token)
	}
	return err == ErrTooLarge || err == ErrToken
}

// renewed reports whether the next request may have another token than the refused one. After an
// error of the token function it returns true: the next attempt decides.
func (c *Client) renewed(ctx context.Context, refused string) bool {
	token, err := c.token(ctx)
	return err != nil || token != refused
}

// wait returns the delay before the next attempt:
//
//  1. the stream's retry, doubled for each failure in a row, up to maxBackoff
//  2. at least retry, minWait and the Retry-After of the answer
//  3. at most maxWait
//  4. plus a random part of up to half of it
//
// Because of the random part, clients that were disconnected together do not reconnect together.
func wait(retry time.Duration, failures int, err error) time.Duration {
	d := max(min(retry<<min(failures, 10), maxBackoff), retry, minWait)
	if p, ok := err.(*Problem); ok {
		d = max(d, p.RetryAfter)
	}
	d = min(d, maxWait)
	return d + rand.N(d/2)
}

// stream opens the stream once and emits its events until it ends. opened reports that the server
// accepted the request.
func (c *Client) stream(ctx context.Context, token string, d *decoder, emit func(Event) error) (opened bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer func() {
		if context.Cause(ctx) == errSilent && err != errBreak {
			err = errSilent // replaces the error of the read that it cancelled
		}
	}()
	body := watched{limit: firstSilence, timer: time.AfterFunc(firstSilence, func() { cancel(errSilent) })}
	defer body.timer.Stop()

	req, err := c.request(ctx, http.MethodGet, "events", token, nil)
	if err != nil {
		return false, err
	}
	req.Header.Set("Accept", "text/event-stream")
	// Like an EventSource: its requests have the cache mode "no-store" (WHATWG HTML, section
	// 9.2.2). That mode sets this header (WHATWG Fetch, section 4.6, HTTP-network-or-cache fetch).
	req.Header.Set("Cache-Control", "no-cache")
	switch {
	case strings.ContainsFunc(d.lastID, unicode.IsControl): // legal in a stream, but not in a net/http header
		query := req.URL.Query()
		query.Set("last_event_id", d.lastID)
		req.URL.RawQuery = query.Encode()
	case d.lastID != "":
		req.Header.Set("Last-Event-ID", d.lastID)
	}
	resp, err := c.config.HTTPClient.Do(req)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || mediaType(resp) != "text/event-stream" {
		return false, problem(resp)
	}
	body.Reader = resp.Body
	return true, d.decode(&body, func(e Event) error {
		if err := emit(e); err != nil {
			return err
		}
		switch e.Name {
		case "sync":
			var s Sync
			if json.Unmarshal(e.Data, &s) == nil && s.Heartbeat > 0 && s.Heartbeat <= maxHeartbeat {
				body.limit = max(time.Second, time.Duration(2.5*s.Heartbeat*float64(time.Second)))
			}
		case "goodbye":
			var g Goodbye
			_ = json.Unmarshal(e.Data, &g) // reconnects after a goodbye that cannot be decoded
			switch g.Reason {
			case "removed", "expired", "signed out":
				return &g
			}
		}
		return nil
	})
}

// watched is a body whose timer runs only while a read waits. So a slow receiver does not make the
// server look silent.
type watched struct {
	io.Reader
	limit time.Duration
	timer *time.Timer
}

func (w *watched) Read(p []byte) (int, error) {
	w.timer.Reset(w.limit)
	defer w.timer.Stop()
	return w.Reader.Read(p)
}
