// Package client is the Go client of a presence server. It follows the events of a room and posts
// messages to the room. It imports no other package of this module, so that a program that only
// follows a room links no server code.
//
// Like a browser's EventSource, the client resumes from the id of the last event. It adds three
// guarantees:
//
//   - Before it reconnects, it waits for the time in the stream's retry: field, and longer after
//     each failure. It adds a random delay, so that clients do not reconnect at the same time.
//   - It detects when the server has stopped sending.
//   - It stops if reconnecting would not help, and returns an error that states the reason.
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

// Config contains the settings of a [Client]. The zero value of a field selects its default. Only
// URL is required.
type Config struct {
	// URL is the base URL of the server, including its path, such as https://example.com/presence.
	// Its scheme is http or https, and it has no query. Required.
	URL string

	// Room is the room to follow and to post to. Default: empty, which selects the default room of
	// the server, lobby.
	Room string

	// Token returns the token for a request, which is sent in the Authorization header. If the
	// token is empty, no header is sent. The client calls Token for each request and for each
	// attempt to open the stream, and passes the context of that request. Token must return when
	// this context ends. It may be called concurrently. [StaticToken] returns a function for a
	// fixed token. Default: nil, which sends no token.
	//
	// The client neither logs a token nor includes one in an error. It does log the errors of this
	// function.
	Token func(ctx context.Context) (string, error)

	// LastEventID is the [Event.ID] after which to resume. Default: empty, which replays no earlier
	// messages.
	LastEventID string

	// HTTPClient sends the requests. Its Timeout must be zero, because it would end every stream at
	// that age. Default: [http.DefaultClient].
	HTTPClient *http.Client

	// Logger logs why a stream has ended and how long the client waits before it reconnects.
	// Default: [slog.Default].
	Logger *slog.Logger
}

// Client follows one room and posts messages to it. It is safe for concurrent use.
type Client struct {
	config Config
	base   *url.URL
}

// New returns a client and sends no request. Any error is a [*ConfigError].
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
// If the response is lost or has status 503, the server may still have accepted the message. If
// Send is called again within two minutes with the same [Message.ID], the server accepts the
// message only once. If the server rejects the request, the error wraps a [*Problem]. If
// [Config.Token] fails, the error wraps that error.
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
	var accepted struct{ ID string }
	err = json.NewDecoder(io.LimitReader(resp.Body, maxResponse)).Decode(&accepted)
	return accepted.ID, err
}

// SetState replaces the info of the token's user in the room until the user leaves the room. info
// is any JSON value of up to 1 KiB; nil means null. SetState does not retry.
//
// If the server rejects the request, the error wraps a [*Problem]. Its Status is 409 if the user
// has no open stream in the room. If [Config.Token] fails, the error wraps that error.
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

// sendJSON sends a JSON body. It returns the response if it has the given status, and a [*Problem]
// otherwise.
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

// request returns a request for the client's room. path is relative to the base URL.
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

// wrap adds the failed operation and the room name to an error.
func (c *Client) wrap(err *error, verb string) {
	if *err != nil {
		*err = fmt.Errorf("client: %s room %q: %w", verb, cmp.Or(c.config.Room, "lobby"), *err)
	}
}

// token returns the token for one request, or "" if there is none. Its error does not contain a
// token.
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
