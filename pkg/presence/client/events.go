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

// How long to stay away, and how long to bear silence.
const (
	firstRetry = 3 * time.Second        // until the stream says retry:
	minWait    = 100 * time.Millisecond // a retry: of 0 must not make a busy loop
	maxBackoff = 30 * time.Second       // the most that failures make of retry:

	// Until sync announces the heartbeat: 2.5 of the server's default one.
	firstSilence = 37500 * time.Millisecond

	maxHeartbeat = 300 // seconds; no server announces more
)

// errSilent is why a connection of which nothing was heard is closed.
var errSilent = errors.New("nothing heard for 2.5 heartbeats")

// errBreak is the receiver having enough.
var errBreak = errors.New("break")

// Events follows the room until ctx ends, and comes back whenever the stream
// breaks; each call follows on its own, from [Config.LastEventID].
//
// The last pair, and no other, holds an error: ctx's; a [*Problem] for an
// answer that will not mend, such as 403 or 404; a [*Goodbye] after "removed"
// or "signed out"; [ErrTooLarge]; or [ErrToken]. Failures of the network and of
// [Config.Token], 429, and 5xx are logged and tried again.
//
// A refused token, which is a 401 or the goodbye "expired", ends the stream
// unless [Config.Token] has another: it is called again at once. Where it
// returns the same token, or is nil, the stream is given up. Otherwise the
// stream is opened again, after the same wait as after any other failure.
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

// follow opens the stream again and again.
func (c *Client) follow(ctx context.Context, tell func(Event) error) error {
	d := decoder{lastID: c.config.LastEventID, retry: firstRetry}
	for failures := 0; ; failures++ {
		token, err := c.token(ctx)
		opened := false
		if err == nil {
			opened, err = c.stream(ctx, token, &d, tell)
		}
		if err == errBreak { // whatever else has ended at the same time: nothing more may be told
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
		c.config.Logger.Info("stream ended, it is opened again", "err", err, "in", away.Round(time.Millisecond))
		select {
		case <-time.After(away):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// over reports whether err, which ended a stream opened with that token, is final. It looks at no
// wrapped error: one of the token function is never final, even if it holds a Problem of its own.
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

// renewed reports whether the next request may have another token than the refused one. An error
// of the function leaves that open: the next attempt shows it.
func (c *Client) renewed(ctx context.Context, refused string) bool {
	token, err := c.token(ctx)
	return err != nil || token != refused
}

// wait is how long to stay away: what the stream or the answer asked for,
// doubled with each failure in a row, and up to half as much again, since those
// who left together must not return together.
func wait(retry time.Duration, failures int, err error) time.Duration {
	d := max(min(retry<<min(failures, 10), maxBackoff), retry, minWait)
	if p, ok := err.(*Problem); ok {
		d = max(d, p.RetryAfter)
	}
	d = min(d, maxWait)
	return d + rand.N(d/2)
}

// stream opens the stream once and tells its events until it ends; opened says
// that the server let us in.
func (c *Client) stream(ctx context.Context, token string, d *decoder, tell func(Event) error) (opened bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer func() {
		if context.Cause(ctx) == errSilent && err != errBreak {
			err = errSilent // rather than what it did to a read
		}
	}()
	body := watched{limit: firstSilence, timer: time.AfterFunc(firstSilence, func() { cancel(errSilent) })}
	defer body.timer.Stop()

	req, err := c.request(ctx, http.MethodGet, "events", token, nil)
	if err != nil {
		return false, err
	}
	req.Header.Set("Accept", "text/event-stream")
	// As an EventSource: its requests have the cache mode "no-store" (WHATWG HTML, section 9.2.2),
	// which is this header (WHATWG Fetch, section 4.6, HTTP-network-or-cache fetch).
	req.Header.Set("Cache-Control", "no-cache")
	switch {
	case strings.ContainsFunc(d.lastID, unicode.IsControl): // legal in a stream, not in a header of net/http
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
		if err := tell(e); err != nil {
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
			_ = json.Unmarshal(e.Data, &g) // a reason that cannot be read is no reason to stay away
			switch g.Reason {
			case "removed", "expired", "signed out":
				return &g
			}
		}
		return nil
	})
}

// watched is a body whose timer runs while a read waits, and at no other time:
// a slow receiver is no silent server.
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
