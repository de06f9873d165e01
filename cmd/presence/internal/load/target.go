package load

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// idempotent reports whether a repeated request with the same key publishes its message once.
func (t Target) idempotent() bool { return t == Presence || t == Centrifugo }

// counts reports whether the server sends the number of clients to each client that joins.
func (t Target) counts() bool { return t == Presence }

// announces reports whether a stream is open only with its first event, and not yet with the
// response header.
func (t Target) announces() bool { return t == Presence || t == Centrifugo }

// refusal returns the reason why a response did not accept a message; empty if it did. body is its
// beginning.
func (t Target) refusal(status int, body []byte) string {
	switch {
	case status/100 != 2:
		return fmt.Sprintf("status %d", status)
	case t == Centrifugo && bytes.HasPrefix(body, []byte(`{"error":`)):
		var answer struct{ Error struct{ Message string } }
		_ = json.Unmarshal(body, &answer) // without a message, the reason is shorter
		return "error " + answer.Error.Message
	}
	return ""
}

// streamURL returns the URL of a room's stream.
func (t Target) streamURL(c *Config, room, token string) string {
	base := strings.TrimSuffix(c.URL, "/")
	switch {
	case c.StreamURL != "":
		return strings.ReplaceAll(c.StreamURL, "{room}", url.QueryEscape(room))
	case t == Mercure:
		return base + "/.well-known/mercure?topic=" + url.QueryEscape(room)
	case t == Centrifugo:
		connect := struct {
			Token string              `json:"token,omitempty"`
			Subs  map[string]struct{} `json:"subs"`
		}{token, map[string]struct{}{room: {}}}
		text, _ := json.Marshal(connect) // strings only
		return base + "/connection/uni_sse?cf_connect=" + url.QueryEscape(string(text))
	case t == Nchan:
		return base + "/sub/" + url.PathEscape(room)
	}
	return base + "/events?room=" + url.QueryEscape(room)
}

// streamRequest returns the bytes of the request that opens a stream. id is the last event id, or
// empty.
func (t Target) streamRequest(c *Config, room, token string, id []byte) []byte {
	u, _ := url.Parse(t.streamURL(c, room, token)) // parsed by check
	b := fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\nCache-Control: no-cache\r\nUser-Agent: presence-load\r\n", u.RequestURI(), u.Host)
	if token != "" && t != Centrifugo { // whose token is in the URL
		b = fmt.Appendf(b, "Authorization: Bearer %s\r\n", token)
	}
	if len(id) > 0 {
		b = fmt.Appendf(b, "Last-Event-ID: %s\r\n", id)
	}
	return append(b, "\r\n"...)
}

// publishRequest returns the request that sends a text to a room. key is the idempotency key.
func (t Target) publishRequest(c *Config, room, token, text, key string) (*http.Request, error) {
	base := strings.TrimSuffix(c.URL, "/")
	address, kind, body := c.PublishURL, "text/plain", []byte(text)
	switch t {
	case Presence:
		address, kind = either(address, base+"/messages?room={room}"), "application/json"
		body = fmt.Appendf(nil, `{"data":%q,"id":%q}`, text, key)
	case Mercure:
		address, kind = either(address, base+"/.well-known/mercure"), "application/x-www-form-urlencoded"
		body = []byte(url.Values{"topic": {room}, "data": {text}}.Encode())
	case Centrifugo:
		address, kind = either(address, base+"/api/publish"), "application/json"
		body = fmt.Appendf(nil, `{"channel":%q,"data":%q,"idempotency_key":%q}`, room, text, key)
	case Nchan:
		address = either(address, base+"/pub/{room}")
	}
	address = strings.ReplaceAll(address, "{room}", url.QueryEscape(room))
	r, err := http.NewRequest(http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", kind)
	switch {
	case token == "":
	case t == Centrifugo:
		r.Header.Set("X-API-Key", token)
	default:
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return r, nil
}

func either(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// meaning is the effect of an event on a client.
type meaning struct {
	kind   meaningKind
	count  int    // userCount; -1 if the event has only a part of the presence
	reason string // goodbye
}

type meaningKind int8

const (
	other     meaningKind = iota
	position              // the position from which the live stream follows
	userCount             // the number of clients in the room
	reset                 // messages are lost to this client
	goodbye               // the server ends the stream
)

// meaning returns the meaning of an event. data may be cut off.
func (t Target) meaning(event, data []byte) meaning {
	switch t {
	case Presence:
		return presenceMeaning(event, data)
	case Centrifugo:
		return centrifugoMeaning(data)
	}
	return meaning{}
}

func presenceMeaning(event, data []byte) meaning {
	switch string(event) {
	case "sync":
		return meaning{kind: position}
	case "user count":
		if n, err := strconv.Atoi(string(data)); err == nil {
			return meaning{kind: userCount, count: n}
		}
	case "reset":
		return meaning{kind: reset}
	case "goodbye":
		var body struct{ Reason string }
		_ = json.Unmarshal(data, &body) // without a reason, the text is shorter
		return meaning{kind: goodbye, reason: "goodbye " + body.Reason}
	}
	return meaning{}
}

// centrifugoMeaning returns the meaning of a push. Its join events come from the members of the
// room, with this client as the first one, so the first join is the first presence that the client
// has.
func centrifugoMeaning(data []byte) meaning {
	switch {
	case bytes.HasPrefix(data, []byte(`{"connect":`)):
		return meaning{kind: position}
	case bytes.HasPrefix(data, []byte(`{"disconnect":`)):
		var push struct{ Disconnect struct{ Reason string } }
		_ = json.Unmarshal(data, &push) // without a reason, the text is shorter
		return meaning{kind: goodbye, reason: "disconnect " + push.Disconnect.Reason}
	case bytes.HasPrefix(data, []byte(`{"channel":`)) && bytes.Contains(data, []byte(`"join":{`)):
		return meaning{kind: userCount, count: -1}
	}
	return meaning{}
}
