package client

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
)

// maxPage is the maximum size of a page of the history, in bytes. The server ends a page at about
// 1 MiB, but the page has at least one message.
const maxPage = 16 << 20

// MessagePage is a page of the history of a room.
type MessagePage struct {
	// Messages are the messages, the newest last, or nil if there are none. ID is the position of
	// each, and Event its event name.
	Messages []Message

	// Next is the before parameter of the page with the messages before this one. It is empty if
	// there are no older messages.
	Next string

	// LastEventID is the end of the room's messages. A client with this [Config.LastEventID]
	// receives each message after the newest page.
	LastEventID string
}

// History returns a page of the room's history: the newest messages before the message with the ID
// before, or the newest of all if before is empty. limit is the maximum number of messages, 1 to
// 1,000; 0 selects the default of the server, 50. The user need not be in the room. History does
// not retry.
//
// If the server rejects the request, the error wraps a [*Problem]. If [Config.Token] fails, the
// error wraps that error.
func (c *Client) History(ctx context.Context, before string, limit int) (page MessagePage, err error) {
	defer c.wrap(&err, "read history of")
	token, err := c.token(ctx)
	if err != nil {
		return MessagePage{}, err
	}
	req, err := c.request(ctx, http.MethodGet, "messages", token, nil)
	if err != nil {
		return MessagePage{}, err
	}
	query := req.URL.Query()
	if limit != 0 {
		query.Set("limit", strconv.Itoa(limit))
	}
	if before != "" {
		query.Set("before", before)
	}
	req.URL.RawQuery = query.Encode()
	resp, err := c.config.HTTPClient.Do(req)
	if err != nil {
		return MessagePage{}, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return MessagePage{}, problem(resp)
	}
	return decodePage(io.LimitReader(resp.Body, maxPage))
}

func decodePage(r io.Reader) (MessagePage, error) {
	var body struct {
		Messages []struct {
			Message
			Event string `json:"event"`
		} `json:"messages"`
		Next        string `json:"next"`
		LastEventID string `json:"last_event_id"`
	}
	if err := json.NewDecoder(r).Decode(&body); err != nil {
		return MessagePage{}, err
	}
	page := MessagePage{Next: body.Next, LastEventID: body.LastEventID}
	for _, m := range body.Messages {
		m.Message.Event = m.Event
		page.Messages = append(page.Messages, m.Message)
	}
	return page, nil
}
