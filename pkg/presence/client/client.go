// Package client is the Go client of a presence server. It follows a room's events and posts
// messages to the room. It imports no other package of this module, so a program that only follows
// a room links no server.
//
// It keeps the guarantees of a browser's EventSource: it resumes from the id of the last event. It
// adds three guarantees:
//
//   - It waits for the time of the stream's retry: field before it reconnects, and longer after
//     each failure. A random part keeps clients from reconnecting together.
//   - It detects a server that has become silent.
//   - It stops, with an error that states the reason, when reconnecting would not help.
package client

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"unicode"
)

// Config holds the settings of a [Client]. The zero value of a field selects its default. Only URL
// has no default.
type Config struct {
	// URL is the base URL of the server, path included, such as https://example.com/presence. It is
	// http or https, without a query. Required.
	URL string

	// Room is the room to follow and to post to. Default: empty, the server's default room, which
	// is lobby.
	Room string

	// Token returns the token for a request, which is sent in the Authorization header. An empty
	// token is not sent. Each request calls the function with its own context, and so does each new
	// attempt to open the stream. The function must return when that context ends. It may be called
	// concurrently. [StaticToken] makes a function that always returns the same token. Default:
	// nil, no token.
	//
	// The client logs no token and puts none in an error. It does log the errors of the function.
	Token func(ctx context.Context) (string, error)

	// LastEventID is the [Event.ID] after which to resume. Default: empty, which replays no earlier
	// messages.
	LastEventID string

	// HTTPClient sends the requests. Its Timeout would end every stream at that age: leave it zero.
	// Default: [http.DefaultClient].
	HTTPClient *http.Client

	// Logger receives the reason why a stream ended and the delay before the next attempt. Default:
	// [slog.Default].
	Logger *slog.Logger
}

// Client follows one room and posts to it. It is safe for concurrent use.
type Client struct {
	config Config
	base   *url.URL
}

// New returns a client. It sends no request. The error is a [*ConfigError].
func New(c Config) (*Client, error) {
	base, err := url.Parse(c.URL)
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" || base.RawQuery+base.Fragment != "" {
		return nil, &ConfigError{"URL", "must be http://host or https://host, with an optional path"}
	}
	if strings.ContainsFunc(c.LastEventID, unicode.IsControl) {
		return nil, &ConfigError{"LastEventID", "must not contain a control character"}
	}
	c.HTTPClient = cmp.Or(c.HTTPClient, http.DefaultClient)
	c.Logger = cmp.Or(c.Logger, slog.Default())
	return &Client{c, base}, nil
}

// Send posts a message to the room and returns its id, which is the [Event.ID] of the message's
// event. It does not retry.
//
// After a lost answer or a 503 the server may still have accepted the message. Within two minutes,
// a retry with the same ID counts as the same message. The error is a [*Problem] if the server
// rejected the request. It wraps an error of [Config.Token].
func (c *Client) Send(ctx context.Context, m Message) (id string, err error) {
	defer c.wrap(&err, "send to")
	body, err := json.Marshal(struct {
		Event string          `json:"event,omitempty"`
		ID    string          `json:"id,omitempty"`
		Data  json.RawMessage `json:"data"`
	}{m.Event, m.ID, m.Data})
	if err != nil {
		return "", err
	}
	resp, err := c.sendJSON(ctx, http.MethodPost, "messages", body, http.StatusAccepted)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var taken struct{ ID string }
	err = json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&taken)
	return taken.ID, err
}

// SetState replaces the info of the token's user in the room, until the user has left the room.
// info is any JSON of up to 1 KiB; nil means null. SetState does not retry.
//
// The error is a [*Problem] if the server rejected the request. Its Status is 409 if the user has
// no open stream of the room. The error wraps an error of [Config.Token].
func (c *Client) SetState(ctx context.Context, info json.RawMessage) (err error) {
	defer c.wrap(&err, "set state in")
	body, err := json.Marshal(info)
	if err != nil {
		return err
	}
	resp, err := c.sendJSON(ctx, http.MethodPut, "state", body, http.StatusNoContent)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// sendJSON sends a JSON body. It returns the response if its status is the given one, and otherwise
// a [*Problem].
func (c *Client) sendJSON(ctx context.Context, method, path string, body []byte, status int) (*http.Response, error) {
	token, err := c.token(ctx)
	if err != nil {
		return nil, err
	}
	req, err := c.request(ctx, method, path, token, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.config.HTTPClient.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != status {
		defer resp.Body.Close()
		return nil, problem(resp)
	}
	return resp, nil
}

// request returns a request about the room, for path below the base URL.
func (c *Client) request(ctx context.Context, method, path, token string, body io.Reader) (*http.Request, error) {
	u := c.base.JoinPath(path)
	if c.config.Room != "" {
		u.RawQuery = url.Values{"room": {c.config.Room}}.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return req, nil
}

// wrap adds the failed operation and the room to an error.
func (c *Client) wrap(err *error, verb string) {
	if *err != nil {
		*err = fmt.Errorf("client: %s room %q: %w", verb, cmp.Or(c.config.Room, "lobby"), *err)
	}
}

// token returns the token for one request; empty means none. Its error does not contain a token.
func (c *Client) token(ctx context.Context) (string, error) {
	if c.config.Token == nil {
		return "", nil
	}
	token, err := c.config.Token(ctx)
	if err != nil {
		return "", fmt.Errorf("token: %w", err)
	}
	if strings.ContainsFunc(token, unicode.IsControl) {
		return "", ErrToken
	}
	return token, nil
}
