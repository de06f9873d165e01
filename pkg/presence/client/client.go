// Package client is the Go client of the wire: it follows a room's events and
// posts messages into it. It knows no other package of this module, so a
// program that only listens links no server.
//
// It keeps the promises of an EventSource in a browser, and three more. It
// takes up where it was, with the id of the last event; it waits as the stream's
// retry: asks, longer after each failure and never as long as its neighbours;
// it notices a server that has gone without a word; and it gives up, with an
// error that says why, when coming back would not help.
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

// Config holds the settings of a [Client]. The zero value of each field is its
// default, which the field names; only URL has none.
type Config struct {
	// URL is where the server is mounted, path and all, such as
	// https://example.com/presence; http or https, without a query. Required.
	URL string

	// Room is the room to follow and to post to; empty is the server's
	// default, the lobby.
	Room string

	// Token returns the token for a request, which is sent in the Authorization header; an empty
	// one is not sent. Each request calls it, each new attempt to open the stream included, with
	// the context of that request; it must return when that ends. It may be called concurrently.
	// [StaticToken] returns one that is always the same. Default: nil, no token.
	//
	// The client logs no token and puts none in an error. It does log the function's own errors.
	Token func(ctx context.Context) (string, error)

	// LastEventID is the [Event.ID] to take up after; empty starts with what
	// comes.
	LastEventID string

	// HTTPClient sends the requests; [http.DefaultClient] by default. Its
	// Timeout would cut every stream at that age: leave it zero.
	HTTPClient *http.Client

	// Logger hears why a stream ended and when it is tried again;
	// [slog.Default] by default.
	Logger *slog.Logger
}

// Client follows one room and posts to it. It is safe for concurrent use.
type Client struct {
	config Config
	base   *url.URL
}

// New returns a client. It sends nothing. The error is a [*ConfigError].
func New(c Config) (*Client, error) {
	base, err := url.Parse(c.URL)
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" || base.RawQuery+base.Fragment != "" {
		return nil, &ConfigError{"URL", "must be http://host or https://host, and a path at most"}
	}
	if strings.ContainsFunc(c.LastEventID, unicode.IsControl) {
		return nil, &ConfigError{"LastEventID", "must not hold a control character"}
	}
	c.HTTPClient = cmp.Or(c.HTTPClient, http.DefaultClient)
	c.Logger = cmp.Or(c.Logger, slog.Default())
	return &Client{c, base}, nil
}

// Send posts a message to the room and returns its id, which is the [Event.ID]
// of the event that tells it. It tries once.
//
// After a lost answer or a 503 the message may have been taken all the same: sent
// again within two minutes with the same ID it is the same message. The error
// is a [*Problem] if the server said no, and wraps that of [Config.Token].
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
	resp, err := c.bring(ctx, http.MethodPost, "messages", body, http.StatusAccepted)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var taken struct{ ID string }
	err = json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&taken)
	return taken.ID, err
}

// SetState replaces the info of the token's user in the room, any JSON of up to
// 1 KiB, nil being null, until the user has left it. It tries once. The error is a [*Problem] if
// the server said no; its Status is 409 if the user has no stream of the room
// open. It wraps that of [Config.Token].
func (c *Client) SetState(ctx context.Context, info json.RawMessage) (err error) {
	defer c.wrap(&err, "set state in")
	body, err := json.Marshal(info)
	if err != nil {
		return err
	}
	resp, err := c.bring(ctx, http.MethodPut, "state", body, http.StatusNoContent)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// bring sends a body of JSON, and returns the answer if it has that status.
func (c *Client) bring(ctx context.Context, method, path string, body []byte, status int) (*http.Response, error) {
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

// request makes a request about the room, for path below the base URL.
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

// wrap says of an error which verb it ended, and on which room.
func (c *Client) wrap(err *error, verb string) {
	if *err != nil {
		*err = fmt.Errorf("client: %s room %q: %w", verb, cmp.Or(c.config.Room, "lobby"), *err)
	}
}

// token returns the token for one request, empty for none. Its error does not contain a token.
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
