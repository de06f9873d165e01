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

// These constants limit the delay before a reconnect, and how long a connection may be silent.
const (
	firstRetry = 3 * time.Second        // until the stream sends a retry: field
	minWait    = 100 * time.Millisecond // prevents a busy loop if the stream sends retry: 0
	maxBackoff = 30 * time.Second       // maximum delay that repeated doubling can reach

	// firstSilence is the limit until the sync event announces the heartbeat interval. It is 2.5
	// times the default heartbeat interval of the server.
	firstSilence = 37500 * time.Millisecond

	maxHeartbeat = 300 // seconds; no server has a longer heartbeat interval
)

// errSilent is the reason for closing a silent connection.
var errSilent = errors.New("no data for 2.5 heartbeat intervals")

// errBreak means that the caller has left its range loop.
var errBreak = errors.New("break")

// Events follows the room until ctx ends. It reconnects whenever the stream ends. Calls are
// independent of each other: each starts from [Config.LastEventID].
//
// The last pair, and no other, contains an error, which wraps one of these:
//
//   - the error of ctx
//   - a [*Problem], for a response that would be the same after a retry, such as 403 or 404
//   - a [*Goodbye] with the reason "removed" or "signed out"
//   - [ErrTooLarge]
//   - [ErrToken]
//
// Network failures and errors of [Config.Token] are logged and retried. So are responses with
// status 408, 425, 429 and 5xx.
//
// A server rejects a token with status 401 or with the goodbye "expired". Events then immediately
// calls [Config.Token] again. If Token is nil or returns the same token, Events ends with that
// [*Problem] or [*Goodbye]. Otherwise it opens the stream again, after the same wait as after any
// other failure.
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

// follow opens the stream, and reopens it until an error is final.
func (c *Client) follow(ctx context.Context, emit func(Event) error) error {
	d := decoder{lastID: c.config.LastEventID, retry: firstRetry}
	for failures := 0; ; failures++ {
		token, err := c.token(ctx)
		opened := false
		if err == nil {
			opened, err = c.stream(ctx, token, &d, emit)
		}
		if err == errBreak { // checked first, because nothing more may be emitted
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if c.isFinal(ctx, token, err) {
			return err
		}
		if opened {
			failures = 0
		}
		delay := wait(d.retry, failures, err)
		c.config.Logger.Info("stream ended, reconnecting", "err", err, "retry_in", delay.Round(time.Millisecond))
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// isFinal reports whether err, which ended a stream that was opened with token, is final. It does
// not unwrap err, so an error of the token function is never final, even if it wraps a Problem.
func (c *Client) isFinal(ctx context.Context, token string, err error) bool {
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

// renewed reports whether the next request may have a different token than the rejected one. If the
// token function fails, renewed returns true, so that the next attempt decides.
func (c *Client) renewed(ctx context.Context, rejected string) bool {
	token, err := c.token(ctx)
	return err != nil || token != rejected
}

// wait returns the delay before the next attempt:
//
//  1. Double retry for each consecutive failure, up to maxBackoff.
//  2. Wait at least for retry, minWait and the Retry-After of the response.
//  3. Wait at most for maxWait.
//  4. Add a random part of up to half of the delay.
//
// Because of the random part, clients that were disconnected at the same time reconnect at
// different times.
func wait(retry time.Duration, failures int, err error) time.Duration {
	d := max(min(retry<<min(failures, 10), maxBackoff), retry, minWait)
	if p, ok := err.(*Problem); ok {
		d = max(d, p.RetryAfter)
	}
	d = min(d, maxWait)
	return d + rand.N(d/2)
}

// stream opens the stream once and emits its events until the stream ends. opened reports whether
// the server accepted the request.
func (c *Client) stream(ctx context.Context, token string, d *decoder, emit func(Event) error) (opened bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer func() {
		if context.Cause(ctx) == errSilent && err != errBreak {
			err = errSilent // replaces the read error that the cancellation caused
		}
	}()
	body := watched{limit: firstSilence, timer: time.AfterFunc(firstSilence, func() { cancel(errSilent) })}
	defer body.timer.Stop()

	req, err := c.request(ctx, http.MethodGet, "events", token, nil)
	if err != nil {
		return false, err
	}
	req.Header.Set("Accept", "text/event-stream")
	// An EventSource sends this header too: its requests have the cache mode "no-store" (WHATWG
	// HTML, section 9.2.2), which sets the header (WHATWG Fetch, section 4.6, HTTP-network-or-cache
	// fetch).
	req.Header.Set("Cache-Control", "no-cache")
	switch {
	case strings.ContainsFunc(d.lastID, unicode.IsControl): // valid in a stream, but net/http rejects it in a header
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
			_ = json.Unmarshal(e.Data, &g) // if the data is invalid, the client reconnects
			switch g.Reason {
			case "removed", "expired", "signed out":
				return &g
			}
		}
		return nil
	})
}

// watched is a response body whose timer runs only while a Read waits, so that a slow receiver does
// not make the server look silent.
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
